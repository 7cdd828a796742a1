use super::*;
use kernel::conntrack::{Counts, Ends, Tuple};
use kernel::nft::Count;
use model::{Kind, ObjectKey, Origin, Protocol};
use program::{Action, Binding, FrontendKind, Scope};
use proptest::prelude::*;

const FRONTEND: &str = "10.96.0.5:80";
const ENDPOINTS: [&str; 2] = ["10.244.0.5:8080", "10.244.0.6:8080"];

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn frontend() -> Frontend {
    let address = address(FRONTEND);
    let scope = Scope::Address(address.ip());
    Frontend { scope, protocol: Protocol::Tcp, port: address.port() }
}

fn connection(id: u32, answers: &str, octets: (u64, u64)) -> Connection {
    let tuple = |source: SocketAddr, destination: SocketAddr| Tuple {
        source: source.ip(),
        destination: destination.ip(),
        protocol: 6,
        ends: Ends::Ports { source: source.port(), destination: destination.port() },
    };
    let (client, asked) = (address("10.244.0.9:4000"), address(FRONTEND));
    let count = |octets| Count { packets: 1, octets };
    Connection {
        original: tuple(client, asked),
        reply: tuple(address(answers), client),
        zone: 0,
        status: 1 << 5,
        mark: 0,
        timeout: None,
        tcp_state: Some(TcpState::Established),
        counts: Some(Counts { original: count(octets.0), reply: count(octets.1) }),
        id,
    }
}

fn binding(service: &str, standing: &[&str]) -> Binding {
    let standing = standing.iter().map(|it| {
        let address = address(it);
        Standing { ip: address.ip(), port: address.port(), serving: true }
    });
    Binding {
        port: ServicePortName { service: ObjectKey::new("d", service), port: "".into() },
        kind: FrontendKind::ClusterIp,
        origin: Origin::new(Kind::Service, &"d".into(), &service.into(), ""),
        sources: None,
        action: Action::Reject,
        affinity: None,
        scheduler: None,
        standing: standing.collect(),
    }
}

fn ledger(standing: &[&str]) -> Ledger {
    let mut ledger = Ledger::default();
    let after = Some(binding("s", standing));
    ledger.change(Change::Frontend { frontend: frontend(), before: None, after });
    ledger
}

fn settle(ledger: &mut Ledger, there: &[Connection], late: &[Connection]) {
    let mut census = Census::default();
    there.iter().for_each(|connection| ledger.count(&mut census, connection));
    ledger.settle(census, late);
}

/// Connections, open ones, octets there and back of the front end.
fn told(ledger: &Ledger) -> (u64, u64, u64, u64) {
    let accounts = ledger.accounts();
    let account = accounts.frontends.first().map(|(_, _, account)| *account).unwrap_or_default();
    let Sum { connections, request_octets, reply_octets } = account.told;
    (connections, account.active, request_octets, reply_octets)
}

#[test]
fn what_is_open_and_what_has_ended_adds_up() {
    let mut ledger = ledger(&ENDPOINTS);
    let [a, b] = ENDPOINTS;
    settle(&mut ledger, &[connection(1, a, (10, 20)), connection(2, b, (1, 2))], &[]);
    assert_eq!(told(&ledger), (2, 2, 11, 22));
    // One ends with more than was seen, another one comes.
    ledger.end(&connection(1, a, (100, 200)));
    settle(&mut ledger, &[connection(2, b, (1, 2)), connection(3, a, (5, 5))], &[]);
    assert_eq!(told(&ledger), (3, 2, 106, 207));
    let of_endpoints: Vec<_> = ledger
        .accounts()
        .endpoints
        .iter()
        .map(|(it, account)| (it.address, account.told.connections))
        .collect();
    assert_eq!(of_endpoints, [(address(a), 2), (address(b), 1)]);
    // What is closed but not forgotten yet is not open.
    let closed = Connection { tcp_state: Some(TcpState::TimeWait), ..connection(3, a, (5, 5)) };
    settle(&mut ledger, &[connection(2, b, (1, 2)), closed], &[]);
    assert_eq!(told(&ledger), (3, 1, 106, 207));
}

#[test]
fn what_ends_during_a_census_counts_once() {
    let mut ledger = ledger(&ENDPOINTS);
    // The first one was still there when it was counted.
    let late = [connection(1, ENDPOINTS[0], (10, 10)), connection(2, ENDPOINTS[0], (3, 3))];
    settle(&mut ledger, &late[..1], &late);
    assert_eq!(told(&ledger), (2, 1, 13, 13));
    settle(&mut ledger, &[], &[]);
    assert_eq!(told(&ledger), (2, 0, 13, 13));
}

