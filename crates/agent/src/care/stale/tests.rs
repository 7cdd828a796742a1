use super::*;
use kernel::conntrack::{Ends, Tuple};
use model::{Family, Kind, ObjectKey, Origin};
use program::{Action, Binding, FrontendKind, NodePortAddresses, Scope, ServicePortName};
use std::collections::BTreeSet;
use std::net::IpAddr;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// `protocol client -> front end, answered by`, in conntrack's terms.
fn connection(protocol: Protocol, frontend: &str, answers: &str) -> Connection {
    let (client, frontend, answers) =
        (address("10.244.0.9:4000"), address(frontend), address(answers));
    let tuple = |source: SocketAddr, destination: SocketAddr| Tuple {
        source: source.ip(),
        destination: destination.ip(),
        protocol: protocol.number(),
        ends: Ends::Ports { source: source.port(), destination: destination.port() },
    };
    Connection {
        original: tuple(client, frontend),
        reply: tuple(answers, client),
        zone: 0,
        status: if frontend == answers { 0 } else { 1 << 5 },
        mark: 0,
        timeout: None,
        tcp_state: (protocol == Protocol::Tcp).then_some(TcpState::Established),
        counts: None,
        id: 1,
    }
}

fn binding(standing: &[(&str, bool)]) -> Binding {
    let standing = standing.iter();
    Binding {
        port: ServicePortName { service: ObjectKey::new("d", "s"), port: "".into() },
        kind: FrontendKind::ClusterIp,
        origin: Origin::new(Kind::Service, &"d".into(), &"s".into(), ""),
        sources: None,
        action: Action::Reject,
        affinity: None,
        scheduler: None,
        standing: standing
            .map(|(text, serving)| (address(text), *serving))
            .map(|(at, serving)| Standing { ip: at.ip(), port: at.port(), serving })
            .collect(),
    }
}

fn frontend(scope: Scope, protocol: Protocol, port: u16) -> Frontend {
    Frontend { scope, protocol, port }
}

fn cluster_ip(protocol: Protocol) -> Frontend {
    frontend(Scope::Address(IpAddr::from([10, 96, 0, 5])), protocol, 53)
}

const NODE_PORT: Frontend =
    Frontend { scope: Scope::NodePort(Family::V4), protocol: Protocol::Udp, port: 30053 };

fn frontends(within: Option<&str>) -> Frontends {
    let within = within.map(|net| vec![net.parse().unwrap()]);
    let mut program = Program {
        addresses: vec![IpAddr::from([10, 1, 1, 110]), IpAddr::from([10, 1, 1, 111])],
        node_ports: NodePortAddresses { within, localhost: BTreeSet::new() },
        ..Program::default()
    };
    let standing = [("10.244.0.5:53", true), ("10.244.0.6:53", false)];
    let bindings = [cluster_ip(Protocol::Udp), cluster_ip(Protocol::Tcp), NODE_PORT];
    let bindings = bindings.into_iter().map(|frontend| (frontend, binding(&standing))).collect();
    program.replace_service(&ObjectKey::new("d", "s"), bindings, BTreeMap::new());
    Frontends::of(program)
}

