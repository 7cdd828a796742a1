//! Values in DER (X.690), as certificates are made of.

pub(super) const SEQUENCE: u8 = 0x30;
/// Of a certificate: before its serial number.
pub(super) const VERSION: u8 = 0xa0;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BITS: u8 = 0x03;
pub(super) const OCTETS: u8 = 0x04;

/// One value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    /// With tag and length.
    pub(super) whole: &'a [u8],
}

impl<'a> Element<'a> {
    pub(super) fn first(bytes: &'a [u8]) -> Option<Self> {
        Elements { rest: bytes }.next()
    }

    pub(super) fn of(self, tag: u8) -> Option<Self> {
        (self.tag == tag).then_some(self)
    }

    pub(super) fn inner(self) -> Elements<'a> {
        Elements { rest: self.content }
    }

    /// The content of whole octets in a string of bits.
    pub(super) fn bits(self) -> Option<&'a [u8]> {
        self.of(BITS)?.content.split_first().filter(|(unused, _)| **unused == 0).map(|(_, it)| it)
    }
}

pub(super) struct Elements<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let (tag, rest) = self.rest.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match usize::from(*first) {
            short @ ..=0x7f => (short, rest),
            long => {
                let (bytes, rest) = rest.split_at_checked(long & 0x7f)?;
                let fits = bytes.len() <= 4;
                let length = bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                (if fits { length } else { return None }, rest)
            }
        };
        let (content, rest) = rest.split_at_checked(length)?;
        let whole = self.rest.get(..self.rest.len() - rest.len())?;
        self.rest = rest;
        Some(Element { tag: *tag, content, whole })
    }
}

/// A value with this content.
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short @ ..=0x7f) => bytes.push(short),
        _ => {
            let length = content.len().to_be_bytes();
            let digits = length.iter().skip_while(|byte| **byte == 0);
            let count = u8::try_from(digits.clone().count()).unwrap_or(8);
            bytes.push(0x80 | count);
            bytes.extend(digits);
        }
    }
    bytes.extend(content);
    bytes
}

/// A value made of others.
pub(super) fn made_of(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    element(tag, &parts.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(tag in any::<u8>(), content in prop::collection::vec(any::<u8>(), 0..700)) {
            let bytes = [element(tag, &content), vec![1, 2]].concat();
            let read = Element::first(&bytes).unwrap();
            prop_assert_eq!((read.tag, read.content), (tag, &*content));
            prop_assert_eq!(read.whole, &bytes[..bytes.len() - 2]);
        }

        #[test]
        fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _all = Element::first(&bytes).map(|it| it.inner().flat_map(Element::inner).count());
        }
    }
}
