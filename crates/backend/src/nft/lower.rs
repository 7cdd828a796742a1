//! A program, and a change of one, to tables and changes of them, for one family. Pure.

use super::layout::{
    Class, Memory, Remembering, Side, address_key, allowed_key, bare, chain, data_element,
    endpoint_key, frontend_key, octets, set, sets, slot_element, slot_key, table_id,
};
use super::memory::Numbers;
use super::rules::Frame;
use crate::usage::Usage;
use model::Family;
use netstate::TableDelta;
use netstate::nft::{Chain, Element, ElementValue, Key, Table, Verdict};
use program::{
    Action, Binding, Change, Endpoint, Frontend, FrontendKind, Masquerade, Pool, Program, Scope,
    Slots,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The whole table.
pub fn table(program: &Program, family: Family) -> Table {
    let in_use = InUse::of(program, family);
    let mut table = frame(program, &in_use);
    let mut insert = |(set, key, element): (&str, Key, Element)| {
        if let Some(set) = table.sets.get_mut(set) {
            set.elements.insert(key, element);
        }
    };
    for (frontend, binding) in frontends(program, family) {
        elements(frontend, binding, &in_use.numbers).into_iter().for_each(&mut insert);
        service_address(frontend, binding).into_iter().for_each(&mut insert);
    }
    table
}

/// The table without what is there for front ends, but with all that their elements need.
pub(super) fn frame(program: &Program, in_use: &InUse) -> Table {
    let family = in_use.family;
    let frame = in_use.frame(program);
    let mut table = Table { id: table_id(family), sets: sets(family), chains: frame.chains() };
    let mut insert = |set: &str, key| {
        if let Some(set) = table.sets.get_mut(set) {
            set.elements.insert(key, bare());
        }
    };
    let of_family = |address: &&IpAddr| Family::of(**address) == family;
    if let Some(address) = program.primary_address(family) {
        insert(set::NODE_ADDRESSES, address_key(address));
    }
    for address in program.pods.iter().map(|(address, _)| address).filter(of_family) {
        insert(set::HAIRPIN, hairpin_key(*address));
    }
    for endpoint in in_use.local_endpoints.keys() {
        insert(set::LOCAL_ENDPOINTS, endpoint_key(*endpoint));
    }
    let class_chains =
        in_use.classes.keys().map(|class| (class.to_string(), frame.class_chain(*class)));
    table.chains.extend(class_chains);
    let rememberings = in_use.rememberings.keys();
    table.chains.extend(rememberings.map(|it| (it.to_string(), frame.remembering_chain(*it))));
    table
}

/// What is in use and how often, so that a change knows what comes and goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    family: Family,
    classes: Usage<Class>,
    cluster_ips: Usage<IpAddr>,
    /// Lengths of prefixes of allowed sources.
    source_lengths: Usage<u8>,
    rememberings: Usage<Remembering>,
    /// Of pools whose clients are remembered.
    local_endpoints: Usage<SocketAddr>,
    numbers: Numbers,
}

impl InUse {
    /// Nothing.
    pub fn none(family: Family) -> Self {
        InUse {
            family,
            classes: Usage::default(),
            cluster_ips: Usage::default(),
            source_lengths: Usage::default(),
            rememberings: Usage::default(),
            local_endpoints: Usage::default(),
            numbers: Numbers::default(),
        }
    }

    pub fn of(program: &Program, family: Family) -> Self {
        let mut in_use = InUse::none(family);
        for (frontend, binding) in frontends(program, family) {
            in_use.take(frontend, binding);
        }
        in_use
    }

    pub fn family(&self) -> Family {
        self.family
    }

    fn frame<'a>(&self, program: &'a Program) -> Frame<'a> {
        let lengths = self.source_lengths.keys().copied().collect();
        let remembers = self.rememberings.keys().next().is_some();
        Frame::of(program, self.family, lengths, remembers)
    }

    /// The numbers of Service ports whose clients are remembered.
    pub(super) fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    fn take(&mut self, frontend: &Frontend, binding: &Binding) {
        if let Some(remembering) = remembering(frontend, binding) {
            self.rememberings.take(remembering);
            local_endpoints(binding).for_each(|endpoint| self.local_endpoints.take(endpoint));
            self.numbers.take(frontend, binding);
        }
        classes(frontend, binding).for_each(|class| self.classes.take(class));
        source_lengths(binding).for_each(|length| self.source_lengths.take(length));
        if let Some(address) = cluster_ip(frontend, binding) {
            self.cluster_ips.take(address);
        }
    }

    fn release(&mut self, frontend: &Frontend, binding: &Binding) {
        if let Some(remembering) = remembering(frontend, binding) {
            self.rememberings.release(&remembering);
            local_endpoints(binding).for_each(|endpoint| self.local_endpoints.release(&endpoint));
            self.numbers.release(frontend, binding);
        }
        classes(frontend, binding).for_each(|class| self.classes.release(&class));
        source_lengths(binding).for_each(|length| self.source_lengths.release(&length));
        if let Some(address) = cluster_ip(frontend, binding) {
            self.cluster_ips.release(&address);
        }
    }
}

