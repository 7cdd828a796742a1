//! The back end without rules: the trace says what becomes of a connection, and nothing is left behind.

use crate::agreement::{FIXED, FRESH, PATIENCE, PORTS, SILENCE, drawn, seeds, senders};
use crate::cluster::{NODE, arrival, nodes};
use crate::oracle::{Fate, fate};
use crate::probe::Sight;
use crate::proxy::Kind;
use crate::space::{as_root, ip};
use crate::testbed::{Testbed, compiled};
use compile::Settings;
use model::{Protocol, Touched, World};
use program::trace::StepKind;
use program::{Action, Outcome, Packet, Program};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

#[test]
fn relays_trace_and_specification_agree() {
    as_root("userspace::relays_trace_and_specification_agree", || {
        let mut tally = Tally {
            testbed: Testbed::with(Kind::Userspace),
            port: PORTS.start,
            seen: 0,
            balanced: 0,
            wrong: Vec::new(),
        };
        seeds(FIXED, FRESH).into_iter().for_each(|seed| tally.cluster(seed));
        let Tally { seen, balanced, wrong, .. } = tally;
        println!("agreement: {} of {seen} packets, {balanced} to an endpoint", seen - wrong.len());
        assert!(wrong.is_empty(), "{}", wrong.concat());
        assert!(balanced > 0, "no packet met a Service");
    });
}

struct Tally {
    testbed: Testbed,
    /// The last source port.
    port: u16,
    seen: usize,
    balanced: usize,
    wrong: Vec<String>,
}

impl Tally {
    fn cluster(&mut self, seed: u64) {
        let (settings, changes, shots) = drawn(seed);
        let mut shots = shots.into_iter().cycle();
        let mut world = World::from_objects(nodes().into_iter().chain(senders()));
        let (missed, heard) = changes.split_at(changes.len() / 3);
        missed.iter().cloned().for_each(|change| drop(world.apply(change)));
        let mut program = compiled(&world, &settings);
        self.testbed.start(&program);
        for change in heard.iter().cloned() {
            let touched: BTreeSet<Touched> = world.apply(change).into_iter().collect();
            let made = touched.iter().flat_map(|touched| {
                compile::recompile(&mut program, &world, NODE, &settings, touched).0
            });
            let made: Vec<_> = made.collect();
            self.testbed.change(&program, &made);
            for shot in shots.by_ref().take(3) {
                let packet = shot.at(&program);
                if let Some(text) = self.packet(&world, &settings, &program, packet) {
                    self.wrong.push(format!("\nPODWAY_SEED={seed}: {text}"));
                }
            }
        }
        self.testbed.assert_settled(&program);
    }

    /// What is wrong.
    fn packet(
        &mut self,
        world: &World,
        settings: &Settings,
        program: &Program,
        mut packet: Packet,
    ) -> Option<String> {
        self.port = if self.port == PORTS.end { PORTS.start } else { self.port + 1 };
        packet.source.set_port(self.port);
        let expected = Expected::of(program, packet)?;
        if !self.testbed.crosses(&packet) {
            return None;
        }
        let patience = if expected.surely() { PATIENCE } else { SILENCE };
        let sight = self.testbed.watch(packet, true, patience);
        let specified = fate(world, settings, &packet, arrival(packet.source.ip()));
        self.seen += 1;
        self.balanced += usize::from(matches!(sight, Sight::Reached { .. }));
        let right = expected.allows(packet, sight) && fits(&specified, sight);
        (!right).then(|| {
            format!("{packet:?}: {sight:?}\n  trace {expected:?}\n  specification {specified:?}\n")
        })
    }
}

/// What the trace leads to.
#[derive(Debug)]
enum Expected {
    /// One of these endpoints; with `dead` some of the Service's endpoints cannot be reached.
    Endpoint {
        alive: BTreeSet<SocketAddr>,
        dead: bool,
    },
    Refused,
    Silence,
}

impl Expected {
    /// `None`: no Service's business, which rules may have an opinion on and relays have not; or another node's
    /// IPv6, which there is none of here.
    fn of(program: &Program, packet: Packet) -> Option<Self> {
        let (mut alive, mut dead) = (BTreeSet::new(), false);
        let (mut number, mut next) = (1, 0);
        while next < number {
            let trace = program::trace(program, packet, arrival(packet.source.ip()), |pool| {
                number = pool.len();
                next
            });
            match (&trace.steps.first()?.kind, trace.outcome) {
                (StepKind::UnallocatedServiceAddress { .. }, _) => return None,
                (_, Outcome::Rejected) => return Some(Expected::Refused),
                (StepKind::Drop { frontend, .. }, Outcome::Dropped) => {
                    // Nobody listens, so those whom the Service does not want are refused like everybody.
                    let binding = program.services.get(frontend)?;
                    let nobody = binding.action == Action::Reject;
                    return Some(if nobody { Expected::Refused } else { Expected::Silence });
                }
                (StepKind::Balance { .. }, Outcome::Unreachable) => dead = true,
                (StepKind::Balance { .. }, Outcome::Peer { .. }) if packet.source.is_ipv6() => {
                    return None;
                }
                (StepKind::Balance { .. }, _) => drop(alive.insert(trace.packet.destination)),
                _ => return None,
            }
            next += 1;
        }
        Some(Expected::Endpoint { alive, dead })
    }

    /// Whether somebody answers for certain.
    fn surely(&self) -> bool {
        match self {
            Expected::Endpoint { alive, dead } => !alive.is_empty() && !dead,
            Expected::Refused => true,
            Expected::Silence => false,
        }
    }

    fn allows(&self, packet: Packet, sight: Sight) -> bool {
        match (self, sight) {
            (Expected::Refused, sight) => sight == Sight::Refused,
            (Expected::Silence, sight) => sight == Sight::Silence,
            (Expected::Endpoint { alive, .. }, Sight::Reached { by, source, answered }) => {
                alive.contains(&by) && answered && is_nodes(source)
            }
            (Expected::Endpoint { dead, .. }, Sight::Refused) => {
                *dead && packet.protocol == Protocol::Tcp
            }
            (Expected::Endpoint { dead, .. }, sight) => *dead && sight == Sight::Silence,
        }
    }
}

/// Endpoints see the node, whoever the client was.
fn is_nodes(source: IpAddr) -> bool {
    let own = ["10.1.1.111", "10.244.1.0", "10.244.1.1", "fd00:1::111", "fd00:244:1::1"];
    own.map(ip).contains(&source)
}

fn fits(fate: &Fate, sight: Sight) -> bool {
    match (fate, sight) {
        (Fate::Refused, sight) => sight == Sight::Refused,
        (Fate::Dropped, sight) => !matches!(sight, Sight::Reached { .. }),
        (Fate::Balanced { endpoints, .. }, Sight::Reached { by, .. }) => endpoints.contains(&by),
        (Fate::Balanced { .. }, _) => true,
        (Fate::Untouched, _) => false,
    }
}
