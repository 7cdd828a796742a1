//! Rules of iptables in the words of the program again: as they were lowered, as the kernel has them, and as
//! kube-proxy writes them.

use crate::agreement::drawn;
use crate::cluster::{any_settings, nodes, world};
use crate::lowering::compiled;
use crate::space::{Space, as_root};
use backend::iptables::frame::Frame;
use backend::iptables::{Backend, Variant, lower, read};
use backend::{Fate, Served};
use ipnet::IpNet;
use model::{Family, World};
use netstate::iptables::RuleSet;
use program::{Action, Binding, Frontend, Pool, Program, Scope};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// A front end without an order of its endpoints, and without what counts.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    address: Option<IpAddr>,
    protocol: u8,
    port: u16,
    /// Names what becomes of a connection, with the endpoints for each kind of source.
    fate: (&'static str, [BTreeSet<SocketAddr>; 2]),
    sources: BTreeSet<IpNet>,
    affinity: Option<u32>,
    /// `namespace/name` of the Service.
    service: String,
}

fn read_back(served: &Served) -> Told {
    let set = |endpoints: &[SocketAddr]| endpoints.iter().copied().collect();
    let fate = match &served.fate {
        Fate::Balanced { endpoints } => ("balanced", [set(endpoints), set(&[])]),
        Fate::BySource { inside, outside } => ("by source", [set(inside), set(outside)]),
        Fate::Refused => ("refused", [set(&[]), set(&[])]),
        Fate::NotHere => ("not here", [set(&[]), set(&[])]),
    };
    let origin = served.origin.as_ref().expect("every rule says whose it is");
    Told {
        address: served.address,
        protocol: served.protocol,
        port: served.port,
        fate,
        sources: served.sources.iter().copied().collect(),
        affinity: served.affinity,
        service: format!("{}/{}", origin.namespace, origin.name),
    }
}

fn told(frontend: &Frontend, binding: &Binding) -> Told {
    let set = |pool: &Pool| pool.endpoints.iter().map(|it| it.address()).collect();
    let fate = match &binding.action {
        Action::Balance { pool, .. } => ("balanced", [set(pool), BTreeSet::new()]),
        Action::BySource { inside, outside } => {
            ("by source", [set(inside), outside.as_deref().map(set).unwrap_or_default()])
        }
        Action::Reject => ("refused", Default::default()),
        Action::Drop => ("not here", Default::default()),
    };
    let family = frontend.scope.family();
    // Who is served by nobody comes back to nobody.
    let affinity = binding.affinity.filter(|_| binding.action.pools().next().is_some());
    let sources = binding.sources.iter().flat_map(|sources| sources.iter());
    Told {
        address: match frontend.scope {
            Scope::Address(address) => Some(address),
            Scope::NodePort(_) => None,
        },
        protocol: frontend.protocol.number(),
        port: frontend.port,
        fate,
        sources: sources.filter(|net| Family::of_net(net) == family).copied().collect(),
        affinity: affinity.map(|it| it.as_secs().try_into().unwrap()),
        service: binding.port.service.to_string(),
    }
}

fn lowered(program: &Program, family: Family) -> RuleSet {
    lower::rules(program, &Frame::of(program, family, false))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_was_lowered_reads_back(world in world(), settings in any_settings()) {
        let program = compiled(&world, &settings);
        for family in Family::ALL {
            let of_family = program.services.iter().filter(|(at, _)| at.scope.family() == family);
            let told: BTreeSet<_> = of_family.map(|(at, binding)| told(at, binding)).collect();
            let rules = lowered(&program, family);
            let text = RuleSet::parse(&rules.to_string()).unwrap();
            let read = read::services(&text, family);
            prop_assert_eq!(read.iter().map(read_back).collect::<BTreeSet<_>>(), told, "{}", rules);
        }
    }
}

#[test]
fn both_variants_save_what_reads_back() {
    as_root("iptables_reading::both_variants_save_what_reads_back", || {
        let mut number = 0;
        for (variant, seed) in Variant::ALL.into_iter().flat_map(|it| [(it, 1), (it, 3), (it, 9)]) {
            let (settings, changes, _) = drawn(seed);
            let mut world = World::from_objects(nodes());
            changes.into_iter().for_each(|change| drop(world.apply(change)));
            let program = compiled(&world, &settings);
            let read = Space::new().inside(|| {
                Backend::of(variant).reconcile(&program).unwrap();
                read::podways().unwrap().served
            });
            let lowered = Family::ALL.map(|it| read::services(&lowered(&program, it), it)).concat();
            number += read.len();
            let told = |all: &[Served]| all.iter().map(read_back).collect::<Vec<_>>();
            assert_eq!(told(&read), told(&lowered), "{variant:?}");
        }
        assert!(number > 10, "{number} front ends");
    });
}

