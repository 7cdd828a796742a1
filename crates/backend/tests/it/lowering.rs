//! Specification = trace of the program = evaluation of the lowered table; and changes add up to the whole.

use crate::cluster::{NODE, any_settings, arrival, changes, nodes, shot, world};
use crate::oracle::{Fate, fate};
use backend::nft::layout::MASQUERADE_MARK;
use backend::nft::lower::{self, InUse};
use compile::Settings;
use model::{Family, Touched, World};
use netstate::TableDelta;
use netstate::eval::{Ending, Memory, Packet as Seen, Surroundings, evaluate};
use netstate::nft::{HookPoint, Table};
use program::trace::StepKind;
use program::{Arrival, Frontend, Outcome, Packet, Program, Scope};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::SocketAddr;

pub(crate) fn compiled(world: &World, settings: &Settings) -> Program {
    compile::compile(world, NODE, settings).0
}

/// Every fate that the program's random choices can lead to; `specified`: the source is to be replaced.
pub(crate) fn traced(program: &Program, packet: Packet, specified: bool) -> Fate {
    let mut unseen = false;
    let mut endpoints = BTreeSet::new();
    let mut masqueraded = false;
    let mut number = 1;
    let mut next = 0;
    let arrival = arrival(packet.source.ip());
    while next < number {
        let trace = program::trace(program, packet, arrival, |pool| {
            number = pool.len();
            next
        });
        match trace.outcome {
            Outcome::Rejected => return Fate::Refused,
            Outcome::Dropped => return Fate::Dropped,
            _ => {}
        }
        let balanced = |step: &program::Step| match &step.kind {
            StepKind::Balance { pool, chosen, .. } => Some(pool.endpoints[*chosen].address()),
            _ => None,
        };
        let Some(endpoint) = trace.steps.iter().find_map(balanced) else { return Fate::Untouched };
        endpoints.insert(endpoint);
        masqueraded |= trace.steps.iter().any(|step| {
            matches!(
                step.kind,
                StepKind::Masquerade { reason: program::trace::MasqueradeReason::Service(_) }
            )
        });
        // Nothing leaves for a pod that is not there, and the node's own source is the right one already.
        unseen |= trace.outcome == Outcome::Unreachable || arrival == Arrival::LocalProcess;
        next += 1;
    }
    Fate::Balanced { endpoints, masqueraded: if unseen { specified } else { masqueraded } }
}

/// The packet as the first rule sees it.
pub(crate) fn seen(packet: Packet) -> Seen {
    let interface = match arrival(packet.source.ip()) {
        Arrival::LocalProcess => "",
        Arrival::Pod => "pod2",
        Arrival::Underlay => "eth0",
        Arrival::Tunnel => "flannel.1",
    };
    Seen {
        source: packet.source.ip(),
        destination: packet.destination.ip(),
        protocol: packet.protocol.number(),
        source_port: packet.source.port(),
        destination_port: packet.destination.port(),
        mark: 0,
        conntrack_state: 8,
        conntrack_status: 0,
        input_interface: interface.to_owned(),
        original: None,
        priority: 0,
        masquerade: false,
    }
}

/// One way through a table: the endpoint, and whether it was marked.
fn pass(
    table: &Table,
    mut seen: Seen,
    surroundings: &mut Surroundings<'_>,
) -> Result<(SocketAddr, bool), Fate> {
    let points: &[_] = match seen.input_interface.as_str() {
        "" => &[HookPoint::Output, HookPoint::Postrouting],
        _ => &[HookPoint::Prerouting, HookPoint::Forward, HookPoint::Postrouting],
    };
    let mut marked = false;
    for point in points {
        match evaluate(table, *point, &mut seen, surroundings) {
            Ending::Accepted => marked |= seen.mark & MASQUERADE_MARK != 0,
            Ending::Rejected => return Err(Fate::Refused),
            Ending::Dropped => return Err(Fate::Dropped),
            Ending::Unknown(what) => panic!("{what}"),
        }
    }
    if seen.conntrack_status == 0 {
        return Err(Fate::Untouched);
    }
    // A pod that reaches itself is masqueraded without a mark; the specification speaks of marks.
    assert!(seen.masquerade || !marked);
    Ok(((seen.destination, seen.destination_port).into(), marked))
}

/// The same through the lowered table, drawing every slot.
fn evaluated(program: &Program, table: &Table, packet: Packet) -> Fate {
    let mut endpoints = BTreeSet::new();
    let mut masqueraded = false;
    let mut slots = 1;
    let mut slot = 0;
    let is_local = |ip| program.is_own_address(ip);
    while slot < slots {
        let mut memory = Memory::new();
        let mut draw = |modulus| {
            slots = slots.max(modulus);
            slot
        };
        let mut surroundings =
            Surroundings { random: &mut draw, is_local: &is_local, memory: &mut memory };
        match pass(table, seen(packet), &mut surroundings) {
            Err(fate) => return fate,
            Ok((endpoint, marked)) => {
                endpoints.insert(endpoint);
                masqueraded |= marked;
            }
        }
        slot += 1;
    }
    Fate::Balanced { endpoints, masqueraded }
}

