//! Rule sets that mean nothing but are well-formed.

use netstate::iptables::{
    Chain, Counters, Match, Policy, Protocol, RecentAction, RecentMatch, Rule, RuleSet, Side,
    State, Table, TableName, Target, Translation,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option::of;
use proptest::prelude::*;
use std::net::IpAddr;
use std::ops::RangeInclusive;

pub(crate) fn rule_set() -> impl Strategy<Value = RuleSet> {
    let name = prop::sample::select(TableName::ALL.to_vec());
    let chains = btree_map(chain_name(), chain(), 0..5);
    let table = chains.prop_map(|chains| Table { chains });
    btree_map(name, table, 0..4).prop_map(|tables| RuleSet { tables })
}

fn chain_name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("PREROUTING".to_owned()),
        Just("KUBE-SERVICES".to_owned()),
        "KUBE-SVC-[A-C]{1,2}",
        "cali-[a-z:_.]{1,8}",
    ]
}

fn chain() -> impl Strategy<Value = Chain> {
    let policy = of(prop_oneof![Just(Policy::Accept), Just(Policy::Drop)]);
    (policy, counters(), vec(rule(), 0..5)).prop_map(|(policy, counters, rules)| Chain {
        policy,
        counters,
        rules,
    })
}

fn counters() -> impl Strategy<Value = Counters> {
    any::<(u64, u64)>().prop_map(|(packets, octets)| Counters { packets, octets })
}

pub(crate) fn rule() -> impl Strategy<Value = Rule> {
    (of(counters()), vec(condition(), 0..5), of(target()))
        .prop_map(|(counters, matches, target)| Rule { counters, matches, target })
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Source), Just(Side::Destination)]
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

fn ports() -> impl Strategy<Value = RangeInclusive<u16>> {
    prop_oneof![
        any::<u16>().prop_map(|port| port..=port),
        any::<(u16, u16)>().prop_map(|(a, b)| a.min(b)..=a.max(b)),
    ]
}

/// Text as people write it into comments, and some that nobody should.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,12}",
        Just("default/web:http cluster IP".to_owned()),
        Just("-j".to_owned()),
        Just("! -d \"1.2.3.4\" \\".to_owned()),
        Just("grüße".to_owned()),
    ]
}

fn condition() -> impl Strategy<Value = Match> {
    prop_oneof![header(), module(), special()]
}

fn header() -> impl Strategy<Value = Match> {
    let net =
        (address(), 0..=32_u8).prop_map(|(at, length)| ipnet::IpNet::new(at, length).unwrap());
    let name = || "[a-z0-9.@+-]{1,8}";
    prop_oneof![
        (side(), net, any::<bool>()).prop_map(|(side, net, negate)| Match::Address {
            side,
            net,
            negate
        }),
        (name(), any::<bool>()).prop_map(|(name, negate)| Match::InputInterface { name, negate }),
        (name(), any::<bool>()).prop_map(|(name, negate)| Match::OutputInterface { name, negate }),
        any::<(u8, bool)>().prop_map(|(number, negate)| {
            Match::Protocol { protocol: Protocol(number), negate }
        }),
    ]
}

fn module() -> impl Strategy<Value = Match> {
    let protocol = prop::sample::select(vec![Protocol::TCP, Protocol::UDP, Protocol::SCTP]);
    let states = prop::sample::subsequence(
        vec![
            State::Invalid,
            State::New,
            State::Related,
            State::Established,
            State::Untracked,
            State::Snat,
            State::Dnat,
        ],
        1..7,
    );
    prop_oneof![
        (protocol, side(), ports(), any::<bool>()).prop_map(|(protocol, side, ports, negate)| {
            Match::Port { protocol, side, ports, negate }
        }),
        (of(side()), vec(ports(), 1..4), any::<bool>())
            .prop_map(|(side, ports, negate)| Match::Ports { side, ports, negate }),
        text().prop_map(Match::Comment),
        (side(), "[A-Z]{3,9}", any::<bool>()).prop_map(|(side, kind, negate)| Match::AddressType {
            side,
            kind,
            negate
        }),
        (states, any::<bool>()).prop_map(|(states, negate)| {
            Match::State { states: states.into_iter().collect(), negate }
        }),
        any::<(u32, u32, bool)>().prop_map(|(value, mask, negate)| Match::Mark {
            value,
            mask,
            negate
        }),
    ]
}

fn special() -> impl Strategy<Value = Match> {
    let action = prop::sample::select(vec![
        RecentAction::Set,
        RecentAction::Check,
        RecentAction::Update,
        RecentAction::Remove,
    ]);
    let recent =
        (action, any::<(bool, bool)>(), text(), of(any::<u32>()), of(any::<u32>()), side());
    let recent = recent.prop_map(|(action, (negate, reap), name, seconds, hits, side)| {
        Match::Recent(RecentMatch { action, negate, name, seconds, reap, hits, side })
    });
    let unknown = prop::sample::select(vec![
        "-m limit --limit 5/min",
        "-m physdev ! --physdev-is-bridged",
        "-m string --string \"-j \\\"ACCEPT\\\"\" --algo bm",
        "-f",
        "! -s 10.0.0.0/255.0.255.0",
        "-m tcp --tcp-flags SYN,RST SYN",
    ]);
    prop_oneof![
        (0..=1_u32 << 31).prop_map(Match::Chance),
        recent,
        (text(), "(src|dst),(src|dst)", any::<bool>())
            .prop_map(|(name, directions, negate)| Match::IpSet { name, directions, negate }),
        text().prop_map(Match::Accounted),
        unknown.prop_map(|text| Match::Unknown(text.to_owned())),
    ]
}

fn target() -> impl Strategy<Value = Target> {
    let translation = || {
        (address(), of(any::<u16>()), any::<bool>())
            .prop_map(|(address, port, fully_random)| Translation { address, port, fully_random })
    };
    let unknown = prop::sample::select(vec![
        "LOG --log-prefix \"a b\"",
        "CT --notrack",
        "MASQUERADE --to-ports 1-2",
        "TRACE",
        "DNAT --to-destination 10.0.0.1-10.0.0.9",
    ]);
    prop_oneof![
        Just(Target::Accept),
        Just(Target::Drop),
        Just(Target::Return),
        chain_name().prop_map(Target::Jump),
        chain_name().prop_map(Target::Goto),
        of(Just("tcp-reset".to_owned())).prop_map(|with| Target::Reject { with }),
        any::<(u32, u32)>().prop_map(|(value, mask)| Target::Mark { value, mask }),
        any::<bool>().prop_map(|fully_random| Target::Masquerade { fully_random }),
        translation().prop_map(Target::Dnat),
        translation().prop_map(Target::Snat),
        unknown.prop_map(|text| Target::Unknown(text.to_owned())),
    ]
}

/// Lines that nearly make a dump.
pub(crate) fn rubbish() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        4 => prop::sample::select(vec!["*nat", "*filter", ":A - [0:0]", ":B ACCEPT [1:2]", "COMMIT", "# x"])
            .prop_map(str::to_owned),
        4 => rule().prop_map(|rule| format!("-A A{rule}")),
        2 => "\\PC{0,30}",
        2 => (rule(), any::<prop::sample::Index>()).prop_map(|(rule, at)| {
            let text = format!("[1:2] -A A{rule}");
            text.chars().take(at.index(text.len())).collect()
        }),
        1 => "[-*:!A-Za-z\" \\\\\\[\\]0-9.]{0,40}",
    ];
    vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

pub(crate) fn some_names() -> impl Strategy<Value = std::collections::BTreeSet<String>> {
    btree_set(chain_name(), 0..4)
}
