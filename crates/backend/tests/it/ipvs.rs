//! Back end `ipvs`: specification = evaluation of what a program is lowered to; changes add up to the whole; and on
//! a kernel that has IPVS the same agreement as back end `nft` has.

use crate::cluster::{NODE, any_settings, arrival, changes, nodes, shot, world};
use crate::lowering::{changed as changed_table, seen, unchanged};
use crate::oracle::{Fate, fate};
use backend::ipvs::lower::{Lowered, complete, complete_delta, lower};
use backend::ipvs::{SCHEDULERS, Settings, change};
use backend::nft;
use backend::nft::layout::MASQUERADE_MARK;
use backend::nft::lower::InUse;
use model::{Family, Touched, World};
use netstate::eval::{Ending, Memory, Packet as Seen, Surroundings, evaluate};
use netstate::ipvs::{self, Answer};
use netstate::nft::{HookPoint, Table};
use program::{Packet, Program};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

fn compiled(world: &World, settings: &compile::Settings) -> Program {
    compile::compile(world, NODE, settings).0
}

fn settings() -> impl Strategy<Value = compile::Settings> {
    any_settings()
        .prop_map(|settings| compile::Settings { schedulers: SCHEDULERS.into(), ..settings })
}

/// What a program is lowered to, all of it.
#[derive(Debug, Clone, PartialEq)]
struct State {
    lowered: Lowered,
    tables: [Table; 2],
    servers: ipvs::Table,
}

impl State {
    fn of(program: &Program) -> Self {
        let lowered = lower(program, &Settings::default());
        let tables = Family::ALL.map(|family| {
            let mut table = nft::lower::table(&lowered.program, family);
            complete(&mut table, &lowered, family);
            table
        });
        let servers = lowered.virtual_servers.iter().map(|(at, it)| (*at, it.server.clone()));
        let servers = ipvs::Table { virtual_servers: servers.collect() };
        State { lowered, tables, servers }
    }

    /// What becomes of a packet, by every choice that there is.
    fn fate(&self, program: &Program, packet: Packet) -> Fate {
        let mut reached = BTreeSet::new();
        let mut masqueraded = false;
        let (mut slot, mut slots) = (0, 1);
        while slot < slots {
            let mut seen = seen(packet);
            let mut draw = |modulus| {
                slots = slots.max(modulus);
                slot
            };
            match self.once(program, &mut seen, &mut draw) {
                Ok(servers) => reached.extend(servers),
                Err(fate) => return fate,
            }
            masqueraded |= seen.mark & MASQUERADE_MARK != 0;
            slot += 1;
        }
        Fate::Balanced { endpoints: reached, masqueraded }
    }

    /// To whom it goes, by one drawing.
    fn once(
        &self,
        program: &Program,
        seen: &mut Seen,
        draw: &mut dyn FnMut(u32) -> u32,
    ) -> Result<Vec<SocketAddr>, Fate> {
        let table = &self.tables[Family::of(seen.source) as usize];
        let mut memory = Memory::new();
        let is_local = |ip| program.is_own_address(ip) || self.owns(ip);
        let mut surroundings =
            Surroundings { random: draw, is_local: &is_local, memory: &mut memory };
        let before = (seen.destination, seen.destination_port);
        let leaves_here = seen.input_interface.is_empty();
        if !leaves_here {
            passes(evaluate(table, HookPoint::Prerouting, seen, &mut surroundings))?;
        }
        let local = is_local(seen.destination);
        let point = match (leaves_here, local) {
            (true, _) => HookPoint::Output,
            (false, true) => HookPoint::Input,
            (false, false) => HookPoint::Forward,
        };
        passes(evaluate(table, point, seen, &mut surroundings))?;
        let destination = SocketAddr::from((seen.destination, seen.destination_port));
        let asked = ipvs::Packet { protocol: seen.protocol, destination, mark: seen.mark };
        match self.servers.answer(&asked) {
            Answer::OneOf { servers, or_refused: false, .. } if local || leaves_here => Ok(servers),
            Answer::Unserved if destination == before.into() => Err(Fate::Untouched),
            Answer::Unserved => Ok(vec![destination]),
            other => panic!("{other:?} for {seen:?}"),
        }
    }

