//! Specification = trace of the program = evaluation of the lowered iptables rules; and changes add up to the whole.

use crate::cluster::{any_settings, arrival, changes, nodes, shot, world};
use crate::lowering::{affinity, compiled, seen, traced};
use crate::oracle::{Fate, fate};
use backend::iptables::frame::Frame;
use backend::iptables::lower::{self, Index, with_scope};
use backend::nft::layout::MASQUERADE_MARK;
use model::{Family, Touched, World};
use netstate::eval::{Ending, Packet as Seen};
use netstate::iptables::{Delta, RecentLists, RuleSet, Surroundings, evaluate};
use netstate::nft::HookPoint;
use program::{Packet, Program};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

fn frame(program: &Program, family: Family) -> Frame {
    Frame::of(program, family, false)
}

/// One way through the rules: the endpoint, and whether it was marked.
fn pass(
    rules: &RuleSet,
    mut seen: Seen,
    surroundings: &mut Surroundings<'_>,
) -> Result<(SocketAddr, bool), Fate> {
    let mut points = vec![match seen.input_interface.as_str() {
        "" => HookPoint::Output,
        _ => HookPoint::Prerouting,
    }];
    let mut marked = false;
    while let Some(point) = points.pop() {
        match evaluate(rules, point, &mut seen, surroundings) {
            Ending::Accepted => {}
            Ending::Rejected => return Err(Fate::Refused),
            Ending::Dropped => return Err(Fate::Dropped),
            Ending::Unknown(what) => panic!("{what}"),
        }
        marked |= seen.mark & MASQUERADE_MARK != 0;
        points.extend(match point {
            HookPoint::Prerouting if (surroundings.is_local)(seen.destination) => {
                Some(HookPoint::Input)
            }
            HookPoint::Prerouting => Some(HookPoint::Forward),
            HookPoint::Output | HookPoint::Forward => Some(HookPoint::Postrouting),
            HookPoint::Input | HookPoint::Postrouting => None,
        });
    }
    if seen.conntrack_status & DST_NAT == 0 {
        return Err(Fate::Untouched);
    }
    Ok(((seen.destination, seen.destination_port).into(), marked))
}

/// `IPS_DST_NAT` of `enum ip_conntrack_status`.
const DST_NAT: u32 = 1 << 5;

/// The same through the rules, with every choice that chance can make: the n-th rule of those with a chance.
fn evaluated(program: &Program, rules: &RuleSet, packet: Packet) -> Fate {
    let (mut endpoints, mut masqueraded) = (BTreeSet::new(), false);
    let (mut choice, mut choices) = (0, 1);
    while choice < choices {
        let mut recent = RecentLists::default();
        match with(program, &mut recent, choice, &mut choices, |it| pass(rules, seen(packet), it)) {
            Err(fate) => return fate,
            Ok((endpoint, marked)) => {
                // A pod that reaches itself is marked too, which the specification does not count.
                masqueraded |= marked && endpoint.ip() != packet.source.ip();
                endpoints.insert(endpoint);
            }
        }
        choice += 1;
    }
    Fate::Balanced { endpoints, masqueraded }
}

fn with<T>(
    program: &Program,
    recent: &mut RecentLists,
    choice: u32,
    choices: &mut u32,
    act: impl FnOnce(&mut Surroundings<'_>) -> T,
) -> T {
    let mut asked = 0;
    let mut draw = |below: u32| {
        asked += 1;
        *choices = (*choices).max(asked + 1);
        if asked > choice { 0 } else { below - 1 }
    };
    let is_local = |ip: IpAddr| program.is_own_address(ip);
    let now = Duration::from_secs(1_000_000);
    act(&mut Surroundings { random: &mut draw, is_local: &is_local, now, recent })
}

/// A client that comes again is served by whom it was served before, whatever it draws.
fn assert_kept(program: &Program, rules: &RuleSet, packet: Packet) {
    for first in [0, 1, 2] {
        let mut recent = RecentLists::default();
        let mut again = |choice| {
            with(program, &mut recent, choice, &mut 0, |it| pass(rules, seen(packet), it)).unwrap()
        };
        assert_eq!(again(first).0, again(0).0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn specification_trace_and_rules_agree(
        world in world(),
        settings in any_settings(),
        shots in prop::collection::vec(shot(), 16),
    ) {
        let program = compiled(&world, &settings);
        let rules = Family::ALL.map(|family| lower::rules(&program, &frame(&program, family)));
        for rules in &rules {
            prop_assert_eq!(&RuleSet::parse(&rules.to_string()).unwrap(), rules);
        }
        for shot in shots {
            let packet = shot.at(&program);
            let rules = &rules[Family::of(packet.source.ip()) as usize];
            let specified = fate(&world, &settings, &packet, arrival(packet.source.ip()));
            let masqueraded = matches!(specified, Fate::Balanced { masqueraded: true, .. });
            prop_assert_eq!(&traced(&program, packet, masqueraded), &specified, "trace of {:?}", packet);
            let mut evaluated = evaluated(&program, rules, packet);
            if let (Fate::Balanced { masqueraded, endpoints }, Fate::Balanced { masqueraded: told, .. }) =
                (&mut evaluated, &specified)
                && endpoints.iter().all(|it| it.ip() == packet.source.ip())
            {
                *masqueraded = *told;
            }
            prop_assert_eq!(&evaluated, &specified, "rules on {:?}", packet);
            if let (Fate::Balanced { .. }, Some(_)) = (&specified, affinity(&program, &packet)) {
                assert_kept(&program, rules, packet);
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn changes_of_rules_add_up_to_the_whole(changes in changes(), settings in any_settings()) {
        let mut world = World::from_objects(nodes());
        let mut program = compiled(&world, &settings);
        let mut all = Family::ALL.map(|family| lower::rules(&program, &frame(&program, family)));
        let mut indices = Family::ALL.map(|family| Index::of(&program, family));
        for change in changes {
            let touched: BTreeSet<Touched> = world.apply(change).into_iter().collect();
            let mut made = Vec::new();
            for touched in &touched {
                made.extend(compile::recompile(&mut program, &world, crate::cluster::NODE, &settings, touched).0);
            }
            let anew = made.iter().any(lower::is_of_frame);
            for ((rules, index), family) in all.iter_mut().zip(&mut indices).zip(Family::ALL) {
                let frame = frame(&program, family);
                let whole = lower::rules(&program, &frame);
                let between = |rules: &RuleSet| {
                    with_scope(&frame, |scope| Delta::between(rules, &whole, scope))
                };
                if anew {
                    between(rules).apply(rules);
                    *index = Index::of(&program, family);
                } else {
                    let delta = lower::changes(index, &frame, &made);
                    prop_assert_eq!(touched_chains(&delta), touched_chains(&between(rules)), "more than need be");
                    delta.apply(rules);
                }
                let left = between(rules);
                prop_assert!(left.is_empty(), "{}", left);
                prop_assert_eq!(&*index, &Index::of(&program, family));
            }
        }
    }
}

fn touched_chains(delta: &Delta) -> BTreeSet<(netstate::iptables::TableName, String)> {
    let tables = delta.tables.iter();
    tables.flat_map(|(table, it)| it.chains.keys().map(|chain| (*table, chain.clone()))).collect()
}
