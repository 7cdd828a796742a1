//! What a guest says to a console: octets of input, its end, and the size of his terminal.

use bytes::Bytes;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// More in one frame is no frame.
pub(crate) const LONGEST: usize = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// At most [`LONGEST`].
    Input(Bytes),
    /// There will be no more input.
    End,
    /// Columns and rows.
    Size(u16, u16),
}

const INPUT: u8 = 0;
const END: u8 = 1;
const SIZE: u8 = 2;

impl Frame {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Frame::Input(octets) => {
                let octets = &octets[..octets.len().min(LONGEST)];
                let length = u32::try_from(octets.len()).unwrap_or(0).to_be_bytes();
                [&[INPUT], &length[..], octets].concat()
            }
            Frame::End => vec![END],
            Frame::Size(columns, rows) => {
                [&[SIZE], &columns.to_be_bytes()[..], &rows.to_be_bytes()].concat()
            }
        }
    }
}

/// The next one; none: the guest has gone.
pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Frame>> {
    let kind = match from.read_u8().await {
        Ok(kind) => kind,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    match kind {
        INPUT => {
            let length = usize::try_from(from.read_u32().await?).unwrap_or(usize::MAX);
            if length > LONGEST {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut octets = vec![0; length];
            from.read_exact(&mut octets).await?;
            Ok(Some(Frame::Input(octets.into())))
        }
        END => Ok(Some(Frame::End)),
        SIZE => Ok(Some(Frame::Size(from.read_u16().await?, from.read_u16().await?))),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_said_is_heard() {
        let frames = [Frame::Input("abc".into()), Frame::Size(80, 24), Frame::End];
        let octets = frames.iter().flat_map(Frame::encode).collect::<Vec<_>>();
        let mut from = &octets[..];
        for frame in frames {
            assert_eq!(read(&mut from).await.unwrap(), Some(frame));
        }
        assert_eq!(read(&mut from).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_no_frame_is_refused() {
        for octets in
            [&[9_u8][..], &[INPUT, 255, 255, 255, 255], &[INPUT, 0, 0, 0, 2, 1], &[SIZE, 1]]
        {
            assert!(read(&mut &*octets).await.is_err(), "{octets:?}");
        }
    }
}
