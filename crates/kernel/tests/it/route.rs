//! Links and what hangs on them.

use crate::space::{another, assert_line, inside, isolated, run};
use kernel::netlink::{Monitor, Socket};
use kernel::route::{self, Change, NewLink, Peer};
use kernel::{Errno, Error};
use netstate::link::Vxlan;
use netstate::{Address, FdbEntry, Link, LinkKind, Local, Neighbour, Route, Unreachable};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::net::{Ipv6Addr, TcpListener};
use std::os::fd::AsFd;
use wire::Mac;

const MAC: Mac = Mac([0x0a, 0x58, 0x0a, 0xf4, 0, 7]);

fn link(name: &str, kind: LinkKind) -> Link {
    Link { name: name.into(), kind, mac: None, mtu: None, up: true }
}

fn veth(name: &str) -> Link {
    link(name, LinkKind::Veth { peer: None })
}

fn vxlan() -> Link {
    let vxlan = Vxlan {
        vni: 1,
        port: 8472,
        local: "10.1.1.110".parse().unwrap(),
        device: "eth0".into(),
        learning: false,
    };
    Link { mac: Some(MAC), mtu: Some(1450), ..link("flannel.1", LinkKind::Vxlan(vxlan)) }
}

fn address(device: &str, net: &str) -> Address {
    Address { device: device.into(), net: net.parse().unwrap() }
}

fn route(destination: &str, via: Option<&str>, device: &str) -> Route {
    Route {
        destination: destination.parse().unwrap(),
        via: via.map(|via| via.parse().unwrap()),
        device: device.into(),
        onlink: via.is_some(),
        source: None,
        protocol: Route::PODWAY,
    }
}

/// A node as flannel would make it, all in one list.
fn node() -> Vec<Change> {
    vec![
        Change::SetUp { device: "lo".into(), up: true },
        Change::AddLink(link("br0", LinkKind::Bridge)),
        Change::AddLink(link("eth0", LinkKind::Veth { peer: Some("eth0-peer".into()) })),
        Change::SetMaster { device: "eth0-peer".into(), master: Some("br0".into()) },
        Change::SetUp { device: "eth0-peer".into(), up: true },
        Change::AddAddress(address("eth0", "10.1.1.110/24")),
        Change::AddAddress(address("eth0", "fd00:1::110/64")),
        Change::AddLink(vxlan()),
        Change::AddAddress(address("flannel.1", "10.244.0.0/32")),
        Change::AddNeighbour(Neighbour {
            device: "flannel.1".into(),
            address: "10.244.1.0".parse().unwrap(),
            mac: MAC,
        }),
        Change::AddFdb(FdbEntry {
            device: "flannel.1".into(),
            mac: MAC,
            remote: "10.1.1.111".parse().unwrap(),
        }),
        Change::AddRoute(route("10.244.1.0/24", Some("10.244.1.0"), "flannel.1")),
        Change::AddRoute(Route {
            source: Some("10.1.1.110".parse().unwrap()),
            ..route("10.244.0.5/32", None, "br0")
        }),
        Change::AddRoute(Route {
            onlink: false,
            ..route("fd00:2::/64", Some("fd00:1::1"), "eth0")
        }),
        Change::AddUnreachable(Unreachable {
            destination: "10.244.0.0/16".parse().unwrap(),
            protocol: Route::PODWAY,
        }),
        Change::AddRoute(Route { onlink: false, ..route("0.0.0.0/0", Some("10.1.1.1"), "eth0") }),
    ]
}

