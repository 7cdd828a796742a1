//! A node in the flesh, kept by the real back ends, and the world around it.
//!
//! ```text
//!  10.1.1.250   10.1.1.111          10.1.1.112   10.1.1.113
//!    client      node-1 ─ pods        node-2       node-3     each with its own flannel.1
//!      │            │                   │            │
//!      └────────────┴─── 10.1.1.1 ──────┴────────────┘        the gateway holds the bridge,
//!                                                             and any address that nobody else has
//! ```

use crate::cluster::{NODE, nodes, settings};
use crate::probe::{Servers, Sight};
use crate::space::{Space, address, host, ip, route};
use backend::{link, nft};
use kernel::conntrack::{self, Which};
use kernel::netlink::Socket;
use kernel::route::Change;
use model::World;
use netstate::{Link, LinkKind, Route};
use program::{Arrival, Packet, Program};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 1, 250));
const NODE_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 1, 111));
/// A pod of node-2 whose packets all go through node-1.
const REMOTE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 2, 2));
/// Every port that packets are sent to is listened on wherever they may end: only rules refuse.
const PORTS: [u16; 11] = [80, 81, 82, 83, 30_000, 30_001, 30_002, 30_003, 8080, 8081, 8082];
/// The host parts of the addresses that pods have.
const HOSTS: std::ops::RangeInclusive<u8> = 2..=7;

/// Held by the testbed that there is: each has six hundred sockets, and a process may have a thousand.
static TURN: Mutex<()> = Mutex::new(());

pub(crate) struct Testbed {
    _turn: MutexGuard<'static, ()>,
    client: Space,
    node: Space,
    /// node-2 and node-3; their pods are addresses on their loopback devices.
    peers: [Space; 2],
    _gateway: Space,
    pods: BTreeMap<Ipv4Addr, Space>,
    wired: BTreeSet<Ipv4Addr>,
    servers: Servers,
    rules: nft::Backend,
    links: link::Backend,
    underlay: link::lower::Underlay,
}