/// The difference that some changes of the program make; `in_use` is brought up to date.
///
/// `program` is as it is after the changes.
pub fn changes(in_use: &mut InUse, program: &Program, changes: &[Change]) -> TableDelta {
    let before = in_use.uses();
    let mut delta = TableDelta::default();
    for change in changes {
        one(&mut delta, in_use, change);
    }
    let reframed = changes.iter().any(|change| {
        matches!(
            change,
            Change::Network { .. } | Change::PodSources { .. } | Change::ServiceCidrs { .. }
        )
    });
    let frame = in_use.frame(program);
    chain_changes(&mut delta, &before.classes, &in_use.classes, reframed, |class| {
        frame.class_chain(class)
    });
    chain_changes(&mut delta, &before.rememberings, &in_use.rememberings, false, |it| {
        frame.remembering_chain(it)
    });
    let relengthened = before.source_lengths != in_use.source_lengths.set();
    let remembers = before.rememberings.is_empty() != in_use.rememberings.set().is_empty();
    if reframed || relengthened || remembers {
        let needed = |name: &str| match name {
            chain::GUARD => relengthened,
            chain::REMEMBER | chain::REMEMBER_HERE => remembers,
            _ => false,
        };
        if remembers {
            let of_remembering = [chain::REMEMBER, chain::REMEMBER_HERE];
            delta.chains.extend(of_remembering.map(|name| (name.to_owned(), None)));
        }
        let framing = frame.chains().into_iter().filter(|(name, _)| reframed || needed(name));
        delta.chains.extend(framing.map(|(name, chain)| (name, Some(chain))));
    }
    delta
}

/// What was in use, whatever how often.
struct Uses {
    classes: BTreeSet<Class>,
    rememberings: BTreeSet<Remembering>,
    source_lengths: BTreeSet<u8>,
}

impl InUse {
    fn uses(&self) -> Uses {
        Uses {
            classes: self.classes.set(),
            rememberings: self.rememberings.set(),
            source_lengths: self.source_lengths.set(),
        }
    }
}

/// Chains that are there for as long as something uses them.
fn chain_changes<T: Ord + Copy + fmt::Display>(
    delta: &mut TableDelta,
    before: &BTreeSet<T>,
    after: &Usage<T>,
    all: bool,
    chain: impl Fn(T) -> Chain,
) {
    for gone in before.iter().filter(|it| !after.has(it)) {
        delta.chains.insert(gone.to_string(), None);
    }
    for it in after.keys().filter(|it| all || !before.contains(it)) {
        delta.chains.insert(it.to_string(), Some(chain(*it)));
    }
}

fn one(delta: &mut TableDelta, in_use: &mut InUse, change: &Change) {
    let family = in_use.family;
    match change {
        Change::Frontend { frontend, before, after } if frontend.scope.family() == family => {
            frontend_change(delta, in_use, frontend, before.as_ref(), after.as_ref());
        }
        Change::Addresses { before, after } => {
            let primary =
                |list: &[IpAddr]| list.iter().find(|it| Family::of(**it) == family).copied();
            let (before, after) = (primary(before), primary(after));
            for address in [before, after].into_iter().flatten() {
                let at = |primary: Option<IpAddr>| (primary == Some(address)).then(bare);
                delta.element(set::NODE_ADDRESSES, address_key(address), at(before), at(after));
            }
        }
        Change::Pod { address, before, after } if Family::of(*address) == family => {
            let (before, after) = (before.as_ref().map(|_| bare()), after.as_ref().map(|_| bare()));
            delta.element(set::HAIRPIN, hairpin_key(*address), before, after);
        }
        _ => {}
    }
}