#[test]
fn a_node_is_made_seen_by_ip_read_back_and_undone() {
    isolated(|| {
        let mut socket = Socket::route().unwrap();
        route::apply(&mut socket, &node()).unwrap();
        let again: Vec<Change> =
            node().into_iter().filter(|change| !matches!(change, Change::AddLink(_))).collect();
        route::apply(&mut socket, &again).unwrap();
        let links = run("ip -d link");
        assert_line(
            &links,
            &["vxlan id 1 local 10.1.1.110 dev eth0", "dstport 8472", "nolearning"],
        );
        assert_line(&links, &["flannel.1", "mtu 1450", "UP"]);
        assert_line(&links, &["eth0-peer", "master br0"]);
        assert_line(
            &run("ip neigh"),
            &["10.244.1.0 dev flannel.1 lladdr 0a:58:0a:f4:00:07 PERMANENT"],
        );
        assert_line(
            &run("bridge fdb show dev flannel.1"),
            &["0a:58:0a:f4:00:07 dst 10.1.1.111 self permanent"],
        );
        assert_line(
            &run("ip route"),
            &["10.244.1.0/24 via 10.244.1.0 dev flannel.1 proto 77 onlink"],
        );
        assert_line(&run("ip route"), &["10.244.0.5 dev br0 proto 77 scope link src 10.1.1.110"]);
        assert_line(&run("ip -6 route"), &["fd00:2::/64 via fd00:1::1 dev eth0 proto 77"]);

        let state = route::read(&mut socket).unwrap();
        assert_eq!(state.links["flannel.1"], vxlan());
        assert_eq!(state.links["eth0"].kind, LinkKind::Veth { peer: Some("eth0-peer".into()) });
        assert_eq!(state.links["lo"].kind, LinkKind::Loopback);
        for change in node() {
            let there = match &change {
                Change::AddAddress(address) => state.addresses.contains(address),
                Change::AddRoute(route) => state.routes.contains(route),
                Change::AddNeighbour(neighbour) => state.neighbours.contains(neighbour),
                Change::AddFdb(entry) => state.fdb.contains(entry),
                Change::AddUnreachable(route) => state.unreachable.contains(route),
                _ => true,
            };
            assert!(there, "{change} in {state:?}");
        }

        let undo: Vec<Change> = node()
            .into_iter()
            .filter_map(|change| match change {
                Change::AddAddress(address) => Some(Change::DeleteAddress(address)),
                Change::AddRoute(route) => Some(Change::DeleteRoute(route)),
                Change::AddNeighbour(neighbour) => Some(Change::DeleteNeighbour(neighbour)),
                Change::AddFdb(entry) => Some(Change::DeleteFdb(entry)),
                Change::AddUnreachable(route) => Some(Change::DeleteUnreachable(route)),
                Change::AddLink(link) => Some(Change::DeleteLink(link.name)),
                _ => None,
            })
            .rev()
            .collect();
        for _twice in 0..2 {
            route::apply(&mut socket, &undo).unwrap();
        }
        let state = route::read(&mut socket).unwrap();
        assert!(state.unreachable.is_empty() && state.fdb.is_empty(), "{state:?}");
        assert!(state.routes.iter().all(|route| route.protocol != Route::PODWAY), "{state:?}");
        assert!(
            !state.links.contains_key("flannel.1") && !state.links.contains_key("br0"),
            "{state:?}"
        );
    });
}

#[test]
fn a_pod_gets_its_pair_in_one_request() {
    isolated(|| {
        let pod = another();
        let mut socket = Socket::route().unwrap();
        let host = Link { mtu: Some(1450), ..veth("pdw00000001") };
        let end = Link { mac: Some(MAC), mtu: Some(1450), ..veth("eth0") };
        let peer = Peer { link: &end, namespace: Some(pod.as_fd()) };
        route::add_link(&mut socket, &NewLink { peer: Some(peer), ..NewLink::new(&host) }).unwrap();

        let found = route::link(&mut socket, "pdw00000001").unwrap().unwrap();
        assert_eq!(found.link.kind, LinkKind::Veth { peer: None }, "the peer is elsewhere");
        assert_eq!((found.link.mtu, found.link.up, found.running), (Some(1450), true, false));
        assert_eq!(route::link_by_index(&mut socket, found.index).unwrap(), Some(found));
        assert_eq!(route::link(&mut socket, "eth0").unwrap(), None);
        let inner = inside(&pod, || {
            let mut socket = Socket::route().unwrap();
            route::link(&mut socket, "eth0").unwrap().unwrap()
        });
        assert_eq!((inner.link.mac, inner.link.mtu, inner.link.up), (Some(MAC), Some(1450), false));

        let error = route::add_link(&mut socket, &NewLink::new(&host)).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EEXIST));
    });
}