impl Testbed {
    pub(crate) fn new() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gateway = gateway();
        let mut machine = |name: &str, net: &str| {
            let mut space = Space::new();
            gateway.wire(name, Some("underlay"), &mut space);
            space.change([address("eth0", net), route("0.0.0.0/0", Some("10.1.1.1"), "eth0")]);
            space
        };
        let mut client = machine("client", "10.1.1.250/24");
        let mut node = machine("node-1", "10.1.1.111/24");
        let mut peers = [machine("node-2", "10.1.1.112/24"), machine("node-3", "10.1.1.113/24")];
        // What the client sends crosses the node, even to its neighbours.
        let by_node = |net| route(net, Some("10.1.1.111"), "eth0");
        client.change(["0.0.0.0/0", "10.1.1.112/32", "10.1.1.200/32"].map(by_node));
        node.set("net/ipv4/ip_forward", "1");
        let pods = HOSTS.map(|number| pod(&mut node, number)).collect();
        let world = World::from_objects(nodes());
        for (peer, number) in peers.iter_mut().zip(2..) {
            self::peer(peer, number, &world);
        }
        let (rules, mut links) =
            node.inside(|| (nft::Backend::open().unwrap(), link::Backend::open().unwrap()));
        let underlay = links.underlay(NODE_ADDRESS).unwrap();
        let mut servers = Servers::default();
        let pods: BTreeMap<_, _> = pods;
        listen(&mut servers, &gateway, gateway_addresses());
        listen(&mut servers, &node, [Ipv4Addr::new(10, 1, 1, 111)]);
        for (peer, number) in peers.iter().zip(2..) {
            let own = Ipv4Addr::new(10, 1, 1, 110 + number);
            listen(&mut servers, peer, HOSTS.map(|host| pod_address(number, host)).chain([own]));
        }
        for (address, pod) in &pods {
            listen(&mut servers, pod, [*address]);
        }
        let wired = BTreeSet::new();
        Testbed {
            _turn: turn,
            client,
            node,
            peers,
            _gateway: gateway,
            pods,
            wired,
            servers,
            rules,
            links,
            underlay,
        }
    }

    /// As an agent does that starts, whatever is there.
    pub(crate) fn start(&mut self, program: &Program) {
        self.rules = self.node.inside(|| nft::Backend::open().unwrap());
        self.rules.reconcile(program).unwrap();
        self.links.reconcile(program, &self.underlay).unwrap();
        self.wire_pods(program);
        self.node.inside(forget_connections);
    }

    /// As an agent does that hears of changes.
    pub(crate) fn change(&mut self, program: &Program, changes: &[program::Change]) {
        self.rules.change(program, changes).unwrap();
        self.links.change_peers(changes).unwrap();
        self.wire_pods(program);
    }

    /// Finds nothing to do: what was made piece by piece is the whole.
    pub(crate) fn assert_settled(&mut self, program: &Program) {
        assert_eq!(self.rules.reconcile(program).unwrap(), nft::Applied::default());
        assert_eq!(self.links.reconcile(program, &self.underlay).unwrap(), 0);
    }

    /// The CNI plug-in's part: pods that are there have a route.
    fn wire_pods(&mut self, program: &Program) {
        let own = |address: &IpAddr| match address {
            IpAddr::V4(address) => self.pods.contains_key(address).then_some(*address),
            IpAddr::V6(_) => None,
        };
        let wanted: BTreeSet<_> =
            program.pods.iter().filter_map(|(address, _)| own(address)).collect();
        let gone = self.wired.difference(&wanted).map(|pod| Change::DeleteRoute(pod_route(*pod)));
        let new = wanted.difference(&self.wired).map(|pod| Change::AddRoute(pod_route(*pod)));
        let changes: Vec<_> = gone.chain(new).collect();
        self.node.change(changes);
        self.wired = wanted;
    }

    /// How the packet comes to the node; `None` where it does not.
    pub(crate) fn arrival(&self, packet: &Packet) -> Option<Arrival> {
        let (source, destination) = (packet.source.ip(), packet.destination.ip());
        if source == NODE_ADDRESS {
            return Some(Arrival::LocalProcess);
        }
        if source == REMOTE {
            let stays = destination == ip("10.1.1.112") || is_pod_of(2, destination);
            return (!stays).then_some(Arrival::Tunnel);
        }
        if source == destination {
            return None;
        }
        Some(if source == CLIENT { Arrival::Underlay } else { Arrival::Pod })
    }

    /// Whether answers from another node's pod reach the source without crossing the node again.
    pub(crate) fn has_shortcut(source: IpAddr) -> bool {
        source == REMOTE
    }

    pub(crate) fn watch(&self, packet: Packet, answer: bool, patience: Duration) -> Sight {
        let place = match packet.source.ip() {
            CLIENT => &self.client,
            NODE_ADDRESS => &self.node,
            REMOTE => &self.peers[0],
            IpAddr::V4(pod) => &self.pods[&pod],
            IpAddr::V6(other) => panic!("nobody has {other}"),
        };
        place.inside(|| self.servers.watch(packet, answer, patience))
    }

    /// What becomes of the client's packets, one after the other, until all changes are made.
    pub(crate) fn watch_while_changing(
        &mut self,
        packets: impl Iterator<Item = Packet> + Send,
        patience: Duration,
        program: &Program,
        changes: &[Vec<program::Change>],
    ) -> Vec<Sight> {
        let Testbed { client, servers, rules, .. } = self;
        let done = AtomicBool::new(false);
        let watch = || {
            let packets = packets.take_while(|_| !done.load(Ordering::Relaxed));
            packets.map(|packet| servers.watch(packet, true, patience)).collect()
        };
        std::thread::scope(|scope| {
            let watching = scope.spawn(|| client.inside(watch));
            for change in changes {
                rules.change(program, change).unwrap();
            }
            done.store(true, Ordering::Relaxed);
            watching.join().unwrap()
        })
    }

    /// How many of so many connections of the client each server got.
    pub(crate) fn shares(
        &self,
        to: SocketAddr,
        connections: usize,
        patience: Duration,
    ) -> BTreeMap<SocketAddr, usize> {
        let mut shares = BTreeMap::new();
        let mut left = connections;
        while left > 0 {
            let some = left.min(64);
            // All of them stay open until counted, so that each has its port.
            let _open = self.client.inside(|| {
                let socket = || UdpSocket::bind((CLIENT, 0)).unwrap();
                let send = |socket: UdpSocket| socket.send_to(b"share", to).map(|_| socket);
                (0..some).map(|_| send(socket()).unwrap()).collect::<Vec<_>>()
            });
            for (at, number) in self.servers.gather(some, patience) {
                *shares.entry(at).or_default() += number;
            }
            left -= some;
        }
        shares
    }
}