fn frontend_change(
    delta: &mut TableDelta,
    in_use: &mut InUse,
    frontend: &Frontend,
    before: Option<&Binding>,
    after: Option<&Binding>,
) {
    let address = match frontend.scope {
        Scope::Address(address) => Some(address),
        Scope::NodePort(_) => None,
    };
    let in_use_now =
        |in_use: &InUse| address.filter(|it| in_use.cluster_ips.has(it)).map(|_| bare());
    let address_before = in_use_now(in_use);
    let here = || [before, after].into_iter().flatten().flat_map(local_endpoints);
    let here: BTreeMap<SocketAddr, bool> =
        here().map(|it| (it, in_use.local_endpoints.has(&it))).collect();
    let old = elements_by_key(frontend, before, &in_use.numbers);
    if let Some(binding) = after {
        in_use.take(frontend, binding);
    }
    let mut new = elements_by_key(frontend, after, &in_use.numbers);
    if let Some(binding) = before {
        in_use.release(frontend, binding);
    }
    for ((set, key), element) in old {
        let replaced = new.remove(&(set, key));
        delta.element(set, key, Some(element), replaced);
    }
    for ((set, key), element) in new {
        delta.element(set, key, None, Some(element));
    }
    for (endpoint, before) in here {
        let (before, after) = (before.then(bare), in_use.local_endpoints.has(&endpoint).then(bare));
        delta.element(set::LOCAL_ENDPOINTS, endpoint_key(endpoint), before, after);
    }
    if let Some(address) = address {
        let after = in_use_now(in_use);
        delta.element(set::SERVICE_ADDRESSES, address_key(address), address_before, after);
    }
}

fn elements_by_key(
    frontend: &Frontend,
    binding: Option<&Binding>,
    numbers: &Numbers,
) -> BTreeMap<(&'static str, Key), Element> {
    let all = binding.map(|binding| elements(frontend, binding, numbers)).unwrap_or_default();
    all.into_iter().map(|(set, key, element)| ((set, key), element)).collect()
}

/// The address of a front end that answers for all its ports.
fn cluster_ip(frontend: &Frontend, binding: &Binding) -> Option<IpAddr> {
    match (frontend.scope, binding.kind) {
        (Scope::Address(address), FrontendKind::ClusterIp) => Some(address),
        _ => None,
    }
}

fn source_lengths(binding: &Binding) -> impl Iterator<Item = u8> {
    binding.sources.iter().flat_map(|nets| nets.iter()).map(|net| net.prefix_len())
}

/// A pool of a front end, with the class that serves it and the slots that it is spread over.
struct Part<'a> {
    side: Side,
    pool: &'a Pool,
    class: Class,
    slots: Slots,
}

fn parts<'a>(frontend: &Frontend, binding: &'a Binding) -> impl Iterator<Item = Part<'a>> {
    let node_port = matches!(frontend.scope, Scope::NodePort(_));
    let part = move |(side, pool, masquerade): (Side, &'a Pool, Masquerade)| {
        let slots = Slots::of(pool, binding.scheduler);
        let (draw, number) = (slots.draw, u32::try_from(slots.endpoints.len()).unwrap_or(u32::MAX));
        let memory = binding.affinity.map(|_| Memory::of(pool));
        let class = Class { node_port, masquerade, side, draw, slots: number, memory };
        Part { side, pool, class, slots }
    };
    let pools = match &binding.action {
        Action::Balance { pool, masquerade } => [Some((Side::Inside, &**pool, *masquerade)), None],
        Action::BySource { inside, outside } => {
            let outside = outside.as_deref();
            let outside = outside.map(|pool| (Side::Outside, pool, Masquerade::Never));
            [Some((Side::Inside, &**inside, Masquerade::Never)), outside]
        }
        Action::Reject | Action::Drop => [None, None],
    };
    pools.into_iter().flatten().map(part)
}

fn classes(frontend: &Frontend, binding: &Binding) -> impl Iterator<Item = Class> {
    parts(frontend, binding).map(|part| part.class)
}

/// How the clients of a front end are remembered, if at all.
fn remembering(frontend: &Frontend, binding: &Binding) -> Option<Remembering> {
    binding.action.pools().next()?;
    let node_port = matches!(frontend.scope, Scope::NodePort(_));
    let seconds = u32::try_from(binding.affinity?.as_secs()).unwrap_or(u32::MAX);
    Some(Remembering { node_port, seconds })
}

/// The endpoints of pools of which only those on this node are part, where clients are remembered.
fn local_endpoints(binding: &Binding) -> impl Iterator<Item = SocketAddr> {
    let pools = binding.action.pools().filter(|pool| Memory::of(pool) == Memory::Local);
    let pools = pools.filter(|_| binding.affinity.is_some());
    pools.flat_map(|pool| pool.endpoints.iter().map(Endpoint::address))
}

