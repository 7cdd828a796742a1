//! The wire format: <https://protobuf.dev/programming-guides/encoding/>

use super::Fault;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Payload<'a> {
    /// A varint or a fixed number.
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Payload<'a> {
    pub(super) fn number(self) -> Result<u64, Fault> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Bytes(_) => Err(Fault::Broken),
        }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], Fault> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) => Err(Fault::Broken),
        }
    }
}

/// Fields of a message, one after the other.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field's number and what it holds.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Payload<'a>)>, Fault> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let payload = match tag & 7 {
            0 => Payload::Number(self.varint()?),
            1 => Payload::Number(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_too_long| Fault::Broken)?;
                Payload::Bytes(self.take(length)?)
            }
            5 => Payload::Number(u32::from_le_bytes(self.fixed()?).into()),
            _ => return Err(Fault::Broken),
        };
        Ok(Some((tag >> 3, payload)))
    }

    /// All that is left, as packed numbers.
    pub(super) fn varints(&mut self) -> Result<Vec<u64>, Fault> {
        let mut all = Vec::new();
        while !self.rest.is_empty() {
            all.push(self.varint()?);
        }
        Ok(all)
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        let mut number = 0;
        for at in 0..10 {
            let byte = *self.take(1)?.first().ok_or(Fault::Broken)?;
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Fault::Broken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.take(N)?.try_into().map_err(|_too_long| Fault::Broken)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Fault::Broken)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// Appends a field that is a varint.
pub(super) fn put_number(out: &mut Vec<u8>, field: u64, number: u64) {
    put_varint(out, field << 3);
    put_varint(out, number);
}

/// Appends a field of eight octets.
pub(super) fn put_fixed(out: &mut Vec<u8>, field: u64, number: u64) {
    put_varint(out, field << 3 | 1);
    out.extend_from_slice(&number.to_le_bytes());
}

/// Appends a field that is text, octets or a message.
pub(super) fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_tag(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends what stands before text, octets or a message of this length.
pub(super) fn put_tag(out: &mut Vec<u8>, field: u64, length: usize) {
    put_varint(out, field << 3 | 2);
    put_varint(out, length as u64);
}

/// How many octets a varint takes.
pub(super) fn size_of_varint(number: u64) -> usize {
    (u64::BITS - (number | 1).leading_zeros()).div_ceil(7) as usize
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}
