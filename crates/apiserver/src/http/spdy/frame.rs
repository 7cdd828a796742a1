//! Frames of SPDY/3.1 as bytes: <https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/>. Pure.

use bytes::{Buf, Bytes, BytesMut};
use flate2::{Decompress, FlushDecompress};

const CONTROL: u8 = 0x80;
const VERSION: u8 = 3;
const FINAL: u8 = 1;
const HEAD: usize = 8;
/// Headers of one stream, decompressed.
const LARGEST_BLOCK: usize = 64 << 10;
/// Words, one a line, each of which stands with its length before it; then text as it is.
const DICTIONARY: &str = include_str!("dictionary.txt");

/// What the other side says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    Open {
        stream: u32,
        last: bool,
        headers: Vec<(String, String)>,
    },
    Data {
        stream: u32,
        last: bool,
        bytes: Bytes,
    },
    Reset {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    /// The other side opens no more streams.
    Goodbye,
    /// Something that means nothing here.
    Other,
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("a frame is not of SPDY/3.1")]
    Version,
    #[error("a frame is too short for what it is")]
    Short,
    #[error("headers cannot be decompressed")]
    Compression,
}

/// Makes frames of bytes; headers are compressed in one stream over all frames.
pub(super) struct Reader {
    inflate: Decompress,
    buffer: BytesMut,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { inflate: Decompress::new(true), buffer: BytesMut::new() }
    }

    /// Bytes that were received go here.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next frame, if it is there as a whole.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, Fault> {
        let Some(head) = self.buffer.first_chunk::<HEAD>().copied() else { return Ok(None) };
        let [first, second, third, fourth, flags, rest @ ..] = head;
        let length =
            usize::try_from(u32::from_be_bytes([0, rest[0], rest[1], rest[2]])).unwrap_or(0);
        if self.buffer.len() < HEAD + length {
            self.buffer.reserve(HEAD + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(HEAD);
        let body = self.buffer.split_to(length).freeze();
        let last = flags & FINAL != 0;
        if first & CONTROL == 0 {
            let stream = u32::from_be_bytes([first, second, third, fourth]);
            return Ok(Some(Frame::Data { stream, last, bytes: body }));
        }
        if (first & !CONTROL, second) != (0, VERSION) {
            return Err(Fault::Version);
        }
        self.control(u16::from_be_bytes([third, fourth]), last, body).map(Some)
    }

    fn control(&mut self, kind: u16, last: bool, mut body: Bytes) -> Result<Frame, Fault> {
        let number = |body: &mut Bytes| match body.len() {
            0..4 => Err(Fault::Short),
            _ => Ok(body.get_u32() & !(1 << 31)),
        };
        Ok(match kind {
            1 => {
                let (stream, _associated) = (number(&mut body)?, number(&mut body)?);
                // Priority and credential slot.
                let block = body.get(2..).ok_or(Fault::Short)?;
                Frame::Open { stream, last, headers: self.headers(block)? }
            }
            3 => Frame::Reset { stream: number(&mut body)? },
            6 => Frame::Ping { id: u32::from_be_bytes(*body.first_chunk().ok_or(Fault::Short)?) },
            7 => Frame::Goodbye,
            2 | 8 => {
                number(&mut body)?;
                // What follows is compressed against it.
                self.headers(&body)?;
                Frame::Other
            }
            _ => Frame::Other,
        })
    }

    fn headers(&mut self, compressed: &[u8]) -> Result<Vec<(String, String)>, Fault> {
        let plain = self.decompress(compressed)?;
        let mut rest = plain.as_slice();
        let mut take = |length: usize| {
            let (taken, left) = rest.split_at_checked(length).ok_or(Fault::Short)?;
            rest = left;
            Ok(taken)
        };
        let mut headers = Vec::new();
        let number = |bytes: &[u8]| {
            let bytes = bytes.try_into().map_err(|_short| Fault::Short)?;
            usize::try_from(u32::from_be_bytes(bytes)).map_err(|_large| Fault::Short)
        };
        let count = number(take(4)?)?;
        for _ in 0..count {
            let mut text = || -> Result<String, Fault> {
                let length = number(take(4)?)?;
                Ok(String::from_utf8_lossy(take(length)?).into_owned())
            };
            headers.push((text()?, text()?));
        }
        Ok(headers)
    }

    fn decompress(&mut self, compressed: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut plain = Vec::with_capacity(4096);
        let mut rest = compressed;
        loop {
            let before = (self.inflate.total_in(), plain.len());
            match self.inflate.decompress_vec(rest, &mut plain, FlushDecompress::Sync) {
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    let set = self.inflate.set_dictionary(&dictionary());
                    set.map_err(|_refused| Fault::Compression)?;
                }
                Err(_) => return Err(Fault::Compression),
            }
            let read = self.inflate.total_in() - before.0;
            rest = rest.get(usize::try_from(read).unwrap_or(0)..).unwrap_or_default();
            let is_full = plain.len() == plain.capacity();
            if rest.is_empty() && !is_full {
                return Ok(plain);
            }
            if plain.len() > LARGEST_BLOCK || read == 0 && plain.len() == before.1 && !is_full {
                return Err(Fault::Compression);
            }
            plain.reserve(4096);
        }
    }
}