/// An element, and the set that it belongs to.
pub(super) type Placed = (&'static str, Key, Element);

/// Says that the front end's address refuses unknown ports, where it does.
pub(super) fn service_address(frontend: &Frontend, binding: &Binding) -> Option<Placed> {
    let address = cluster_ip(frontend, binding)?;
    Some((set::SERVICE_ADDRESSES, address_key(address), bare()))
}

/// The elements that stand for one front end.
pub(super) fn elements(frontend: &Frontend, binding: &Binding, numbers: &Numbers) -> Vec<Placed> {
    let mut elements = Vec::new();
    memory_elements(&mut elements, frontend, binding, numbers);
    for part in parts(frontend, binding) {
        pool_elements(&mut elements, frontend, binding, &part);
    }
    let node_port = matches!(frontend.scope, Scope::NodePort(_));
    let to = |verdict| Element {
        until: None,
        value: ElementValue::Verdict(verdict),
        comment: binding.origin.to_string().into(),
    };
    let goto = |name: &str| Verdict::Goto(name.to_owned());
    let served = match &binding.action {
        Action::Balance { .. } => classes(frontend, binding).next().map(|it| goto(&it.to_string())),
        Action::BySource { .. } if node_port => Some(goto(chain::BY_SOURCE_NODE_PORT)),
        Action::BySource { .. } => Some(goto(chain::BY_SOURCE)),
        Action::Drop => Some(goto(chain::NOT_HERE)),
        Action::Reject => Some(goto(chain::REFUSAL)),
    };
    let Some(served) = served.map(to) else { return elements };
    let key = frontend_key(frontend);
    let services = if node_port { set::NODE_PORTS } else { set::SERVICES };
    match &binding.sources {
        Some(nets) => {
            elements.push((services, key, to(goto(chain::GUARD))));
            elements.push((set::GUARDED, key, Element { comment: "".into(), ..served }));
            let allowed = nets.iter().map(|net| (set::ALLOWED, allowed_key(frontend, net), bare()));
            elements.extend(allowed);
        }
        None => elements.push((services, key, served)),
    }
    elements
}

fn pool_elements(
    elements: &mut Vec<Placed>,
    frontend: &Frontend,
    binding: &Binding,
    part: &Part<'_>,
) {
    let node_port = part.class.node_port;
    let slots = if node_port { set::SLOTS_NODE_PORTS } else { set::SLOTS };
    let numbers = part.side.first_slot()..;
    for (index, slot) in part.slots.endpoints.iter().zip(numbers) {
        let element = slot_element(&part.pool.endpoints[*index]);
        elements.push((slots, slot_key(frontend, slot), element));
    }
    if matches!(binding.action, Action::BySource { .. }) {
        let map = match (part.side, node_port) {
            (Side::Inside, false) => set::INSIDE,
            (Side::Inside, true) => set::INSIDE_NODE_PORTS,
            (Side::Outside, false) => set::OUTSIDE,
            (Side::Outside, true) => set::OUTSIDE_NODE_PORTS,
        };
        let verdict = Verdict::Goto(part.class.to_string());
        let value = ElementValue::Verdict(verdict);
        let element = Element { until: None, value, comment: "".into() };
        elements.push((map, frontend_key(frontend), element));
    }
}

fn memory_elements(
    elements: &mut Vec<Placed>,
    frontend: &Frontend,
    binding: &Binding,
    numbers: &Numbers,
) {
    let Some(remembering) = remembering(frontend, binding) else { return };
    let Some(number) = numbers.of(frontend, binding) else { return };
    let (sticky, remembered) = match remembering.node_port {
        true => (set::STICKY_NODE_PORTS, set::REMEMBERED_NODE_PORTS),
        false => (set::STICKY, set::REMEMBERED),
    };
    let key = frontend_key(frontend);
    let number = Key::new().part(&number.to_ne_bytes());
    elements.push((sticky, key, data_element(number)));
    let verdict = ElementValue::Verdict(Verdict::Goto(remembering.to_string()));
    elements.push((remembered, key, Element { until: None, value: verdict, comment: "".into() }));
}

pub(super) fn frontends(
    program: &Program,
    family: Family,
) -> impl Iterator<Item = (&Frontend, &Binding)> {
    program.services.iter().filter(move |(frontend, _)| frontend.scope.family() == family)
}

fn hairpin_key(address: IpAddr) -> Key {
    address_key(address).part(&octets(address))
}
