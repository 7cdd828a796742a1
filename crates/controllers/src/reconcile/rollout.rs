//! How many pods of which template: the arithmetic of a rollout.

use crate::record::Strategy;
use std::cmp::Reverse;

/// A ReplicaSet, as a rollout sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// `spec.replicas`.
    pub(crate) replicas: u32,
    /// Pods of it that are available.
    pub(crate) available: u32,
    /// Pods of it that are not gone yet.
    pub(crate) present: u32,
}

impl Size {
    /// Pods that are available and will stay: a set that shrinks may still have more.
    fn lasting(&self) -> u32 {
        self.available.min(self.replicas)
    }
}

/// The bounds within which a rollout moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Never more pods than this.
    pub(crate) most: u32,
    /// Never fewer available than this by our doing.
    pub(crate) least: u32,
}

impl Bounds {
    pub(crate) fn of(strategy: Strategy, replicas: u32) -> Self {
        let Strategy::Rolling { surge, unavailable } = strategy else {
            return Bounds { most: replicas, least: 0 };
        };
        let surge = surge.rounded_up(replicas);
        let unavailable = unavailable.rounded_down(replicas).min(replicas);
        // With neither there would be no way forward.
        let unavailable = if surge == 0 { unavailable.max(1).min(replicas) } else { unavailable };
        Bounds { most: replicas.saturating_add(surge), least: replicas - unavailable }
    }
}

/// A ReplicaSet with pods, as scaling sees it while a rollout is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    /// `spec.replicas`.
    pub(crate) replicas: u32,
    /// What all sets together could have when this one was sized.
    pub(crate) most: u32,
}

impl Share {
    /// How many more it has of another number that all can have, if it keeps its part; half a pod is rounded up.
    fn growth(self, most: u32) -> i64 {
        let (replicas, then) = (i64::from(self.replicas), i64::from(self.most));
        match (most, then) {
            (0, _) => -replicas,
            (_, 0) => 0,
            _ => (2 * replicas * i64::from(most) + then) / (2 * then) - replicas,
        }
    }
}

/// The sizes of the sets, given from the oldest to the newest, when another number of pods is wanted: each keeps its
/// part, the largest gets what rounding leaves; of several of one size the newest grows and the oldest shrinks first.
pub(crate) fn spread(strategy: Strategy, wanted: u32, shares: &[Share]) -> Vec<u32> {
    let most = if wanted == 0 { 0 } else { Bounds::of(strategy, wanted).most };
    let sum: i64 = shares.iter().map(|share| i64::from(share.replicas)).sum();
    let missing = i64::from(most) - sum;
    let mut order: Vec<_> = (0..shares.len()).collect();
    if missing > 0 {
        order.reverse();
    }
    order.sort_by_key(|index| Reverse(shares[*index].replicas));
    let mut sizes: Vec<_> = shares.iter().map(|share| i64::from(share.replicas)).collect();
    let mut given = 0;
    for index in &order {
        let (growth, left) = (shares[*index].growth(most), missing - given);
        let part = match left {
            0 => 0,
            1.. => growth.min(left),
            _ => growth.max(left),
        };
        sizes[*index] += part;
        given += part;
    }
    if let Some(largest) = order.first() {
        sizes[*largest] += missing - given;
    }
    sizes.into_iter().map(|size| u32::try_from(size.max(0)).unwrap_or(u32::MAX)).collect()
}

/// The next sizes of the new set and the old ones (in their order, oldest first).
pub(crate) fn step(strategy: Strategy, wanted: u32, new: Size, old: &[Size]) -> (u32, Vec<u32>) {
    match strategy {
        Strategy::Recreate => recreate(wanted, new, old),
        Strategy::Rolling { .. } => roll(Bounds::of(strategy, wanted), wanted, new, old),
    }
}

fn recreate(wanted: u32, new: Size, old: &[Size]) -> (u32, Vec<u32>) {
    let gone = old.iter().all(|set| set.present == 0);
    // Growing waits for the old ones' end; shrinking does not.
    let new = if gone { wanted } else { new.replicas.min(wanted) };
    (new, vec![0; old.len()])
}

