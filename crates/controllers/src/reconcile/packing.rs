//! Which endpoint goes into which slice.
//!
//! Every slice written is an event for every node, so: what can stay where it is stays, what is written anyway is
//! filled first, and nothing is moved for the sake of order.

use crate::record::{Endpoint, Family, Port, Slice};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Endpoints that may share a slice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Group {
    pub(crate) family: Family,
    pub(crate) ports: Vec<Port>,
}

/// What becomes of the slices of a Service.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Packing {
    /// The slice as it should be and, where that is a change, as it was.
    pub(crate) keep: Vec<(Option<Slice>, Slice)>,
    pub(crate) create: Vec<(Group, Vec<Endpoint>)>,
    pub(crate) delete: Vec<Slice>,
}

/// Packs the wanted endpoints, at most `most` in a slice. A wanted group without endpoints means: one empty slice of
/// that family, with whatever ports, so that consumers see that the Service has none.
pub(crate) fn pack(
    wanted: BTreeMap<Group, Vec<Endpoint>>,
    slices: Vec<Slice>,
    most: usize,
) -> Packing {
    let mut packing = Packing::default();
    let mut remaining: BTreeMap<_, _> =
        wanted.into_iter().map(|(group, endpoints)| (group, Wanted::new(endpoints))).collect();
    let mut open = BTreeMap::<Group, Vec<Open>>::new();
    let mut spare = Vec::new();
    for slice in slices {
        let group = Group { family: slice.family, ports: slice.ports.clone() };
        match remaining.get_mut(&group).map(|wanted| Open::retain(&slice, wanted, most)) {
            Some(kept) if !kept.endpoints.is_empty() => open.entry(group).or_default().push(kept),
            _ => spare.push(slice),
        }
    }
    for (group, wanted) in remaining {
        let open = open.remove(&group).unwrap_or_default();
        let has_spare = spare.iter().any(|slice| slice.family == group.family);
        let placed = place(wanted, open, most, has_spare);
        packing.keep.extend(placed.open.into_iter().map(Open::close));
        if placed.full.is_empty() && group.ports.is_empty() && placed.wants_empty {
            packing.keep_empty(group, &mut spare);
        } else {
            placed.full.into_iter().for_each(|full| packing.fill(&group, full, &mut spare));
        }
    }
    packing.delete.extend(spare);
    packing
}

impl Packing {
    /// Puts endpoints into a slice of their own: one that lost all of its, else a new one.
    fn fill(&mut self, group: &Group, endpoints: Vec<Endpoint>, spare: &mut Vec<Slice>) {
        match take_spare(group.family, spare) {
            Some(old) => {
                let new = Slice { ports: group.ports.clone(), endpoints, ..old.clone() };
                self.keep.push((Some(old), new));
            }
            None => self.create.push((group.clone(), endpoints)),
        }
    }

    fn keep_empty(&mut self, group: Group, spare: &mut Vec<Slice>) {
        match take_spare(group.family, spare) {
            Some(old) => {
                let new = Slice { endpoints: Vec::new(), ..old.clone() };
                self.keep.push(((old != new).then_some(old), new));
            }
            None => self.create.push((group, Vec::new())),
        }
    }
}

/// `addressType` cannot change, everything else can. Of several the one that is empty already.
fn take_spare(family: Family, spare: &mut Vec<Slice>) -> Option<Slice> {
    let of_family = spare.iter().enumerate().filter(|(_, slice)| slice.family == family);
    let (position, _) = of_family.min_by_key(|(_, slice)| slice.endpoints.len())?;
    Some(spare.remove(position))
}

type Identity = (IpAddr, Option<String>);

fn identity(endpoint: &Endpoint) -> Identity {
    (endpoint.address, endpoint.target.as_ref().map(|target| target.uid.clone()))
}

/// Endpoints of a group that have no slice yet, in the order of their pods' names.
struct Wanted {
    was_empty: bool,
    endpoints: BTreeMap<Identity, Endpoint>,
}

impl Wanted {
    fn new(endpoints: Vec<Endpoint>) -> Self {
        let was_empty = endpoints.is_empty();
        let endpoints = endpoints.into_iter().map(|endpoint| (identity(&endpoint), endpoint));
        Wanted { was_empty, endpoints: endpoints.collect() }
    }
}

/// A slice of a group, while it is packed.
struct Open {
    old: Slice,
    endpoints: Vec<Endpoint>,
    changed: bool,
}

impl Open {
    /// Keeps of the slice what is still wanted and nowhere else yet.
    fn retain(slice: &Slice, wanted: &mut Wanted, most: usize) -> Self {
        let kept = slice.endpoints.iter();
        let kept = kept.filter_map(|endpoint| wanted.endpoints.remove(&identity(endpoint)));
        let mut endpoints: Vec<_> = kept.collect();
        // The limit may have been lowered since.
        for excess in endpoints.split_off(endpoints.len().min(most)) {
            wanted.endpoints.insert(identity(&excess), excess);
        }
        let changed = endpoints != slice.endpoints;
        Open { old: slice.clone(), endpoints, changed }
    }

    fn fill(&mut self, endpoints: &mut Vec<Endpoint>, most: usize) {
        let room = most.saturating_sub(self.endpoints.len()).min(endpoints.len());
        if room > 0 {
            self.endpoints.extend(endpoints.drain(..room));
            self.changed = true;
        }
    }

    fn close(self) -> (Option<Slice>, Slice) {
        let new = Slice { endpoints: self.endpoints, ..self.old.clone() };
        (self.changed.then_some(self.old), new)
    }
}

struct Placed {
    open: Vec<Open>,
    /// Contents of further slices.
    full: Vec<Vec<Endpoint>>,
    wants_empty: bool,
}

/// A spare slice would cost a write to delete, so it is used before one that needs no write.
fn place(wanted: Wanted, mut open: Vec<Open>, most: usize, has_spare: bool) -> Placed {
    let mut left: Vec<_> = wanted.endpoints.into_values().collect();
    left.sort_by(|a, b| (&a.target, a.address).cmp(&(&b.target, b.address)));
    // Slices that are written anyway, the fullest first: the others stay as empty as they are.
    let mut touched: Vec<_> = open.iter_mut().filter(|slice| slice.changed).collect();
    touched.sort_by_key(|slice| std::cmp::Reverse(slice.endpoints.len()));
    for slice in touched {
        slice.fill(&mut left, most);
    }
    let mut full = Vec::new();
    while left.len() >= most {
        full.push(left.drain(..most).collect());
    }
    if !left.is_empty() {
        match best_fit(&mut open, left.len(), most).filter(|_| !has_spare || !full.is_empty()) {
            Some(slice) => slice.fill(&mut left, most),
            None => full.push(left),
        }
    }
    Placed { open, full, wants_empty: wanted.was_empty }
}

/// The fullest slice that has room for all of them.
fn best_fit(open: &mut [Open], count: usize, most: usize) -> Option<&mut Open> {
    let fitting = open.iter_mut().filter(|slice| slice.endpoints.len() + count <= most);
    fitting.max_by_key(|slice| slice.endpoints.len())
}