/// Everybody's gateway, and whoever has an address that is neither a node's nor a pod's.
fn gateway() -> Space {
    let mut gateway = Space::new();
    let bridge =
        Link { name: "underlay".into(), kind: LinkKind::Bridge, mac: None, mtu: None, up: true };
    gateway.change([Change::AddLink(bridge), address("underlay", "10.1.1.1/24")]);
    gateway.change(gateway_addresses().map(|own| address("underlay", &format!("{own}/32"))));
    gateway.change((1..=3).map(|node| {
        let via = format!("10.1.1.11{node}");
        route(&format!("10.244.{node}.0/24"), Some(&via), "underlay")
    }));
    gateway
}

/// The virtual IP, and cluster IPs: where no Service has one it is an address like any other.
fn gateway_addresses() -> impl Iterator<Item = Ipv4Addr> {
    let cluster_ips = (1..=4).map(|number| Ipv4Addr::new(10, 96, 0, number));
    cluster_ips.chain([Ipv4Addr::new(10, 1, 1, 200)])
}

/// A pod as the CNI plug-in makes it, but for the route to it.
fn pod(node: &mut Space, number: u8) -> (Ipv4Addr, Space) {
    let own = pod_address(1, number);
    let mut space = Space::new();
    let device = pod_device(own);
    node.wire(&device, None, &mut space);
    node.change([address(&device, "10.244.1.1/32")]);
    space.change([
        address("eth0", &format!("{own}/32")),
        route("10.244.1.1/32", None, "eth0"),
        route("0.0.0.0/0", Some("10.244.1.1"), "eth0"),
    ]);
    (own, space)
}

/// Another node: a tunnel end made by the real back end, and pods.
fn peer(space: &mut Space, number: u8, world: &World) {
    // Node-1 may send back what came from here.
    space.set("net/ipv4/conf/all/accept_local", "1");
    space.change(HOSTS.map(|host| address("lo", &format!("{}/32", pod_address(number, host)))));
    let program = compile::compile(world, &format!("node-{number}"), &settings()).0;
    let mut links = space.inside(|| link::Backend::open().unwrap());
    let underlay = links.underlay(program.addresses[0]).unwrap();
    links.reconcile(&program, &underlay).unwrap();
    if number == 2 {
        space.run("ip route add default via 10.244.1.0 dev flannel.1 onlink table 100");
        space.run(&format!("ip rule add from {REMOTE} lookup 100"));
    }
}

fn listen(servers: &mut Servers, space: &Space, addresses: impl IntoIterator<Item = Ipv4Addr>) {
    let at = |own| PORTS.map(|port| SocketAddr::new(IpAddr::V4(own), port));
    let all: Vec<_> = addresses.into_iter().flat_map(at).collect();
    space.inside(|| servers.listen(all));
}

fn pod_address(node: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, node, host)
}

fn pod_device(pod: Ipv4Addr) -> String {
    format!("pod{}", pod.octets()[3])
}

fn pod_route(pod: Ipv4Addr) -> Route {
    Route {
        destination: host(pod),
        via: None,
        device: pod_device(pod),
        onlink: false,
        source: Some(ip("10.244.1.1")),
        protocol: Route::BOOT,
    }
}

fn is_pod_of(node: u8, address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.octets()[..3] == [10, 244, node])
}

fn forget_connections() {
    let mut socket = Socket::netfilter().unwrap();
    for connection in conntrack::connections(&mut socket, Which::Ipv4, |_all| true).unwrap() {
        conntrack::delete(&mut socket, &connection.original, connection.zone, None).unwrap();
    }
}

/// The program of the node in the flesh.
pub(crate) fn compiled(world: &World) -> Program {
    compile::compile(world, NODE, &settings()).0
}
