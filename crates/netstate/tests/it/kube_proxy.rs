//! A dump of a node whose rules kube-proxy wrote, and what it does with packets.

use netstate::eval::{Ending, Packet};
use netstate::iptables::{RecentLists, RuleSet, Surroundings, evaluate};
use netstate::nft::HookPoint;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Services: `web` (two endpoints, node port 30080), `sticky` (affinity), `local` (external policy Local, source
/// ranges), `none` (no endpoints), `gone` (no local endpoints).
const DUMP: &str = include_str!("kube-proxy.rules");

const NODE: &str = "10.1.1.111";
const CLIENT: &str = "10.1.1.250";
const POD: &str = "10.244.1.7";

struct Node {
    rules: RuleSet,
    recent: RecentLists,
    now: Duration,
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Arrives { at: SocketAddr, masqueraded: bool },
    Ends(Ending),
}

fn node() -> Node {
    let rules = RuleSet::parse(DUMP).unwrap();
    Node { rules, recent: RecentLists::default(), now: Duration::from_secs(1_000_000) }
}

impl Node {
    /// A new connection on its way through the node; `draw` decides what is left to chance.
    fn send(&mut self, protocol: u8, from: &str, to: &str, draw: u32) -> Seen {
        let to: SocketAddr = to.parse().unwrap();
        let mut packet = Packet {
            source: from.parse().unwrap(),
            destination: to.ip(),
            protocol,
            source_port: 40_000,
            destination_port: to.port(),
            mark: 0,
            conntrack_state: 8,
            conntrack_status: 0,
            input_interface: "eth0".to_owned(),
            original: None,
            priority: 0,
            masquerade: false,
        };
        let local = |address: IpAddr| address == NODE.parse::<IpAddr>().unwrap();
        let mut draws = |_below| draw;
        let mut surroundings = Surroundings {
            random: &mut draws,
            is_local: &local,
            now: self.now,
            recent: &mut self.recent,
        };
        let first = if from == NODE { HookPoint::Output } else { HookPoint::Prerouting };
        let mut hooks = vec![first];
        while let Some(hook) = hooks.pop() {
            match evaluate(&self.rules, hook, &mut packet, &mut surroundings) {
                Ending::Accepted => {}
                ending => return Seen::Ends(ending),
            }
            hooks.extend(match hook {
                HookPoint::Prerouting if local(packet.destination) => Some(HookPoint::Input),
                HookPoint::Prerouting => Some(HookPoint::Forward),
                HookPoint::Output | HookPoint::Forward => Some(HookPoint::Postrouting),
                HookPoint::Input | HookPoint::Postrouting => None,
            });
        }
        let at = (packet.destination, packet.destination_port).into();
        Seen::Arrives { at, masqueraded: packet.masquerade }
    }
}

fn at(end: &str, masqueraded: bool) -> Seen {
    Seen::Arrives { at: end.parse().unwrap(), masqueraded }
}

const ALWAYS: u32 = 0;
const NEVER: u32 = (1 << 31) - 1;

#[test]
fn every_shape_does_what_its_service_says() {
    let (dropped, refused) = (|| Seen::Ends(Ending::Dropped), || Seen::Ends(Ending::Rejected));
    for (what, from, to, draw, seen) in [
        ("a pod, cluster IP", POD, "10.96.0.10:80", ALWAYS, at("10.244.1.2:8080", false)),
        ("the other endpoint", POD, "10.96.0.10:80", NEVER, at("10.244.2.3:8080", false)),
        ("from outside", CLIENT, "10.96.0.10:80", ALWAYS, at("10.244.1.2:8080", true)),
        ("the node itself", NODE, "10.96.0.10:80", NEVER, at("10.244.2.3:8080", true)),
        ("hairpin", "10.244.1.2", "10.96.0.10:80", ALWAYS, at("10.244.1.2:8080", true)),
        ("node port", CLIENT, "10.1.1.111:30080", ALWAYS, at("10.244.1.2:8080", true)),
        ("node port, by a pod", POD, "10.1.1.111:30080", NEVER, at("10.244.2.3:8080", true)),
        ("another address", CLIENT, "10.1.1.112:30080", ALWAYS, at("10.1.1.112:30080", false)),
        ("another port", POD, "10.96.0.10:81", ALWAYS, at("10.96.0.10:81", false)),
        ("local, outside", CLIENT, "10.1.1.111:30443", ALWAYS, at("10.244.1.4:8443", false)),
        ("local, a pod", POD, "10.1.1.111:30443", NEVER, at("10.244.3.5:8443", false)),
        ("local, the node", NODE, "10.1.1.111:30443", NEVER, at("10.244.3.5:8443", true)),
        ("allowed source", CLIENT, "203.0.113.5:443", ALWAYS, at("10.244.1.4:8443", false)),
        ("other source", "10.9.9.9", "203.0.113.5:443", ALWAYS, dropped()),
        ("no endpoints", POD, "10.96.0.13:80", ALWAYS, refused()),
        ("no endpoints, the node", NODE, "10.96.0.13:80", ALWAYS, refused()),
        ("no local endpoint", CLIENT, "10.1.1.111:30099", ALWAYS, dropped()),
        ("no local endpoint, a pod", POD, "10.1.1.111:30099", ALWAYS, at("10.244.2.9:9", false)),
    ] {
        assert_eq!(node().send(6, from, to, draw), seen, "{what}");
    }
    assert_eq!(node().send(17, POD, "10.96.0.10:80", ALWAYS), at("10.96.0.10:80", false), "UDP");
}

#[test]
fn a_client_keeps_its_endpoint_for_as_long_as_is_told() {
    let mut node = node();
    let one = node.send(6, POD, "10.96.0.11:80", NEVER);
    assert_eq!(one, at("10.244.2.6:80", false));
    for (later, draw, seen) in [
        (10_799, ALWAYS, "10.244.2.6:80"),
        (10_800, ALWAYS, "10.244.2.6:80"),
        (10_801, ALWAYS, "10.244.1.5:80"),
    ] {
        node.now += Duration::from_secs(later);
        assert_eq!(node.send(6, POD, "10.96.0.11:80", draw), at(seen, false), "after {later} s");
    }
    assert_eq!(node.send(6, "10.244.1.8", "10.96.0.11:80", ALWAYS), at("10.244.1.5:80", false));
}

#[test]
fn what_is_not_understood_ends_by_name() {
    for (rule, named) in [
        ("-m limit --limit 5/min -j ACCEPT", "-m limit --limit 5/min"),
        (
            "-m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT",
            "-m set --match-set KUBE-CLUSTER-IP dst,dst",
        ),
        ("-o eth0 -j ACCEPT", "-o eth0"),
        ("-j LOG --log-prefix x", "LOG --log-prefix x"),
        ("-j NOWHERE", "no chain NOWHERE"),
        ("-j LOOP", "jumps too deep"),
    ] {
        let text = format!(
            "*nat\n:PREROUTING ACCEPT [0:0]\n:LOOP - [0:0]\n-A PREROUTING {rule}\n-A LOOP -j LOOP\nCOMMIT\n"
        );
        let mut node = Node { rules: RuleSet::parse(&text).unwrap(), ..node() };
        let Seen::Ends(Ending::Unknown(what)) = node.send(6, POD, "10.96.0.10:80", 0) else {
            panic!("{rule}");
        };
        assert_eq!(what, named);
    }
}
