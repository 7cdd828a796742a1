//! A program, and a change of one, to tables and changes of them. Pure.

use super::layout::{
    self, Class, chain, class_chain, frontend_key, octets, set, sets, slot_element, slot_key,
    table_id,
};
use netstate::TableDelta;
use netstate::nft::{Element, ElementValue, Key, Table, Verdict};
use program::{Action, Binding, Change, Frontend, PodNetwork, Program, Scope};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The whole table.
pub fn table(program: &Program) -> Table {
    let mut table =
        Table { id: table_id(), sets: sets(), chains: layout::chains(program.network.as_ref()) };
    let mut insert = |set: &str, key, element| {
        if let Some(set) = table.sets.get_mut(set) {
            set.elements.insert(key, element);
        }
    };
    for address in program.addresses.iter().filter(|address| address.is_ipv4()) {
        insert(set::NODE_ADDRESSES, address_key(*address), bare());
    }
    for address in
        program.pods.iter().map(|(address, _)| address).filter(|address| address.is_ipv4())
    {
        insert(set::HAIRPIN, hairpin_key(*address), bare());
    }
    let in_use = InUse::of(program);
    for (frontend, binding) in ipv4(program) {
        for (set, key, element) in elements(frontend, binding) {
            insert(set, key, element);
        }
    }
    for address in in_use.addresses.keys() {
        insert(set::SERVICE_ADDRESSES, address_key(*address), bare());
    }
    let network = program.network.as_ref();
    let class_chains =
        in_use.classes.keys().map(|class| (class.to_string(), class_chain(*class, network)));
    table.chains.extend(class_chains);
    table
}

/// What is in use and how often, so that a change knows what comes and goes with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InUse {
    classes: Usage<Class>,
    addresses: Usage<IpAddr>,
}

impl InUse {
    pub fn of(program: &Program) -> Self {
        let mut in_use = InUse::default();
        for (frontend, binding) in ipv4(program) {
            in_use.take(frontend, binding);
        }
        in_use
    }

    fn take(&mut self, frontend: &Frontend, binding: &Binding) {
        if let Some(class) = class(frontend, binding) {
            self.classes.take(class);
        }
        if let Some(address) = address(frontend) {
            self.addresses.take(address);
        }
    }

    fn release(&mut self, frontend: &Frontend, binding: &Binding) {
        if let Some(class) = class(frontend, binding) {
            self.classes.release(&class);
        }
        if let Some(address) = address(frontend) {
            self.addresses.release(&address);
        }
    }
}

/// The difference that some changes of the program make; `in_use` is brought up to date.
///
/// `network` is the pod network after the changes.
pub fn changes(in_use: &mut InUse, network: Option<&PodNetwork>, changes: &[Change]) -> TableDelta {
    let classes_before = in_use.classes.clone();
    let mut delta = TableDelta::default();
    for change in changes {
        one(&mut delta, in_use, change);
    }
    for class in classes_before.keys().filter(|class| !in_use.classes.has(class)) {
        delta.chains.insert(class.to_string(), None);
    }
    let network_changed = changes.iter().any(|change| matches!(change, Change::Network { .. }));
    for class in in_use.classes.keys() {
        if network_changed || !classes_before.has(class) {
            delta.chains.insert(class.to_string(), Some(class_chain(*class, network)));
        }
    }
    if network_changed {
        let postrouting = layout::chains(network).remove(chain::POSTROUTING);
        delta.chains.insert(chain::POSTROUTING.to_owned(), postrouting);
    }
    delta
}

/// How often something is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Usage<T>(BTreeMap<T, usize>);

impl<T> Default for Usage<T> {
    fn default() -> Self {
        Usage(BTreeMap::new())
    }
}

impl<T: Ord> Usage<T> {
    fn take(&mut self, item: T) {
        *self.0.entry(item).or_default() += 1;
    }

    fn release(&mut self, item: &T) {
        if let Some(count) = self.0.get_mut(item) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(item);
            }
        }
    }

    fn has(&self, item: &T) -> bool {
        self.0.contains_key(item)
    }

    fn keys(&self) -> impl Iterator<Item = &T> {
        self.0.keys()
    }
}