#[test]
fn a_link_moves_and_changes_its_name() {
    isolated(|| {
        let there = another();
        let mut socket = Socket::route().unwrap();
        let first = Link { up: false, ..veth("first") };
        route::apply(&mut socket, &[Change::AddLink(first)]).unwrap();
        let changes = [
            Change::Rename { device: "first".into(), name: "second".into() },
            Change::SetMac { device: "second".into(), mac: MAC },
            Change::SetMtu { device: "second".into(), mtu: 1400 },
        ];
        route::apply(&mut socket, &changes).unwrap();
        route::move_link(&mut socket, "second", there.as_fd(), Some("third")).unwrap();
        assert_eq!(route::link(&mut socket, "second").unwrap(), None);
        let found = inside(&there, || {
            route::link(&mut Socket::route().unwrap(), "third").unwrap().unwrap()
        });
        assert_eq!((found.link.mac, found.link.mtu), (Some(MAC), Some(1400)));
    });
}

#[test]
fn refusals_name_operation_object_and_errno() {
    isolated(|| {
        let mut socket = Socket::route().unwrap();
        let changes = [
            Change::SetUp { device: "lo".into(), up: true },
            Change::AddRoute(Route {
                onlink: false,
                ..route("10.9.0.0/16", Some("10.1.1.1"), "lo")
            }),
            Change::AddAddress(address("nowhere", "10.1.1.1/24")),
            Change::AddAddress(address("lo", "10.1.1.1/32")),
            Change::DeleteAddress(address("nowhere", "10.1.1.1/24")),
        ];
        let errors = route::apply(&mut socket, &changes).unwrap_err();
        let texts: Vec<_> = errors.iter().map(Error::to_string).collect();
        let expected = [
            "add route 10.9.0.0/16 via 10.1.1.1 dev lo: ENETUNREACH: Network is unreachable (Nexthop has invalid gateway)",
            "add address 10.1.1.1/24 dev nowhere: no device nowhere: ENODEV: No such device",
        ];
        assert_eq!(texts, expected);
        assert!(route::addresses(&mut socket).unwrap().contains(&address("lo", "10.1.1.1/32")));
    });
}

#[test]
fn thousands_of_routes_go_in_and_come_back() {
    isolated(|| {
        let mut socket = Socket::route().unwrap();
        let routes: Vec<Route> = (0..5000u32)
            .map(|n| route(&format!("10.{}.{}.0/24", 100 + n / 256, n % 256), None, "lo"))
            .collect();
        let mut changes = vec![Change::SetUp { device: "lo".into(), up: true }];
        changes.extend(routes.iter().cloned().map(Change::AddRoute));
        route::apply(&mut socket, &changes).unwrap();
        let found = route::routes(&mut socket).unwrap();
        assert!(routes.iter().all(|route| found.contains(route)));
        assert_eq!(found.len(), routes.len());
    });
}

#[test]
fn a_monitor_hears_of_others_and_not_of_oneself() {
    isolated(|| {
        let mut monitor = Monitor::route().unwrap();
        let mut own = Socket::route().unwrap();
        let mut other = Socket::route().unwrap();
        monitor.ignore(&own).unwrap();
        let loopback = route::link(&mut own, "lo").unwrap().unwrap().index;
        route::apply(&mut own, &[Change::SetUp { device: "lo".into(), up: true }]).unwrap();
        assert!(monitor.drain().unwrap().links.contains(loopback));
        route::apply(&mut own, &[Change::AddAddress(address("lo", "10.3.0.1/32"))]).unwrap();
        assert!(!monitor.drain().unwrap().addresses.any());
        route::apply(&mut other, &[Change::AddAddress(address("lo", "10.3.0.2/32"))]).unwrap();
        let mut watched = [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut watched, PollTimeout::from(5000u16)).unwrap(), 1);
        let changed = monitor.drain().unwrap();
        assert!(changed.addresses.contains(loopback) && changed.locals, "{changed:?}");
        assert!(!changed.addresses.contains(loopback + 1) && !changed.links.any(), "{changed:?}");
        let of_link = Change::AddAddress(address("lo", "fe80::1/64"));
        let way = Change::AddRoute(route("10.4.0.0/24", None, "lo"));
        route::apply(&mut other, &[of_link, way]).unwrap();
        let changed = monitor.drain().unwrap();
        assert!(changed.routes && !changed.addresses.any() && !changed.locals, "{changed:?}");
    });
}