    fn owns(&self, address: IpAddr) -> bool {
        self.lowered.owned.contains(&address)
    }
}

fn passes(ending: Ending) -> Result<(), Fate> {
    match ending {
        Ending::Accepted => Ok(()),
        Ending::Rejected => Err(Fate::Refused),
        Ending::Dropped => Err(Fate::Dropped),
        Ending::Unknown(what) => panic!("{what}"),
    }
}

/// An address on `kube-ipvs0` is the node's own, and the node refuses what is not served there.
pub(crate) fn owned(specified: Fate, owns: bool) -> Fate {
    match specified {
        Fate::Untouched if owns => Fate::Refused,
        specified => specified,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn specification_and_lowered_state_agree(
        world in world(),
        settings in settings(),
        shots in prop::collection::vec(shot(), 16),
    ) {
        let program = compiled(&world, &settings);
        let state = State::of(&program);
        for shot in shots {
            let packet = shot.at(&program);
            let specified = fate(&world, &settings, &packet, arrival(packet.source.ip()));
            let specified = owned(specified, state.owns(packet.destination.ip()));
            prop_assert_eq!(&state.fate(&program, packet), &specified, "{:?}", packet);
        }
    }

    #[test]
    fn changes_add_up_to_the_whole(changes in changes(), settings in settings()) {
        let mut world = World::from_objects(nodes());
        let mut program = compiled(&world, &settings);
        let mut state = State::of(&program);
        let mut in_use = Family::ALL.map(|family| InUse::of(&state.lowered.program, family));
        for change in changes {
            let touched: BTreeSet<Touched> = world.apply(change).into_iter().collect();
            let mut made = Vec::new();
            for touched in &touched {
                made.extend(compile::recompile(&mut program, &world, NODE, &settings, touched).0);
            }
            let whole = State::of(&program);
            let changed = change::lower(&program, &Settings::default(), &state.lowered.owned, &made);
            // Where the node itself changes, all is compared.
            if let Some(changed) = changed {
                assert_adds_up(&state, &changed, &whole);
                for (table, in_use) in state.tables.iter().zip(&mut in_use) {
                    let family = in_use.family();
                    let mut delta = nft::lower::changes(in_use, &program, &changed.changes);
                    complete_delta(&mut delta, &changed.changes, &changed.addresses, family);
                    let whole = &whole.tables[family as usize];
                    prop_assert!(unchanged(table, whole, &delta), "more chains than need be");
                    prop_assert_eq!(changed_table(table.clone(), delta), whole.clone());
                }
            }
            in_use = Family::ALL.map(|family| InUse::of(&whole.lowered.program, family));
            state = whole;
        }
    }
}

/// Virtual servers and addresses after a change are those of the whole.
fn assert_adds_up(before: &State, changed: &change::Lowered, whole: &State) {
    let mut servers = before.lowered.virtual_servers.clone();
    for at in &changed.which {
        match changed.wanted.get(at) {
            Some(wanted) => servers.insert(*at, wanted.clone()),
            None => servers.remove(at),
        };
    }
    assert_eq!(servers, whole.lowered.virtual_servers);
    let mut owned = before.lowered.owned.clone();
    for (address, gets) in &changed.addresses {
        assert!(if *gets { owned.insert(*address) } else { owned.remove(address) });
    }
    assert_eq!(owned, whole.lowered.owned);
}

/// What a document shows between a line with ``` and the word, and the next line with ```.
fn fenced<'a>(document: &'a str, word: &str) -> &'a str {
    let (_, rest) = document.split_once(&format!("```{word}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

#[test]
fn the_documented_example_becomes_what_is_documented() {
    let document = include_str!("../../../../docs/service-proxy.md");
    let documents = model::manifest::parse("service-proxy.md", fenced(document, "yaml")).unwrap();
    let objects = model::manifest::load(documents).unwrap();
    let objects = objects.into_iter().map(|(_, object)| object.unwrap());
    let world = World::from_objects(nodes().into_iter().chain(objects));
    let settings =
        compile::Settings { schedulers: SCHEDULERS.into(), ..crate::cluster::settings() };
    let state = State::of(&compiled(&world, &settings));
    assert_eq!(state.servers.to_string(), fenced(document, "text"));
}
