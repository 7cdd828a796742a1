//! Writing requests: many messages back to back in one buffer.

use super::attribute::{HEADER, u16_at};

const NESTED: u16 = 0x8000;
const ACK: u16 = flags(libc::NLM_F_ACK);

/// Requests in the order in which the kernel shall work on them, ready for one send.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where each message begins.
    starts: Vec<usize>,
}

impl Batch {
    /// Adds one request; `more` are flags besides `NLM_F_REQUEST`. `body` writes the fixed part, then the attributes.
    pub fn request(&mut self, kind: u16, more: u16, body: impl FnOnce(&mut Body<'_>)) {
        self.open(kind, more);
        body(&mut Body { bytes: &mut self.bytes });
        self.close();
    }

    /// How many requests there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets the requests and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
    }

    /// Begins a request that [`Batch::close`] ends; in between, [`Batch::body`] writes.
    pub(crate) fn open(&mut self, kind: u16, more: u16) {
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(more | flags(libc::NLM_F_REQUEST)).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
    }

    pub(crate) fn close(&mut self) {
        let start = *self.starts.last().expect("a request was opened");
        let length = u32::try_from(self.bytes.len() - start)
            .expect("a message holds attributes of 64 KiB each");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Takes the last request back.
    pub(crate) fn pop(&mut self) {
        if let Some(start) = self.starts.pop() {
            self.bytes.truncate(start);
        }
    }

    pub(crate) fn body(&mut self) -> Body<'_> {
        Body { bytes: &mut self.bytes }
    }

    /// Where message `index` begins; the end of the buffer for the one past the last.
    pub(crate) fn start(&self, index: usize) -> usize {
        self.starts.get(index).copied().unwrap_or(self.bytes.len())
    }

    /// The octets of message `index`.
    pub(crate) fn message(&self, index: usize) -> &[u8] {
        &self.bytes[self.start(index)..self.start(index + 1)]
    }

    /// Adds copies of messages of another batch.
    pub(crate) fn append(&mut self, other: &Batch, messages: std::ops::Range<usize>) {
        for index in messages {
            self.starts.push(self.bytes.len());
            self.bytes.extend_from_slice(other.message(index));
        }
    }

    /// Asks for an acknowledgement of message `index`: refusals arrive unasked.
    pub(crate) fn acknowledge(&mut self, index: usize) {
        let at = self.start(index) + 6;
        let before = u16_at(&self.bytes, at).expect("every message has a header");
        self.bytes[at..at + 2].copy_from_slice(&(before | ACK).to_ne_bytes());
    }

    /// Numbers the messages from `first` on.
    pub(super) fn number(&mut self, first: u32) {
        let mut sequence = first;
        for start in &self.starts {
            self.bytes[start + 8..start + HEADER - 4].copy_from_slice(&sequence.to_ne_bytes());
            sequence = sequence.wrapping_add(1);
        }
    }
}

/// Where the fixed part and the attributes of one request are written.
#[derive(Debug)]
pub struct Body<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Body<'_> {
    /// The fixed part, padded to four octets.
    pub fn fixed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    #[inline]
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.head(kind, value.len());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    /// Text with a NUL behind it.
    pub fn text(&mut self, kind: u16, value: &str) {
        self.head(kind, value.len() + 1);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    pub fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    pub fn u16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    pub fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    pub fn be16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub fn be64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// An attribute that holds attributes.
    #[inline]
    pub fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Body<'_>)) {
        let start = self.open(kind);
        inner(self);
        self.close(start);
    }

    /// Begins a nested attribute; the return value is for [`Body::close`].
    #[inline]
    pub(crate) fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        start
    }

    #[inline]
    pub(crate) fn close(&mut self, start: usize) {
        let length = attribute_length(self.bytes.len() - start);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// Octets written into the whole buffer so far.
    pub(crate) fn position(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    fn head(&mut self, kind: u16, length: usize) {
        self.bytes.extend_from_slice(&attribute_length(length + 4).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
    }

    #[inline]
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[inline]
fn attribute_length(length: usize) -> u16 {
    u16::try_from(length).expect("callers bound what they put into one attribute to 64 KiB")
}

/// Flags of the message header, which libc spells as C ints.
pub(crate) const fn flags(flags: libc::c_int) -> u16 {
    let [a, b, _, _] = flags.to_le_bytes();
    u16::from_le_bytes([a, b])
}
