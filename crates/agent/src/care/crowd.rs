//! Who has most of the connections, out of any number of them, in little memory (Misra and Gries, 1982). Pure.

use std::collections::HashMap;
use std::net::IpAddr;

/// How many are followed at once: whoever has more than one part in so many of all is among them.
const FOLLOWED: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Crowd {
    counts: HashMap<IpAddr, u64>,
}

impl Crowd {
    pub(super) fn count(&mut self, who: IpAddr) {
        if let Some(count) = self.counts.get_mut(&who) {
            *count += 1;
        } else if self.counts.len() < FOLLOWED {
            self.counts.insert(who, 1);
        } else {
            self.counts.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
    }

    /// Who has most, and at least how many.
    pub(super) fn greatest(&self) -> Option<(IpAddr, u64)> {
        let all = self.counts.iter().map(|(who, count)| (*who, *count));
        all.max_by_key(|(who, count)| (*count, std::cmp::Reverse(*who)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_most_is_found_among_many() {
        let mut crowd = Crowd::default();
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        for round in 0..10_000_u32 {
            crowd.count(address(7));
            crowd.count(address(1000 + round));
        }
        let (who, count) = crowd.greatest().unwrap();
        assert_eq!(who, address(7));
        assert!((9000..=10_000).contains(&count), "{count}");
        assert_eq!(Crowd::default().greatest(), None);
    }
}