#[test]
fn those_that_end_unheard_count_as_they_were_seen() {
    let mut ledger = ledger(&ENDPOINTS);
    let all: Vec<_> = (0..10).map(|id| connection(id, ENDPOINTS[0], (100, 0))).collect();
    settle(&mut ledger, &all, &[]);
    settle(&mut ledger, &all[..3], &[]);
    assert_eq!(told(&ledger), (10, 3, 1000, 0));
    settle(&mut ledger, &[], &[]);
    assert_eq!(told(&ledger), (10, 0, 1000, 0));
    // And those that come later are not swallowed by it.
    let more: Vec<_> = (20..25).map(|id| connection(id, ENDPOINTS[0], (1, 0))).collect();
    settle(&mut ledger, &more, &[]);
    assert_eq!(told(&ledger), (15, 5, 1005, 0));
}

#[test]
fn only_connections_to_endpoints_count() {
    let mut ledger = ledger(&ENDPOINTS);
    let refused = connection(1, FRONTEND, (1, 1));
    let mut other = connection(2, ENDPOINTS[0], (1, 1));
    other.original.destination = "10.96.0.6".parse().unwrap();
    settle(&mut ledger, &[refused.clone(), other.clone()], &[]);
    ledger.end(&refused);
    ledger.end(&other);
    assert_eq!(ledger.accounts(), Accounts::default());
}

#[test]
fn what_is_gone_is_forgotten() {
    let mut ledger = ledger(&ENDPOINTS);
    let [a, b] = ENDPOINTS;
    let both = [connection(1, a, (1, 1)), connection(2, b, (1, 1))];
    settle(&mut ledger, &both, &[]);
    let before = Some(binding("s", &ENDPOINTS));
    let after = Some(binding("s", &ENDPOINTS[..1]));
    ledger.change(Change::Frontend { frontend: frontend(), before, after });
    settle(&mut ledger, &both, &[]);
    assert_eq!(ledger.accounts().endpoints.len(), 2, "it has a connection still");
    settle(&mut ledger, &both[..1], &both[1..]);
    assert_eq!(ledger.accounts().endpoints.len(), 1);
    assert_eq!(told(&ledger).0, 2, "the Service remembers");
    // Another Service's front end begins at nothing.
    let (before, after) =
        (Some(binding("s", &ENDPOINTS[..1])), Some(binding("t", &ENDPOINTS[..1])));
    ledger.change(Change::Frontend { frontend: frontend(), before, after });
    assert_eq!(told(&ledger).0, 0);
    let before = Some(binding("t", &ENDPOINTS[..1]));
    ledger.change(Change::Frontend { frontend: frontend(), before, after: None });
    settle(&mut ledger, &both[..1], &[]);
    assert_eq!(ledger.accounts(), Accounts::default());
}

/// What happens between two censuses.
#[derive(Debug, Clone)]
enum Event {
    Begin,
    /// The connection of this rank carries more.
    Carry(prop::sample::Index, u8),
    /// It ends; the news of it may be lost.
    End(prop::sample::Index, bool),
    Census,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let index = any::<prop::sample::Index>;
    let event = prop_oneof![
        3 => Just(Event::Begin),
        3 => (index(), any::<u8>()).prop_map(|(which, more)| Event::Carry(which, more)),
        2 => (index(), prop::bool::weighted(0.8)).prop_map(|(which, heard)| Event::End(which, heard)),
        2 => Just(Event::Census),
    ];
    prop::collection::vec(event, 0..60)
}

proptest! {
    /// Sums never go down, and are exact as long as no news is lost; else they lack what was never seen at most.
    #[test]
    fn sums_follow_the_truth(events in events()) {
        let mut ledger = ledger(&ENDPOINTS);
        let (mut open, mut truth, mut next, mut lost) = (Vec::<(u32, u64)>::new(), Sum::default(), 0, false);
        let (mut before, mut seen) = (Sum::default(), Sum::default());
        for event in events.into_iter().chain([Event::Census]) {
            match event {
                Event::Begin => {
                    truth.connections += 1;
                    open.push((next, 0));
                    next += 1;
                }
                Event::Carry(which, more) if !open.is_empty() => {
                    truth.request_octets += u64::from(more);
                    let length = open.len();
                    open[which.index(length)].1 += u64::from(more);
                }
                Event::End(which, heard) if !open.is_empty() => {
                    let (id, octets) = open.swap_remove(which.index(open.len()));
                    if heard {
                        ledger.end(&connection(id, ENDPOINTS[0], (octets, 0)));
                    }
                    lost |= !heard;
                }
                Event::Carry(..) | Event::End(..) => {}
                Event::Census => {
                    let there: Vec<_> =
                        open.iter().map(|(id, octets)| connection(*id, ENDPOINTS[0], (*octets, 0))).collect();
                    settle(&mut ledger, &there, &[]);
                    let (connections, active, request_octets, _) = told(&ledger);
                    let now = Sum { connections, request_octets, reply_octets: 0 };
                    prop_assert_eq!(active, open.len() as u64);
                    prop_assert!(now.connections >= before.connections && now.request_octets >= before.request_octets);
                    prop_assert!(now.connections <= truth.connections && now.request_octets <= truth.request_octets);
                    if !lost {
                        prop_assert_eq!(now, truth);
                    }
                    prop_assert!(now.connections >= seen.connections);
                    (before, seen) = (now, Sum { connections: now.connections.max(open.len() as u64), ..now });
                }
            }
        }
    }
}