#[test]
fn an_address_is_local_without_an_interface() {
    isolated(|| {
        let mut socket = Socket::route().unwrap();
        let local = |address: &str, source: &str, protocol| Local {
            address: address.parse().unwrap(),
            device: Local::ANYWHERE.into(),
            source: Some(source.parse().unwrap()),
            protocol,
        };
        let ours = [
            local("10.96.0.1", "10.1.1.110", Route::PODWAY),
            local("fd00:96::1", "fd00:1::110", Route::PODWAY),
        ];
        let theirs = local("10.96.0.2", "10.1.1.110", 99);
        let changes = node().into_iter().chain(ours.clone().map(Change::AddLocal));
        let changes: Vec<_> = changes.chain([Change::AddLocal(theirs.clone())]).collect();
        route::apply(&mut socket, &changes).unwrap();
        let all = ours.iter().chain([&theirs]).cloned().collect();
        assert_eq!(route::locals(&mut socket).unwrap(), all);
        for local in &ours {
            assert!(route::is_local(&mut socket, local.address).unwrap());
            let listener = kernel::stream::listen((local.address, 80).into()).unwrap();
            let client = std::net::TcpStream::connect((local.address, 80)).unwrap();
            assert_eq!(client.local_addr().unwrap().ip(), local.source.unwrap());
            drop(listener);
        }
        let not_ours = Local { protocol: Route::PODWAY, ..theirs.clone() };
        let own = local("10.1.1.110", "10.1.1.110", Route::PODWAY);
        let mut changes: Vec<_> = ours.map(Change::DeleteLocal).into();
        changes.extend([Change::AddLocal(own.clone()), Change::DeleteLocal(own)]);
        changes.extend([Change::DeleteLocal(not_ours), Change::AddLocal(theirs.clone())]);
        route::apply(&mut socket, &changes).unwrap();
        assert_eq!(route::locals(&mut socket).unwrap(), [theirs].into());
        for away in ["10.96.0.1", "fd00:96::1", "192.0.2.1"] {
            assert!(!route::is_local(&mut socket, away.parse().unwrap()).unwrap(), "{away}");
        }
        assert!(route::is_local(&mut socket, "10.1.1.110".parse().unwrap()).unwrap());
    });
}

/// The kernel takes it for another route on every device, and packets to ::1 from a device need one there.
#[test]
fn loopback_is_local_on_each_device() {
    isolated(|| {
        let mut socket = Socket::route().unwrap();
        route::apply(&mut socket, &node()).unwrap();
        let links = [veth("pod1"), veth("pod2")].map(Change::AddLink);
        route::apply(&mut socket, &links).unwrap();
        let way = |device: &str| Local {
            address: Ipv6Addr::LOCALHOST.into(),
            device: device.into(),
            source: None,
            protocol: Route::PODWAY,
        };
        let ways = ["pod1", "pod2"].map(way);
        for _again in 0..2 {
            route::apply(&mut socket, &ways.clone().map(Change::AddLocal)).unwrap();
            assert_eq!(route::locals(&mut socket).unwrap(), ways.clone().into());
        }
        route::apply(&mut socket, &[Change::DeleteLocal(way("pod1"))]).unwrap();
        assert_eq!(route::locals(&mut socket).unwrap(), [way("pod2")].into());
        TcpListener::bind("[::1]:80").unwrap();
    });
}
