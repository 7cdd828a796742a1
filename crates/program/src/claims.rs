//! A map whose keys several objects may claim.

use model::ObjectKey;
use std::collections::BTreeMap;

/// Values by key, each claimed by an object. Several may claim one key (two Services one node port, two pods
/// one address while it changes hands): the first by name has it, whatever the order of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims<K, V> {
    /// In order of owners. Nearly always it is one, for which a map would keep room for eleven.
    claims: BTreeMap<K, Vec<Claim<V>>>,
    claimed_by: BTreeMap<ObjectKey, Vec<K>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim<V> {
    owner: ObjectKey,
    value: V,
}

/// What one key held before and holds after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced<K, V> {
    pub key: K,
    pub before: Option<V>,
    pub after: Option<V>,
}

impl<K, V> Default for Claims<K, V> {
    fn default() -> Self {
        Claims { claims: BTreeMap::new(), claimed_by: BTreeMap::new() }
    }
}

impl<K: Ord + Copy, V: Clone + PartialEq> Claims<K, V> {
    pub fn get(&self, key: &K) -> Option<&V> {
        winner(self.claims.get(key)?)
    }

    /// In order of keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.claims.iter().filter_map(|(key, claims)| Some((key, winner(claims)?)))
    }

    pub fn range(&self, range: impl std::ops::RangeBounds<K>) -> impl Iterator<Item = (&K, &V)> {
        let range = self.claims.range(range);
        range.filter_map(|(key, claims)| Some((key, winner(claims)?)))
    }

    /// The claims that lost, with the one that won.
    pub fn shadowed(&self) -> impl Iterator<Item = (&K, &V, &V)> {
        self.claims.iter().flat_map(|(key, claims)| {
            let won = winner(claims);
            claims.iter().skip(1).filter_map(move |lost| Some((key, &lost.value, won?)))
        })
    }

    /// Replaces all that an object claims and returns what changed by it.
    pub fn replace(&mut self, owner: &ObjectKey, wanted: BTreeMap<K, V>) -> Vec<Replaced<K, V>> {
        let mut touched = self.claimed_by.remove(owner).unwrap_or_default();
        touched.extend(wanted.keys().copied());
        touched.sort_unstable();
        touched.dedup();
        if !wanted.is_empty() {
            self.claimed_by.insert(owner.clone(), wanted.keys().copied().collect());
        }
        let mut wanted = wanted;
        let mut replaced = Vec::new();
        for key in touched {
            let before = self.get(&key).cloned();
            self.claim(key, owner, wanted.remove(&key));
            let after = self.get(&key).cloned();
            if before != after {
                replaced.push(Replaced { key, before, after });
            }
        }
        replaced
    }

    fn claim(&mut self, key: K, owner: &ObjectKey, value: Option<V>) {
        let claims = self.claims.entry(key).or_default();
        let place = claims.binary_search_by(|claim| claim.owner.cmp(owner));
        match (place, value) {
            (Ok(place), Some(value)) => claims[place].value = value,
            (Ok(place), None) => drop(claims.remove(place)),
            (Err(place), Some(value)) => {
                claims.reserve_exact(1);
                claims.insert(place, Claim { owner: owner.clone(), value });
            }
            (Err(_), None) => {}
        }
        if claims.is_empty() {
            self.claims.remove(&key);
        }
    }
}

fn winner<V>(claims: &[Claim<V>]) -> Option<&V> {
    claims.first().map(|claim| &claim.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_by_name_has_it_whatever_the_order() {
        let (a, b) = (ObjectKey::new("default", "a"), ObjectKey::new("default", "b"));
        let mut claims = Claims::default();
        assert_eq!(claims.replace(&b, [(1, "b")].into()).len(), 1);
        assert_eq!(claims.replace(&a, [(1, "a")].into()).len(), 1);
        assert_eq!(claims.get(&1), Some(&"a"));
        assert_eq!(claims.shadowed().collect::<Vec<_>>(), [(&1, &"b", &"a")]);
        assert_eq!(claims.replace(&b, [(1, "b"), (2, "b")].into()).len(), 1);
        let back = Replaced { key: 1, before: Some("a"), after: Some("b") };
        assert_eq!(claims.replace(&a, BTreeMap::new()), [back]);
        claims.replace(&b, BTreeMap::new());
        assert_eq!(claims, Claims::default());
    }
}