/// A client that comes again is served by whom it was served before, whatever it draws.
fn assert_kept(program: &Program, table: &Table, packet: Packet) {
    let mut memory = Memory::new();
    let is_local = |ip| program.is_own_address(ip);
    let mut met = BTreeSet::new();
    for turn in [0, 1, 2, 3, 0] {
        let mut draw = |modulus: u32| turn % modulus;
        let mut surroundings =
            Surroundings { random: &mut draw, is_local: &is_local, memory: &mut memory };
        met.insert(pass(table, seen(packet), &mut surroundings).unwrap().0);
    }
    assert_eq!(met.len(), 1, "{packet:?} was served by {met:?}");
}

/// What a table becomes by a change.
pub(crate) fn changed(mut table: Table, delta: TableDelta) -> Table {
    assert!(delta.sets.is_empty(), "sets never come or go");
    for (name, chain) in delta.chains {
        match chain {
            Some(chain) => table.chains.insert(name, chain),
            None => table.chains.remove(&name),
        };
    }
    for (set, elements) in delta.elements {
        let set = &mut table.sets.get_mut(&set).unwrap().elements;
        for (key, change) in elements {
            assert_eq!(set.get(&key), change.before.as_ref());
            match change.after {
                Some(after) => set.insert(key, after),
                None => set.remove(&key),
            };
        }
    }
    table
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn specification_trace_and_table_agree(
        world in world(),
        settings in any_settings(),
        shots in prop::collection::vec(shot(), 16),
    ) {
        let program = compiled(&world, &settings);
        let tables = Family::ALL.map(|family| lower::table(&program, family));
        for shot in shots {
            let packet = shot.at(&program);
            let table = &tables[Family::of(packet.source.ip()) as usize];
            let specified = fate(&world, &settings, &packet, arrival(packet.source.ip()));
            let masqueraded = matches!(specified, Fate::Balanced { masqueraded: true, .. });
            prop_assert_eq!(&traced(&program, packet, masqueraded), &specified, "trace of {:?}", packet);
            prop_assert_eq!(&evaluated(&program, table, packet), &specified, "table on {:?}", packet);
            if matches!(specified, Fate::Balanced { .. }) && affinity(&program, &packet).is_some() {
                assert_kept(&program, table, packet);
            }
        }
    }

    #[test]
    fn changes_add_up_to_the_whole(changes in changes(), settings in any_settings()) {
        let mut world = World::from_objects(nodes());
        let mut program = compiled(&world, &settings);
        let mut tables = Family::ALL.map(|family| lower::table(&program, family));
        let mut in_use = Family::ALL.map(|family| InUse::of(&program, family));
        for change in changes {
            let touched: BTreeSet<Touched> = world.apply(change).into_iter().collect();
            let mut made = Vec::new();
            for touched in &touched {
                made.extend(compile::recompile(&mut program, &world, NODE, &settings, touched).0);
            }
            prop_assert_eq!(&program, &compiled(&world, &settings));
            for (table, in_use) in tables.iter_mut().zip(&mut in_use) {
                let family = in_use.family();
                let delta = lower::changes(in_use, &program, &made);
                let whole = lower::table(&program, family);
                prop_assert!(unchanged(table, &whole, &delta), "more chains than need be");
                *table = changed(table.clone(), delta);
                prop_assert_eq!(&*table, &whole);
                prop_assert_eq!(&*in_use, &InUse::of(&program, family));
            }
        }
    }
}

/// Whether a change touches no element that stays as it is, and no chain but for a reason.
pub(crate) fn unchanged(table: &Table, whole: &Table, delta: &TableDelta) -> bool {
    let needed = TableDelta::between(Some(table), whole);
    let chains = delta.chains.keys().filter(|name| !needed.chains.contains_key(*name)).count();
    delta.elements == needed.elements && (chains == 0 || !needed.chains.is_empty())
}

pub(crate) fn affinity(program: &Program, packet: &Packet) -> Option<std::time::Duration> {
    let (ip, port, protocol) =
        (packet.destination.ip(), packet.destination.port(), packet.protocol);
    let at = |scope| program.services.get(&Frontend { scope, protocol, port });
    let own = || at(Scope::NodePort(Family::of(ip))).filter(|_| program.is_node_port_address(ip));
    at(Scope::Address(ip)).or_else(own)?.affinity
}