/// As `iptables-save --counters` prints kube-proxy's rules, in the words of both variants.
const KUBE_PROXYS: &str = "
*filter
:KUBE-SERVICES - [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
[0:0] -A KUBE-SERVICES -d 10.96.0.9/32 -p tcp -m comment --comment \"default/none has no endpoints\" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable
[0:0] -A KUBE-EXTERNAL-SERVICES -d 10.1.1.200/32 -p tcp -m comment --comment \"default/far:http has no local endpoints\" -m tcp --dport 80 -j DROP
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-SVC-ULMVA6XWGDJ2N6AF - [0:0]
:KUBE-EXT-ULMVA6XWGDJ2N6AF - [0:0]
:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SEP-BBBBBBBBBBBBBBBB - [0:0]
[7:420] -A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment \"default/web cluster IP\" -m tcp --dport 80 -j KUBE-SVC-ULMVA6XWGDJ2N6AF
[9:99] -A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
[2:120] -A KUBE-NODEPORTS -p tcp -m comment --comment \"default/web\" -m tcp --dport 30080 -j KUBE-EXT-ULMVA6XWGDJ2N6AF
[2:120] -A KUBE-EXT-ULMVA6XWGDJ2N6AF -m comment --comment \"masquerade traffic for default/web external destinations\" -j KUBE-MARK-MASQ
[2:120] -A KUBE-EXT-ULMVA6XWGDJ2N6AF -j KUBE-SVC-ULMVA6XWGDJ2N6AF
[0:0] -A KUBE-SVC-ULMVA6XWGDJ2N6AF ! -s 10.244.0.0/16 -d 10.96.0.1/32 -p tcp -m comment --comment \"default/web cluster IP\" -m tcp --dport 80 -j KUBE-MARK-MASQ
[4:240] -A KUBE-SVC-ULMVA6XWGDJ2N6AF -m comment --comment \"default/web -> 10.244.1.2:8080\" -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-AAAAAAAAAAAAAAAA --mask 255.255.255.255 --rsource -j KUBE-SEP-AAAAAAAAAAAAAAAA
[1:60] -A KUBE-SVC-ULMVA6XWGDJ2N6AF -m comment --comment \"default/web -> 10.244.1.2:8080\" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-AAAAAAAAAAAAAAAA
[4:240] -A KUBE-SVC-ULMVA6XWGDJ2N6AF -m comment --comment \"default/web -> 10.244.1.3:8080\" -j KUBE-SEP-BBBBBBBBBBBBBBBB
[0:0] -A KUBE-SEP-AAAAAAAAAAAAAAAA -s 10.244.1.2/32 -m comment --comment \"default/web\" -j KUBE-MARK-MASQ
[5:300] -A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m comment --comment \"default/web\" -m tcp -j DNAT --to-destination 10.244.1.2:8080
[4:240] -A KUBE-SEP-BBBBBBBBBBBBBBBB -p tcp -m comment --comment \"default/web\" -m tcp -j DNAT --to-destination 10.244.1.3:8080
COMMIT
";

#[test]
fn kube_proxys_own_rules_read_back() {
    let rules = RuleSet::parse(KUBE_PROXYS).unwrap();
    let read = read::services(&rules, Family::V4);
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let endpoints = BTreeSet::from([at("10.244.1.2:8080"), at("10.244.1.3:8080")]);
    let told = |address: &str, port, fate, endpoints: &BTreeSet<_>, affinity, service: &str| Told {
        address: address.parse().ok(),
        protocol: 6,
        port,
        fate: (fate, [endpoints.clone(), BTreeSet::new()]),
        sources: BTreeSet::new(),
        affinity,
        service: service.to_owned(),
    };
    let nobody = BTreeSet::new();
    assert_eq!(
        read.iter().map(read_back).collect::<Vec<_>>(),
        [
            told("10.1.1.200", 80, "not here", &nobody, None, "default/far"),
            told("10.96.0.1", 80, "balanced", &endpoints, Some(10800), "default/web"),
            told("10.96.0.9", 80, "refused", &nobody, None, "default/none"),
            told("", 30080, "balanced", &endpoints, Some(10800), "default/web"),
        ]
    );
    let connections: Vec<_> = read.iter().map(|it| it.connections.map(|it| it.packets)).collect();
    assert_eq!(connections, [None, Some(7), None, Some(2)]);
}
