//! Base64 (RFC 4648 §4), written only.

pub(crate) fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4_usize {
            let at = (bits >> (18 - 6 * digit)) & 63;
            let letter = usize::try_from(at).map_or(b'=', |at| DIGITS[at]);
            text.push(char::from(if digit > chunk.len() { b'=' } else { letter }));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digit(letter: u8) -> u32 {
        let digits = (b'A'..=b'Z').chain(b'a'..=b'z').chain(b'0'..=b'9').chain([b'+', b'/']);
        u32::try_from(digits.into_iter().position(|digit| digit == letter).unwrap()).unwrap()
    }

    proptest! {
        #[test]
        fn base64_and_back(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let text = encode(&bytes);
            prop_assert_eq!(text.len() % 4, 0);
            let bare = text.trim_end_matches('=').bytes();
            let bits: Vec<u32> = bare.map(digit).collect();
            let mut back = Vec::new();
            for chunk in bits.chunks(4) {
                let word = chunk.iter().fold(0, |word, digit| word << 6 | digit) << (6 * (4 - chunk.len()));
                back.extend((0..chunk.len() - 1).map(|at| u8::try_from(word >> (16 - 8 * at) & 0xff).unwrap()));
            }
            prop_assert_eq!(back, bytes);
        }
    }
}
