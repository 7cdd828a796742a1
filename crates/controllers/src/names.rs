//! The random ends of generated names.

use std::hash::Hasher;

/// No vowels and no 0, 1, 3: nothing that spells a word or is misread. The API server's alphabet.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX: usize = 5;
/// The API server makes no longer names: they may have to serve as labels.
const LONGEST: usize = 63;

/// A source of name suffixes; the same seed gives the same names.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    state: u64,
}

impl Names {
    pub(crate) fn new(seed: u64) -> Self {
        Names { state: seed }
    }

    /// `prefix`, as far as it fits, with five random characters behind it.
    pub(crate) fn name(&mut self, prefix: &str) -> String {
        let fits = prefix.get(..LONGEST - SUFFIX).unwrap_or(prefix);
        format!("{fits}{}", encode(self.next(), SUFFIX))
    }

    /// SplitMix64: every 64-bit value once per period.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A short name for some bytes: the same on every machine and in every run.
pub(crate) fn digest(bytes: &[u8]) -> String {
    const LENGTH: usize = 10;
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    hasher.write(bytes);
    encode(hasher.finish(), LENGTH)
}

fn encode(mut number: u64, length: usize) -> String {
    let digit = |_| {
        let digit = usize::try_from(number % 27).expect("27 fits any usize");
        number /= 27;
        char::from(ALPHABET[digit])
    };
    (0..length).map(digit).collect()
}

/// FNV-1a; std's hasher may change with the compiler.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_drawn_from_the_seed() {
        let draw = |seed| (0..100).scan(Names::new(seed), |n, _| Some(n.name("web-"))).collect();
        let (one, again, other): (Vec<_>, Vec<_>, Vec<_>) = (draw(1), draw(1), draw(2));
        assert_eq!(one, again);
        assert_ne!(one, other);
        assert!(one.iter().all(|name| name.len() == 9), "{one:?}");
    }

    #[test]
    fn names_are_no_longer_than_a_label() {
        for (length, expected) in [(57, 62), (58, 63), (59, 63), (250, 63)] {
            assert_eq!(Names::new(1).name(&"x".repeat(length)).len(), expected, "{length}");
        }
    }

    #[test]
    fn digests_do_not_change_between_releases() {
        assert_eq!(digest(b"web"), digest(b"web"));
        assert_ne!(digest(b"web"), digest(b"wec"));
        assert_eq!(digest(b"").len(), 10);
    }
}