fn one(delta: &mut TableDelta, in_use: &mut InUse, change: &Change) {
    match change {
        Change::Frontend { frontend, before, after } if is_ipv4(frontend) => {
            frontend_change(delta, in_use, frontend, before.as_ref(), after.as_ref());
        }
        Change::Addresses { before, after } => {
            for address in before.iter().chain(after).filter(|address| address.is_ipv4()) {
                let at = |list: &Vec<IpAddr>| list.contains(address).then(bare);
                delta.element(set::NODE_ADDRESSES, address_key(*address), at(before), at(after));
            }
        }
        Change::Pod { address, before, after } if address.is_ipv4() => {
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
    let elements_of = |binding: Option<&Binding>| -> BTreeMap<(&'static str, Key), Element> {
        let all = binding.map(|binding| elements(frontend, binding)).unwrap_or_default();
        all.into_iter().map(|(set, key, element)| ((set, key), element)).collect()
    };
    let (old, mut new) = (elements_of(before), elements_of(after));
    for ((set, key), element) in old {
        let replaced = new.remove(&(set, key));
        delta.element(set, key, Some(element), replaced);
    }
    for ((set, key), element) in new {
        delta.element(set, key, None, Some(element));
    }
    let address = address(frontend);
    let in_use_now = |in_use: &InUse| address.filter(|it| in_use.addresses.has(it)).map(|_| bare());
    let address_before = in_use_now(in_use);
    if let Some(binding) = before {
        in_use.release(frontend, binding);
    }
    if let Some(binding) = after {
        in_use.take(frontend, binding);
    }
    if let Some(address) = address {
        let after = in_use_now(in_use);
        delta.element(set::SERVICE_ADDRESSES, address_key(address), address_before, after);
    }
}

fn address(frontend: &Frontend) -> Option<IpAddr> {
    match frontend.scope {
        Scope::Address(address) => Some(address),
        Scope::NodePort => None,
    }
}

/// The elements that stand for one front end.
fn elements(frontend: &Frontend, binding: &Binding) -> Vec<(&'static str, Key, Element)> {
    let node_port = frontend.scope == Scope::NodePort;
    let key = frontend_key(frontend);
    let goto = |chain: String| Element {
        until: None,
        value: ElementValue::Verdict(Verdict::Goto(chain)),
        comment: binding.origin.to_string().into(),
    };
    match &binding.action {
        Action::Balance { pool, .. } => {
            let set = if node_port { set::NODE_PORTS } else { set::SERVICES };
            let class = class(frontend, binding).map(|class| goto(class.to_string()));
            let slots = pool.endpoints.iter().filter_map(slot_element).zip(0..);
            let slots =
                slots.map(|(element, slot)| (set::SLOTS, slot_key(frontend, slot), element));
            class.map(|element| (set, key, element)).into_iter().chain(slots).collect()
        }
        Action::Reject => {
            let set = if node_port { set::REFUSED_NODE_PORTS } else { set::REFUSED_SERVICES };
            vec![(set, key, goto(chain::REFUSAL.to_owned()))]
        }
    }
}

fn class(frontend: &Frontend, binding: &Binding) -> Option<Class> {
    let Action::Balance { pool, masquerade } = &binding.action else { return None };
    Some(Class {
        node_port: frontend.scope == Scope::NodePort,
        masquerade: *masquerade,
        slots: u32::try_from(pool.endpoints.len()).unwrap_or(u32::MAX),
    })
}

fn ipv4(program: &Program) -> impl Iterator<Item = (&Frontend, &Binding)> {
    program.services.iter().filter(|(frontend, _)| is_ipv4(frontend))
}

fn is_ipv4(frontend: &Frontend) -> bool {
    address(frontend).is_none_or(|address| address.is_ipv4())
}

fn address_key(address: IpAddr) -> Key {
    Key::new().part(&octets(address))
}

fn hairpin_key(address: IpAddr) -> Key {
    address_key(address).part(&octets(address))
}

fn bare() -> Element {
    Element { until: None, value: ElementValue::None, comment: "".into() }
}
