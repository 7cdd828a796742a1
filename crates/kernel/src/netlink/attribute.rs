//! Reading what the kernel sent: messages and attributes, without trusting a single length in them.

/// Octets of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;
/// The two flag bits of an attribute's type (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const KIND_MASK: u16 = 0x3fff;

/// One netlink message: the header's fields and what follows the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub port: u32,
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The payload's fixed part (`struct ifinfomsg` and the like) and the attributes behind it.
    ///
    /// `None` when the payload is shorter than the fixed part.
    pub fn split<const N: usize>(&self) -> Option<(&'a [u8; N], Attributes<'a>)> {
        let (fixed, _) = self.payload.split_first_chunk::<N>()?;
        let rest = self.payload.get(N.next_multiple_of(4)..).unwrap_or_default();
        Some((fixed, Attributes::new(rest)))
    }
}

/// The messages of one datagram. A message that claims more than there is ends the iteration.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    pub fn new(datagram: &'a [u8]) -> Self {
        Messages { rest: datagram }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = usize::try_from(u32_at(self.rest, 0)?).ok()?;
        let whole = self.rest.get(..length)?;
        let message = Message {
            kind: u16_at(whole, 4)?,
            flags: u16_at(whole, 6)?,
            sequence: u32_at(whole, 8)?,
            port: u32_at(whole, 12)?,
            payload: whole.get(HEADER..)?,
        };
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

/// One attribute (`struct nlattr`): its type without flag bits, and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    pub kind: u16,
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    pub fn u8(&self) -> Option<u8> {
        self.value.first().copied()
    }

    pub fn u16(&self) -> Option<u16> {
        u16_at(self.value, 0)
    }

    pub fn u32(&self) -> Option<u32> {
        u32_at(self.value, 0)
    }

    pub fn u64(&self) -> Option<u64> {
        Some(u64::from_ne_bytes(*self.value.first_chunk()?))
    }

    pub fn be16(&self) -> Option<u16> {
        Some(u16::from_be_bytes(*self.value.first_chunk()?))
    }

    pub fn be32(&self) -> Option<u32> {
        Some(u32::from_be_bytes(*self.value.first_chunk()?))
    }

    pub fn be64(&self) -> Option<u64> {
        Some(u64::from_be_bytes(*self.value.first_chunk()?))
    }

    /// Text up to the first NUL, which the kernel may leave out.
    pub fn text(&self) -> Option<&'a str> {
        let end = self.value.iter().position(|octet| *octet == 0).unwrap_or(self.value.len());
        std::str::from_utf8(&self.value[..end]).ok()
    }

    /// The attributes inside this one.
    pub fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.value)
    }
}

/// A run of attributes. One that claims more than there is, or less than its own header, ends the iteration.
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Attributes { rest: bytes }
    }

    /// The first attribute of this type.
    pub fn find(&self, kind: u16) -> Option<Attribute<'a>> {
        Iterator::find(&mut self.clone(), |attribute| attribute.kind == kind)
    }

    /// What is left unread: empty once everything was well formed.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    #[inline]
    fn next(&mut self) -> Option<Attribute<'a>> {
        let length = usize::from(u16_at(self.rest, 0)?);
        let kind = u16_at(self.rest, 2)? & KIND_MASK;
        let value = self.rest.get(4..length)?;
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind, value })
    }
}

#[inline]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::super::Batch;
    use super::*;
    use proptest::prelude::*;

    /// Reads everything there is in every way there is.
    fn walk(attributes: Attributes<'_>, depth: usize) {
        for attribute in attributes {
            let _numbers = (attribute.u8(), attribute.u16(), attribute.u32(), attribute.be64());
            let _text = attribute.text();
            if depth > 0 {
                walk(attribute.nested(), depth - 1);
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_octets_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            walk(Attributes::new(&bytes), 4);
            for message in Messages::new(&bytes) {
                if let Some((_, attributes)) = message.split::<16>() {
                    walk(attributes, 4);
                }
            }
        }

        #[test]
        fn attributes_read_back_as_written(values in proptest::collection::vec(
            (0u16..0x3fff, proptest::collection::vec(any::<u8>(), 0..40)), 0..12)) {
            let mut batch = Batch::default();
            batch.request(42, 0, |body| {
                body.fixed(&[7; 5]);
                body.nest(9, |inner| values.iter().for_each(|(kind, value)| inner.bytes(*kind, value)));
            });
            let message = Messages::new(batch.as_bytes()).next().unwrap();
            let (fixed, attributes) = message.split::<5>().unwrap();
            prop_assert_eq!(fixed, &[7; 5]);
            let read: Vec<_> = attributes.find(9).unwrap().nested().map(|a| (a.kind, a.value.to_vec())).collect();
            prop_assert_eq!(read, values);
        }
    }

    #[test]
    fn lengths_that_lie_end_the_iteration() {
        for bytes in [&[3, 0, 1, 0][..], &[9, 0, 1, 0, 0, 0, 0, 0], &[0, 0, 1, 0], &[4, 0, 1]] {
            assert_eq!(Attributes::new(bytes).next(), None, "{bytes:?}");
        }
        assert_eq!(Messages::new(&[15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).next(), None);
    }
}