fn dictionary() -> Vec<u8> {
    let (words, text) = DICTIONARY.split_once("\n\n").unwrap_or_default();
    let mut dictionary = Vec::new();
    for word in words.lines() {
        dictionary.extend(u32::try_from(word.len()).unwrap_or(0).to_be_bytes());
        dictionary.extend(word.as_bytes());
    }
    dictionary.extend(text.as_bytes());
    dictionary
}

/// Frames to the other side.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// The stream of compressed headers has begun.
    begun: bool,
}

impl Writer {
    /// A stream is accepted, with no headers. They go as a stored block (RFC 1951 §3.2.4): there is nothing to gain
    /// from compressing four bytes.
    pub(super) fn reply(&mut self, stream: u32) -> Bytes {
        let mut body = stream.to_be_bytes().to_vec();
        if !std::mem::replace(&mut self.begun, true) {
            body.extend([0x78, 0x01]);
        }
        body.extend([0, 4, 0, !4, !0, 0, 0, 0, 0]);
        // An empty block: readers hand out what came before.
        body.extend([0, 0, 0, !0, !0]);
        control(2, 0, &body)
    }

    pub(super) fn data(&self, stream: u32, last: bool, bytes: &[u8]) -> Bytes {
        let mut frame = stream.to_be_bytes().to_vec();
        frame.push(u8::from(last) * FINAL);
        frame.extend(length(bytes));
        frame.extend(bytes);
        frame.into()
    }

    pub(super) fn ping(&self, id: u32) -> Bytes {
        control(6, 0, &id.to_be_bytes())
    }
}

fn control(kind: u16, flags: u8, body: &[u8]) -> Bytes {
    let mut frame = vec![CONTROL, VERSION];
    frame.extend(kind.to_be_bytes());
    frame.push(flags);
    frame.extend(length(body));
    frame.extend(body);
    frame.into()
}

/// 24 bits; pieces are far smaller than that.
fn length(bytes: &[u8]) -> [u8; 3] {
    let [_, length @ ..] = u32::try_from(bytes.len()).unwrap_or(0).to_be_bytes();
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compress, Compression, FlushCompress};
    use proptest::prelude::*;

    fn open(compress: &mut Compress, stream: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut block = u32::try_from(headers.len()).unwrap().to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
            block.extend(text.as_bytes());
        }
        let mut compressed = Vec::with_capacity(block.len() + 100);
        compress.compress_vec(&block, &mut compressed, FlushCompress::Sync).unwrap();
        let body = [&stream.to_be_bytes()[..], &[0; 6], &compressed].concat();
        control(1, 0, &body).to_vec()
    }

    #[test]
    fn the_dictionary_is_the_one_of_the_protocol() {
        let adler = |(a, b): (u32, u32), byte: &u8| {
            let a = (a + u32::from(*byte)) % 65521;
            (a, (b + a) % 65521)
        };
        let (a, b) = dictionary().iter().fold((1, 0), adler);
        assert_eq!((dictionary().len(), b << 16 | a), (1423, 0xe3c6_a7c2));
    }

    #[test]
    fn headers_of_all_streams_are_one_compressed_stream() {
        let mut compress = Compress::new(Compression::best(), true);
        compress.set_dictionary(&dictionary()).unwrap();
        let (one, two) =
            ([("streamtype", "error"), ("port", "80")], [("streamtype", "data"), ("port", "80")]);
        let mut bytes = open(&mut compress, 1, &one);
        bytes.extend(open(&mut compress, 3, &two));
        bytes.extend(Writer::default().data(3, true, b"hello"));
        bytes.extend(Writer::default().ping(7));
        let mut reader = Reader::new();
        let mut frames = Vec::new();
        for byte in bytes {
            reader.buffer().extend_from_slice(&[byte]);
            frames.extend(reader.next().unwrap());
        }
        let own = |headers: &[(&str, &str)]| {
            headers.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        let expected = [
            Frame::Open { stream: 1, last: false, headers: own(&one) },
            Frame::Open { stream: 3, last: false, headers: own(&two) },
            Frame::Data { stream: 3, last: true, bytes: Bytes::from_static(b"hello") },
            Frame::Ping { id: 7 },
        ];
        assert_eq!(frames, expected);
    }

    #[test]
    fn replies_are_compressed_headers_to_others() {
        let mut writer = Writer::default();
        let mut inflate = Decompress::new(true);
        for stream in [1, 3] {
            let mut plain = Vec::with_capacity(100);
            let frame = writer.reply(stream);
            inflate.decompress_vec(&frame[12..], &mut plain, FlushDecompress::Sync).unwrap();
            assert_eq!(plain, [0; 4]);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..80), kind in 0..10_u8) {
            for head in [&[][..], &[CONTROL, VERSION, 0, kind, 0, 0, 0, 40]] {
                let mut reader = Reader::new();
                reader.buffer().extend_from_slice(head);
                reader.buffer().extend_from_slice(&bytes);
                while let Ok(Some(_)) = reader.next() {}
            }
        }
    }
}
