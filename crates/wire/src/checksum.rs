//! The Internet checksum (RFC 1071).

/// A running one's complement sum.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u32);

impl Sum {
    /// Adds octets as big-endian 16-bit words; an odd last octet is padded with zero.
    #[must_use]
    pub fn with(mut self, bytes: &[u8]) -> Self {
        let mut words = bytes.chunks_exact(2);
        for word in &mut words {
            self = self.with_word(u16::from_be_bytes([word[0], word[1]]));
        }
        if let [last] = words.remainder() {
            self = self.with_word(u16::from_be_bytes([*last, 0]));
        }
        self
    }

    #[must_use]
    pub fn with_word(self, word: u16) -> Self {
        let sum = self.0 + u32::from(word);
        Sum((sum & 0xffff) + (sum >> 16))
    }

    /// The value for the checksum field; zero when summed over a packet whose field is right.
    #[must_use]
    pub fn finish(self) -> u16 {
        let [_, _, high, low] = self.0.to_be_bytes();
        !u16::from_be_bytes([high, low])
    }
}

/// Checksum of `bytes` alone.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    Sum::default().with(bytes).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&bytes), !0xddf2);
    }

    #[test]
    fn pads_an_odd_octet() {
        assert_eq!(checksum(&[0xab]), checksum(&[0xab, 0]));
    }
}
