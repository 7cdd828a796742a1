//! Pools spread over numbered slots: for back ends that draw a number and look up who has it.

use crate::Pool;
use model::Scheduler;

/// Slots of consistent hashing; primes, so that every step visits every slot.
const SIZES: [usize; 3] = [251, 1021, 4093];
/// Slots that each unit of weight should get on average, for shares within a few per cent.
const PER_WEIGHT: usize = 20;

/// Which endpoint of a pool each slot belongs to, and how a connection's slot is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots {
    /// By slot number, an index into the pool's endpoints.
    pub endpoints: Vec<usize>,
    pub draw: Draw,
}

/// What decides about the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Draw {
    Random,
    /// A hash of the client's address: a client stays where it is.
    Source,
    /// A hash of the address that it connects to.
    Destination,
}

impl Slots {
    /// `None` as scheduler: at random.
    pub fn of(pool: &Pool, scheduler: Option<Scheduler>) -> Self {
        match scheduler {
            Some(Scheduler::Maglev) => Slots { endpoints: maglev(pool), draw: Draw::Source },
            Some(Scheduler::SourceHash) => {
                Slots { endpoints: in_proportion(pool), draw: Draw::Source }
            }
            Some(Scheduler::DestinationHash) => {
                Slots { endpoints: in_proportion(pool), draw: Draw::Destination }
            }
            _ => Slots { endpoints: in_proportion(pool), draw: Draw::Random },
        }
    }
}

/// As many slots for each endpoint as it has weight, by the greatest common divisor.
fn in_proportion(pool: &Pool) -> Vec<usize> {
    let weights = || pool.endpoints.iter().map(|endpoint| usize::from(endpoint.weight.max(1)));
    let divisor = weights().fold(0, greatest_common_divisor).max(1);
    let slots = weights().enumerate();
    slots.flat_map(|(index, weight)| std::iter::repeat_n(index, weight / divisor)).collect()
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Maglev's table (Eisenbud et al., NSDI 2016, §3.4): each endpoint takes in turn the next free slot of a sequence of
/// its own, so that one that comes or goes moves few of the others' slots.
fn maglev(pool: &Pool) -> Vec<usize> {
    let weights: usize = pool.endpoints.iter().map(|it| usize::from(it.weight.max(1))).sum();
    let wanted = weights * PER_WEIGHT;
    let size = SIZES.into_iter().find(|size| *size >= wanted).unwrap_or(SIZES[SIZES.len() - 1]);
    let mut sequences: Vec<_> = pool.endpoints.iter().map(|it| Sequence::of(it, size)).collect();
    let mut table = vec![None; size];
    let mut free = size;
    while free > 0 {
        for (index, sequence) in sequences.iter_mut().enumerate() {
            let turns = usize::from(pool.endpoints[index].weight.max(1)).min(free);
            for _turn in 0..turns {
                let slot = sequence.find(|slot| table[*slot].is_none());
                let Some(slot) = slot else { break };
                table[slot] = Some(index);
                free -= 1;
            }
        }
    }
    table.into_iter().map(Option::unwrap_or_default).collect()
}

/// The order in which an endpoint asks for slots: from a start of its own, in steps of its own.
struct Sequence {
    next: usize,
    step: usize,
    size: usize,
    left: usize,
}

impl Sequence {
    fn of(endpoint: &crate::Endpoint, size: usize) -> Self {
        let name = endpoint.address().to_string();
        let draw = |salt, below: usize| {
            let hash = fnv1a(name.bytes().chain([salt]));
            usize::try_from(hash % below as u64).unwrap_or_default()
        };
        Sequence { next: draw(0, size), step: 1 + draw(1, size - 1), size, left: size }
    }
}

impl Iterator for Sequence {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let slot = self.next;
        self.next = (slot + self.step) % self.size;
        Some(slot)
    }
}

/// A hash that stays the same over versions and machines (FNV-1a, with a last mix: its low bits are weak).
pub fn fnv1a(octets: impl IntoIterator<Item = u8>) -> u64 {
    let hash = octets.into_iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ mixed >> 33
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Endpoint, Reach};
    use std::collections::BTreeMap;

    fn pool(weights: &[u16]) -> Pool {
        let endpoint =
            |(host, weight): (u8, &u16)| Endpoint::at(([10, 244, 1, host], 80).into(), *weight);
        let endpoints = (1..).zip(weights).map(endpoint).collect();
        Pool { endpoints, reach: Reach::Cluster, terminating: false }
    }

    fn shares(slots: &Slots) -> BTreeMap<usize, usize> {
        let mut shares = BTreeMap::new();
        slots.endpoints.iter().for_each(|index| *shares.entry(*index).or_default() += 1);
        shares
    }

    #[test]
    fn weights_are_proportions() {
        for (weights, slots) in
            [(&[1, 1, 1][..], &[1, 1, 1][..]), (&[4, 4], &[1, 1]), (&[6, 4, 2], &[3, 2, 1])]
        {
            let made = shares(&Slots::of(&pool(weights), None));
            assert_eq!(made.values().copied().collect::<Vec<_>>(), slots, "{weights:?}");
        }
    }

    #[test]
    fn maglev_shares_in_proportion_and_moves_little() {
        let weights = [1, 1, 1, 1, 1, 1, 1, 2];
        let all = Slots::of(&pool(&weights), Some(Scheduler::Maglev));
        assert_eq!((all.endpoints.len(), all.draw), (251, Draw::Source));
        for (index, share) in shares(&all) {
            let fair = 251.0 * f64::from(weights[index]) / 9.0;
            assert!((share as f64 - fair).abs() < 4.0, "{index}: {share} of {fair}");
        }
        let fewer = Slots::of(&pool(&weights[..7]), Some(Scheduler::Maglev));
        let moved = all.endpoints.iter().zip(&fewer.endpoints);
        let moved = moved.filter(|(before, after)| **before != 7 && before != after).count();
        assert!(moved < 251 / 4, "{moved} slots changed hands without need");
    }
}