#[test]
fn stale_is_what_goes_through_a_front_end_to_nobody_who_serves() {
    let udp = Protocol::Udp;
    let rows = [
        ("10.96.0.5:53", "10.244.0.5:53", false, "a serving endpoint"),
        ("10.96.0.5:53", "10.244.0.6:53", true, "one that no longer serves"),
        ("10.96.0.5:53", "10.244.0.7:53", true, "one that is gone"),
        ("10.96.0.5:53", "10.244.0.5:54", true, "another port"),
        ("10.96.0.5:53", "10.96.0.5:53", true, "sent before there was a Service"),
        ("10.96.0.5:54", "10.244.0.7:53", false, "another port of the address"),
        ("10.96.0.6:53", "10.244.0.7:53", false, "somebody else's address"),
        ("10.1.1.110:30053", "10.244.0.7:53", true, "the node port"),
        ("10.1.1.111:30053", "10.244.0.7:53", false, "an address without node ports"),
        ("10.1.1.99:30053", "10.1.1.99:30053", false, "another machine's port of that number"),
        ("127.0.0.1:30053", "127.0.0.1:30053", false, "a process of the node"),
    ];
    let frontends = frontends(None);
    let touched = frontends.all();
    for (to, answers, stale, why) in rows {
        let connection = connection(udp, to, answers);
        assert_eq!(frontends.is_stale(&connection, &touched), stale, "{why}");
        assert!(!frontends.is_stale(&connection, &BTreeSet::new()), "{why}, untouched");
    }
}

#[test]
fn prefixes_of_node_ports_hold_for_the_nodes_own_addresses() {
    let mut frontends = frontends(Some("10.1.0.0/16"));
    frontends.learn([IpAddr::from([10, 1, 9, 9])].into_iter());
    let touched = frontends.all();
    for (to, stale) in [
        ("10.1.1.110:30053", true),
        ("10.1.1.111:30053", true),
        ("10.1.9.9:30053", true),
        ("10.1.9.8:30053", false),
    ] {
        let connection = connection(Protocol::Udp, to, "10.244.0.7:53");
        assert_eq!(frontends.is_stale(&connection, &touched), stale, "{to}");
    }
}

#[test]
fn services_without_endpoints_and_removed_ones_leave_nothing() {
    let mut frontends = frontends(None);
    let frontend = cluster_ip(Protocol::Udp);
    let translated = connection(Protocol::Udp, "10.96.0.5:53", "10.244.0.5:53");
    let untranslated = connection(Protocol::Udp, "10.96.0.5:53", "10.96.0.5:53");
    let change = |before, after| Change::Frontend { frontend, before, after };
    let touched = frontends.change(change(None, Some(binding(&[])))).into_iter().collect();
    assert!(frontends.is_stale(&translated, &touched), "no endpoint is left");
    let touched = frontends.change(change(Some(binding(&[])), None)).into_iter().collect();
    assert!(frontends.is_stale(&translated, &touched), "the Service is removed");
    assert!(!frontends.is_stale(&untranslated, &touched), "nobody translated this");
    frontends.settle();
    assert!(!frontends.is_stale(&translated, &touched), "the address is somebody else's now");
}

#[test]
fn only_lost_endpoints_are_gone() {
    let frontends = frontends(None);
    let frontend = cluster_ip(Protocol::Tcp);
    let before = binding(&[("10.244.0.5:53", true), ("10.244.0.7:53", true)]);
    let after = binding(&[("10.244.0.5:53", true), ("10.244.0.6:53", false)]);
    let mut gone = Gone::default();
    gone.note(&Change::Frontend { frontend, before: Some(before.clone()), after: None });
    assert!(gone.is_nothing(), "a removed Service says nothing about its endpoints");
    gone.note(&Change::Frontend { frontend, before: Some(before), after: Some(after) });
    assert_eq!(gone, Gone::Of([(frontend, address("10.244.0.7:53"))].into()));
    for (answers, named, any) in [
        ("10.244.0.7:53", true, true),
        ("10.244.0.8:53", false, true),
        ("10.244.0.6:53", false, false),
        ("10.96.0.5:53", false, false),
    ] {
        let connection = connection(Protocol::Tcp, "10.96.0.5:53", answers);
        assert_eq!(frontends.is_to_gone(&connection, &gone), named, "{answers}");
        assert_eq!(frontends.is_to_gone(&connection, &Gone::Any), any, "{answers}, any");
        let closing = Connection { tcp_state: Some(TcpState::FinWait), ..connection };
        assert!(!frontends.is_to_gone(&closing, &gone), "{answers}, closing");
    }
}
