//! Specification = trace of the program = evaluation of the lowered table; and changes add up to the whole.

use crate::cluster::{NODE, changes, nodes, settings, shot, world};
use crate::oracle::{Fate, fate};
use backend::nft::layout::MASQUERADE_MARK;
use backend::nft::lower::{self, InUse};
use model::{Family, Touched, World};
use netstate::TableDelta;
use netstate::eval::{Ending, Memory, Packet as Seen, Surroundings, evaluate};
use netstate::nft::{HookPoint, Table};
use program::trace::StepKind;
use program::{Arrival, Outcome, Packet, Program};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn compiled(world: &World) -> Program {
    compile::compile(world, NODE, &settings()).0
}

/// Every fate that the program's random choices can lead to; `specified`: the source is to be replaced.
fn traced(program: &Program, packet: Packet, specified: bool) -> Fate {
    let mut unseen = false;
    let mut endpoints = BTreeSet::new();
    let mut masqueraded = false;
    let mut number = 1;
    let mut next = 0;
    while next < number {
        let trace = program::trace(program, packet, Arrival::Underlay, |pool| {
            number = pool.len();
            next
        });
        if trace.outcome == Outcome::Rejected {
            return Fate::Refused;
        }
        let balanced = |step: &program::Step| match &step.kind {
            StepKind::Balance { pool, chosen, .. } => Some(pool.endpoints[*chosen].address),
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
        // Nothing leaves for a pod that is not there, so nothing shows the source.
        unseen |= trace.outcome == Outcome::Unreachable;
        next += 1;
    }
    Fate::Balanced { endpoints, masqueraded: if unseen { specified } else { masqueraded } }
}

/// The same through the lowered table, drawing every slot.
fn evaluated(table: &Table, packet: Packet) -> Fate {
    let mut endpoints = BTreeSet::new();
    let mut masqueraded = false;
    let mut slots = 1;
    let mut slot = 0;
    while slot < slots {
        let mut seen = Seen {
            source: packet.source.ip(),
            destination: packet.destination.ip(),
            protocol: packet.protocol.number(),
            source_port: packet.source.port(),
            destination_port: packet.destination.port(),
            mark: 0,
            conntrack_state: 8,
            conntrack_status: 0,
            input_interface: "eth0".to_owned(),
            source_is_local: false,
            destination_is_local: false,
            masquerade: false,
        };
        let mut memory = Memory::new();
        let mut draw = |modulus| {
            slots = modulus;
            slot
        };
        let mut surroundings = Surroundings { random: &mut draw, memory: &mut memory };
        let mut marked = false;
        for point in [HookPoint::Prerouting, HookPoint::Forward, HookPoint::Postrouting] {
            match evaluate(table, point, &mut seen, &mut surroundings) {
                Ending::Accepted => marked |= seen.mark & MASQUERADE_MARK != 0,
                Ending::Rejected => return Fate::Refused,
                other => panic!("{other:?}"),
            }
        }
        let reached = (seen.destination, seen.destination_port).into();
        if seen.conntrack_status == 0 {
            return Fate::Untouched;
        }
        endpoints.insert(reached);
        // A pod that reaches itself is masqueraded without a mark; the specification speaks of marks.
        assert!(seen.masquerade || !marked);
        masqueraded |= marked;
        slot += 1;
    }
    Fate::Balanced { endpoints, masqueraded }
}

/// What a table becomes by a change.
fn changed(mut table: Table, delta: TableDelta) -> Table {
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
    fn specification_trace_and_table_agree(world in world(), shots in prop::collection::vec(shot(), 16)) {
        let program = compiled(&world);
        let table = lower::table(&program, Family::V4);
        for shot in shots {
            let packet = shot.at(&program);
            let specified = fate(&world, &packet);
            let masqueraded = matches!(specified, Fate::Balanced { masqueraded: true, .. });
            prop_assert_eq!(&traced(&program, packet, masqueraded), &specified, "trace of {:?}", packet);
            prop_assert_eq!(&evaluated(&table, packet), &specified, "table on {:?}", packet);
        }
    }

    #[test]
    fn changes_add_up_to_the_whole(changes in changes()) {
        let mut world = World::from_objects(nodes());
        let mut program = compiled(&world);
        let mut table = lower::table(&program, Family::V4);
        let mut in_use = InUse::of(&program, Family::V4);
        for change in changes {
            let touched: BTreeSet<Touched> = world.apply(change).into_iter().collect();
            let mut made = Vec::new();
            for touched in &touched {
                made.extend(compile::recompile(&mut program, &world, NODE, &settings(), touched).0);
            }
            prop_assert_eq!(&program, &compiled(&world));
            let delta = lower::changes(&mut in_use, &program, &made);
            let whole = lower::table(&program, Family::V4);
            prop_assert_eq!(TableDelta::between(Some(&table), &whole), delta.clone());
            table = changed(table, delta);
            prop_assert_eq!(&table, &whole);
            prop_assert_eq!(&in_use, &InUse::of(&program, Family::V4));
        }
    }
}