fn roll(bounds: Bounds, wanted: u32, new: Size, old: &[Size]) -> (u32, Vec<u32>) {
    let total: u32 = old.iter().map(|set| set.replicas).sum::<u32>() + new.replicas;
    let room = bounds.most.saturating_sub(total);
    let grown = new.replicas.min(wanted) + wanted.saturating_sub(new.replicas).min(room);

    let lasting = Size { replicas: grown, ..new }.lasting();
    let sum = |of: fn(&Size) -> u32| old.iter().map(of).sum::<u32>() + lasting;
    // Unavailable pods may be about to become available again: they are spared like the others.
    let mut removable = sum(|set| set.replicas).saturating_sub(bounds.least);
    let mut surplus = sum(Size::lasting).saturating_sub(bounds.least);
    let mut sizes: Vec<u32> = old.iter().map(|set| set.replicas).collect();
    for (size, set) in sizes.iter_mut().zip(old) {
        let unavailable = removable.min(set.replicas - set.lasting());
        *size -= unavailable;
        removable -= unavailable;
    }
    for (size, set) in sizes.iter_mut().zip(old) {
        let available = removable.min(surplus).min(set.lasting()).min(*size);
        *size -= available;
        removable -= available;
        surplus -= available;
    }
    (grown, sizes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Amount;
    use proptest::prelude::{Just, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
    use proptest::strategy::Strategy as Generator;

    fn strategy() -> impl Generator<Value = Strategy> {
        let amount = || {
            prop_oneof![(0u32..5).prop_map(Amount::Count), (0u32..=100).prop_map(Amount::Percent)]
        };
        prop_oneof![
            1 => Just(Strategy::Recreate),
            4 => (amount(), amount())
                .prop_map(|(surge, unavailable)| Strategy::Rolling { surge, unavailable }),
        ]
    }

    /// A set in a simulated cluster.
    #[derive(Debug, Clone, Default)]
    struct Set {
        replicas: u32,
        ready: u32,
        unready: u32,
    }

    impl Set {
        fn size(&self) -> Size {
            let present = self.ready + self.unready;
            Size { replicas: self.replicas, available: self.ready, present }
        }

        /// What the ReplicaSet controller does: it deletes unready pods first.
        fn settle(&mut self) {
            let present = self.ready + self.unready;
            self.unready += self.replicas.saturating_sub(present);
            let excess = present.saturating_sub(self.replicas);
            let unready = excess.min(self.unready);
            self.unready -= unready;
            self.ready -= excess - unready;
        }
    }

    fn scale(strategy: Strategy, wanted: u32, sets: &mut [Set]) {
        let (new, old) = sets.split_last_mut().unwrap();
        let sizes: Vec<_> = old.iter().map(Set::size).collect();
        let (grown, shrunk) = step(strategy, wanted, new.size(), &sizes);
        new.replicas = grown;
        for (set, replicas) in old.iter_mut().zip(shrunk) {
            assert!(replicas <= set.replicas, "an old set never grows");
            set.replicas = replicas;
        }
    }

    proptest! {
        /// Whatever order the controllers, kubelets and new templates come in: what is available never falls below
        /// the bound by scaling, there are never more pods than allowed, and it ends.
        #[test]
        fn rollouts_stay_in_bounds_and_end(
            strategy in strategy(),
            wanted in 0u32..12,
            events in prop::collection::vec((0u8..4, 0usize..6), 0..80),
        ) {
            let bounds = Bounds::of(strategy, wanted);
            let rolling = matches!(strategy, Strategy::Rolling { .. });
            let mut sets = vec![Set { replicas: wanted, ready: wanted, unready: 0 }, Set::default()];
            for (event, index) in events {
                let available: u32 = sets.iter().map(|set| set.ready).sum();
                let index = index % sets.len();
                match event {
                    0 => scale(strategy, wanted, &mut sets),
                    1 => sets[index].settle(),
                    2 if sets[index].unready > 0 => {
                        sets[index].unready -= 1;
                        sets[index].ready += 1;
                    }
                    3 if sets.len() < 5 => sets.push(Set::default()),
                    _ => {}
                }
                let left: u32 = sets.iter().map(|set| set.ready).sum();
                prop_assert!(!rolling || left >= bounds.least.min(available), "{bounds:?} {sets:?}");
                let pods: u32 = sets.iter().map(|set| set.replicas).sum();
                prop_assert!(pods <= bounds.most, "{bounds:?} {sets:?}");
            }
            for _ in 0..200 {
                scale(strategy, wanted, &mut sets);
                for set in &mut sets {
                    set.settle();
                    set.ready += std::mem::take(&mut set.unready);
                }
            }
            let (new, old) = sets.split_last().unwrap();
            prop_assert_eq!((new.replicas, new.ready), (wanted, wanted));
            prop_assert!(old.iter().all(|set| set.replicas == 0 && set.ready == 0));
        }
    }

    /// Numbers of the Kubernetes documentation first: 10 pods with 3 more, a rollout that hangs, scaled to 15.
    #[test]
    fn scaling_keeps_the_parts() {
        let rolling = |surge| Strategy::Rolling { surge, unavailable: Amount::Count(2) };
        let three = rolling(Amount::Count(3));
        let share = |(replicas, most)| Share { replicas, most };
        let rows = [
            (three, 15, vec![(8, 13), (5, 13)], vec![11, 7]),
            // Of equal ones the newest grows, the oldest shrinks.
            (three, 12, vec![(5, 10), (5, 10)], vec![7, 8]),
            (three, 4, vec![(5, 10), (5, 10)], vec![3, 4]),
            (three, 0, vec![(8, 13), (5, 13)], vec![0, 0]),
            // Nobody knows what they were sized for.
            (three, 12, vec![(8, 0), (5, 0)], vec![10, 5]),
            // Already as many as there may be.
            (three, 10, vec![(8, 20), (5, 20)], vec![8, 5]),
            (rolling(Amount::Percent(25)), 20, vec![(3, 13), (4, 13), (6, 13)], vec![5, 8, 12]),
            (rolling(Amount::Count(0)), 1, vec![(2, 4), (1, 4), (1, 4)], vec![1, 0, 0]),
        ];
        for (strategy, wanted, shares, expected) in rows {
            let shares: Vec<_> = shares.into_iter().map(share).collect();
            assert_eq!(spread(strategy, wanted, &shares), expected, "{wanted} {shares:?}");
        }
    }

    proptest! {
        #[test]
        fn scaling_gives_exactly_what_there_may_be(
            strategy in strategy(),
            wanted in 0u32..40,
            shares in prop::collection::vec((1u32..20, 0u32..60), 1..5),
        ) {
            let shares: Vec<_> =
                shares.into_iter().map(|(replicas, most)| Share { replicas, most }).collect();
            let sizes = spread(strategy, wanted, &shares);
            let most = if wanted == 0 { 0 } else { Bounds::of(strategy, wanted).most };
            let sum: u32 = sizes.iter().sum();
            prop_assert!(sum == most || sizes.contains(&0), "{sizes:?} of {most}");
        }
    }

    #[test]
    fn bounds() {
        let quarter =
            Strategy::Rolling { surge: Amount::Percent(25), unavailable: Amount::Percent(25) };
        let none = Strategy::Rolling { surge: Amount::Count(0), unavailable: Amount::Count(0) };
        let rows = [
            (quarter, 3, 4, 3),
            (quarter, 4, 5, 3),
            (quarter, 10, 13, 8),
            (quarter, 0, 0, 0),
            (none, 3, 3, 2),
            (Strategy::Recreate, 3, 3, 0),
        ];
        for (strategy, replicas, most, least) in rows {
            assert_eq!(Bounds::of(strategy, replicas), Bounds { most, least }, "{replicas}");
        }
    }
}
