//! A node in the flesh, kept by the real back ends, and the world around it.
//!
//! ```text
//!  10.1.1.250   10.1.1.111          10.1.1.112   10.1.1.113   fd00:1::250, fd00:1::111 … likewise
//!    client      node-1 ─ pods        node-2       node-3     each with its own flannel.1
//!      │            │                   │            │
//!      └────────────┴─── 10.1.1.1 ──────┴────────────┘        the gateway holds the bridge,
//!                                                             and any address that nobody else has
//! ```

use crate::cluster::{NODE, arrival, nodes, settings};
use crate::probe::{Servers, Sight};
use crate::proxy::{Kind, Proxy};
use crate::space::{Space, address, host, ip, route};
use backend::link::{self, lower::Underlay};
use compile::Settings;
use kernel::conntrack::{self, Which};
use kernel::netlink::Socket;
use kernel::route::Change;
use model::{Family, Protocol, Scheduler, World};
use netstate::{Link, LinkKind, Route};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use program::{Arrival, Packet, Program};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 1, 250));
pub(crate) const CLIENT_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x250));
/// The addresses of a pod of node-2 whose packets all go through node-1.
const REMOTE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 2, 2));
const REMOTE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x244, 2, 0, 0, 0, 0, 2));
/// Every port that packets are sent to is listened on wherever they may end: only rules refuse.
const PORTS: [u16; 11] = [80, 81, 82, 83, 30_000, 30_001, 30_002, 30_003, 8080, 8081, 8082];
/// The host parts of the addresses that pods have.
const HOSTS: std::ops::RangeInclusive<u8> = 2..=7;

/// Held by the testbed that there is: each has nine hundred sockets, and a process may have a thousand.
static TURN: Mutex<()> = Mutex::new(());

pub(crate) struct Testbed {
    _turn: MutexGuard<'static, ()>,
    client: Space,
    node: Space,
    /// node-2 and node-3; their pods are addresses on their loopback devices.
    peers: [Space; 2],
    _gateway: Space,
    /// By the last part of their addresses.
    pods: BTreeMap<u8, Space>,
    /// Addresses that there is a route to.
    wired: BTreeSet<IpAddr>,
    servers: Servers,
    proxy: Proxy,
    links: link::Backend,
    /// One of each family.
    underlays: Vec<Underlay>,
}

impl Testbed {
    pub(crate) fn with(kind: Kind) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
        let mut gateway = gateway();
        let mut machine = |name: &str, host: u8| {
            let mut space = Space::new();
            gateway.wire(name, Some("underlay"), &mut space);
            // Whoever is sent through the node is not to be told of a shorter way.
            space.set("net/ipv6/conf/eth0/accept_redirects", "0");
            space.change([
                address("eth0", &format!("10.1.1.{host}/24")),
                address("eth0", &format!("fd00:1::{host}/64")),
                route("0.0.0.0/0", Some("10.1.1.1"), "eth0"),
                route("::/0", Some("fd00:1::1"), "eth0"),
            ]);
            space
        };
        let mut client = machine("client", 250);
        let mut node = machine("node-1", 111);
        let mut peers = [machine("node-2", 112), machine("node-3", 113)];
        // What the client sends crosses the node, even to its neighbours.
        let by_node = |net| route(net, Some("10.1.1.111"), "eth0");
        let nets = ["0.0.0.0/0", "10.1.1.112/32", "10.1.1.200/32", "10.1.1.201/32"];
        client.change(nets.map(by_node));
        let by_node = |net| route(net, Some("fd00:1::111"), "eth0");
        client
            .change(["::/0", "fd00:1::112/128", "fd00:1::200/128", "fd00:1::201/128"].map(by_node));
        node.set("net/ipv4/ip_forward", "1");
        node.set("net/ipv6/conf/all/forwarding", "1");
        // The gateway answers the client past the node, so half of a connection is all that the node sees: what
        // kube-proxy's shape in iptables takes for an invalid packet.
        if matches!(kind, Kind::Iptables(_)) {
            node.set("net/netfilter/nf_conntrack_tcp_be_liberal", "1");
        }
        // Where node ports answer on loopback addresses, which the rules decide.
        node.set("net/ipv4/conf/all/route_localnet", "1");
        let pods = HOSTS.map(|number| (number, pod(&mut node, number))).collect();
        let world = World::from_objects(nodes());
        for (peer, number) in peers.iter_mut().zip(2..) {
            self::peer(peer, number, &world);
        }
        let (proxy, mut links) =
            node.inside(|| (Proxy::open(kind), link::Backend::open().unwrap()));
        let underlays = underlays(&mut links, 1);
        let mut servers = Servers::default();
        let pods: BTreeMap<u8, Space> = pods;
        listen(&mut servers, &gateway, gateway_addresses());
        let own = ["10.1.1.111", "fd00:1::111", "127.0.0.1", "::1", "10.244.1.1"];
        if kind != Kind::Userspace {
            listen(&mut servers, &node, own.map(ip));
        }
        for (peer, number) in peers.iter().zip(2..) {
            let pods = HOSTS.flat_map(|host| pod_addresses(number, host));
            listen(&mut servers, peer, pods.chain(node_addresses(number)));
        }
        for (number, pod) in &pods {
            listen(&mut servers, pod, pod_addresses(1, *number));
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
            proxy,
            links,
            underlays,
        }
    }

    /// As an agent does that starts, whatever is there.
    pub(crate) fn start(&mut self, program: &Program) {
        let kind = self.proxy.kind();
        // Sockets that somebody still has cannot be opened anew.
        if kind != Kind::Userspace {
            self.proxy = self.node.inside(|| Proxy::open(kind));
        }
        let proxy = &mut self.proxy;
        self.node.inside(|| proxy.reconcile(program));
        self.links.reconcile(program, &self.underlays).unwrap();
        let localhost = program.node_ports.localhost.contains(&Family::V6);
        self.open_loopback(localhost && kind != Kind::Userspace);
        self.wire_pods(program);
        self.node.inside(forget_connections);
    }

    /// Whether processes of the node have answers from node ports on ::1; returns the number of changes.
    pub(crate) fn open_loopback(&mut self, open: bool) -> usize {
        self.links.open_loopback(open).unwrap()
    }

    /// As an agent does that starts with another back end.
    pub(crate) fn switch(&mut self, kind: Kind, program: &Program) {
        self.proxy = self.node.inside(|| Proxy::open(kind));
        let proxy = &mut self.proxy;
        self.node.inside(|| proxy.reconcile(program));
    }

    pub(crate) fn kind(&self) -> Kind {
        self.proxy.kind()
    }

    /// What Services may ask for.
    pub(crate) fn schedulers(&self) -> Vec<Scheduler> {
        match self.proxy.kind() {
            Kind::Nft => model::ProxyMode::Nft.schedulers().into(),
            Kind::Iptables(_) => vec![Scheduler::Random],
            Kind::Ipvs => backend::ipvs::SCHEDULERS.into(),
            Kind::Userspace => backend::userspace::SCHEDULERS.into(),
        }
    }

    /// Whether the back end made the address one of the node's.
    pub(crate) fn owns(&self, address: IpAddr) -> bool {
        self.proxy.owns(address)
    }

    pub(crate) fn node(&self) -> &Space {
        &self.node
    }

    pub(crate) fn client(&self) -> &Space {
        &self.client
    }

    pub(crate) fn pod(&self, host: u8) -> &Space {
        &self.pods[&host]
    }

    pub(crate) fn proxy(&mut self) -> &mut Proxy {
        &mut self.proxy
    }

    /// As an agent does that hears of changes.
    pub(crate) fn change(&mut self, program: &Program, changes: &[program::Change]) {
        let proxy = &mut self.proxy;
        self.node.inside(|| proxy.change(program, changes));
        self.links.change_peers(changes).unwrap();
        self.wire_pods(program);
    }

    /// Finds nothing to do: what was made piece by piece is the whole.
    pub(crate) fn assert_settled(&mut self, program: &Program) {
        let proxy = &mut self.proxy;
        assert!(!self.node.inside(|| proxy.reconcile(program)), "there was something to do");
        assert_eq!(self.links.reconcile(program, &self.underlays).unwrap(), 0);
    }

    /// The service table as an operator sees it; that `nft` can print it at all is worth proving.
    pub(crate) fn listed(&self) -> String {
        ["ip", "ip6"]
            .map(|family| self.node.run(&format!("nft list table {family} podway")))
            .concat()
    }

    /// Whether the node still knows any client's endpoint.
    pub(crate) fn remembers(&self) -> bool {
        let listed =
            self.node.run(&format!("nft list map ip podway {}", backend::nft::layout::set::MEMORY));
        listed.contains("expires")
    }

    /// The CNI plug-in's part: pods that are there have a route.
    fn wire_pods(&mut self, program: &Program) {
        let own: BTreeSet<IpAddr> = HOSTS.flat_map(|host| pod_addresses(1, host)).collect();
        let wanted: BTreeSet<_> = program
            .pods
            .iter()
            .map(|(address, _)| *address)
            .filter(|it| own.contains(it))
            .collect();
        let gone = self.wired.difference(&wanted).map(|pod| Change::DeleteRoute(pod_route(*pod)));
        let new = wanted.difference(&self.wired).map(|pod| Change::AddRoute(pod_route(*pod)));
        let changes: Vec<_> = gone.chain(new).collect();
        self.node.change(changes);
        self.wired = wanted;
    }

    /// Whether the packet crosses the node at all, and in a way that can be seen here.
    pub(crate) fn crosses(&self, packet: &Packet) -> bool {
        let (source, destination) = (packet.source.ip(), packet.destination.ip());
        let stays = match source {
            REMOTE | REMOTE_V6 => {
                node_addresses(2).contains(&destination) || is_pod_of(2, destination)
            }
            _ => source == destination && arrival(source) != Arrival::LocalProcess,
        };
        !stays && (packet.protocol != Protocol::Sctp || self.servers.know_sctp())
    }

    /// Whether answers from another node's pod reach the source without crossing the node again.
    pub(crate) fn has_shortcut(source: IpAddr) -> bool {
        [REMOTE, REMOTE_V6].contains(&source)
    }

    pub(crate) fn watch(&self, packet: Packet, answer: bool, patience: Duration) -> Sight {
        let place = match packet.source.ip() {
            CLIENT | CLIENT_V6 => &self.client,
            REMOTE | REMOTE_V6 => &self.peers[0],
            own if arrival(own) == Arrival::LocalProcess => &self.node,
            IpAddr::V4(pod) => &self.pods[&pod.octets()[3]],
            IpAddr::V6(pod) => &self.pods[&pod.octets()[15]],
        };
        place.inside(|| self.servers.watch(packet, answer, patience))
    }

    pub(crate) fn in_client<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.client.inside(work)
    }

    pub(crate) fn in_pod<T: Send>(&self, pod: u8, work: impl FnOnce() -> T + Send) -> T {
        self.pods[&pod].inside(work)
    }

    /// What becomes of the client's packets, one after the other, until all changes are made.
    pub(crate) fn watch_while_changing(
        &mut self,
        packets: impl Iterator<Item = Packet> + Send,
        patience: Duration,
        program: &Program,
        changes: &[Vec<program::Change>],
    ) -> Vec<Sight> {
        let Testbed { client, node, servers, proxy, .. } = self;
        let done = AtomicBool::new(false);
        let watch = || {
            let packets = packets.take_while(|_| !done.load(Ordering::Relaxed));
            packets.map(|packet| servers.watch(packet, true, patience)).collect()
        };
        std::thread::scope(|scope| {
            let watching = scope.spawn(|| client.inside(watch));
            for change in changes {
                node.inside(|| proxy.change(program, change));
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
    gateway.change([
        Change::AddLink(bridge),
        address("underlay", "10.1.1.1/24"),
        address("underlay", "fd00:1::1/64"),
    ]);
    gateway.change(gateway_addresses().map(|own| address("underlay", &host(own).to_string())));
    gateway.change((1..=3).flat_map(|node| {
        let by = |net: String, via: String| route(&net, Some(&via), "underlay");
        [
            by(format!("10.244.{node}.0/24"), format!("10.1.1.11{node}")),
            by(format!("fd00:244:{node}::/64"), format!("fd00:1::11{node}")),
        ]
    }));
    gateway
}

/// Load balancers' and external addresses, and cluster IPs: where no Service has one it is an address like any other.
fn gateway_addresses() -> impl Iterator<Item = IpAddr> {
    let cluster_ips =
        (1..=4).flat_map(|host| [format!("10.96.0.{host}"), format!("fd00:96::{host}")]);
    let external = ["10.1.1.200", "10.1.1.201", "fd00:1::200", "fd00:1::201"];
    let external = external.map(str::to_owned);
    cluster_ips.chain(external).map(|text| ip(&text))
}

/// A pod as the CNI plug-in makes it, but for the routes to it.
fn pod(node: &mut Space, number: u8) -> Space {
    let mut space = Space::new();
    let device = format!("pod{number}");
    node.wire(&device, None, &mut space);
    for (own, gateway, all) in pod_addresses(1, number)
        .into_iter()
        .zip(["10.244.1.1", "fd00:244:1::1"])
        .zip(["0.0.0.0/0", "::/0"])
        .map(|((own, gateway), all)| (own, gateway, all))
    {
        let gateway_net = host(ip(gateway)).to_string();
        node.change([address(&device, &gateway_net)]);
        space.change([
            address("eth0", &host(own).to_string()),
            route(&gateway_net, None, "eth0"),
            route(all, Some(gateway), "eth0"),
        ]);
    }
    space
}

/// Another node: a tunnel end made by the real back end, and pods.
fn peer(space: &mut Space, number: u8, world: &World) {
    // Node-1 may send back what came from here.
    space.set("net/ipv4/conf/all/accept_local", "1");
    let pods = HOSTS.flat_map(|host| pod_addresses(number, host));
    space.change(pods.map(|pod| address("lo", &host(pod).to_string())));
    let program = compile::compile(world, &format!("node-{number}"), &settings()).0;
    let mut links = space.inside(|| link::Backend::open().unwrap());
    let underlays = underlays(&mut links, number);
    links.reconcile(&program, &underlays).unwrap();
    if number == 2 {
        for (family, pod, tunnel) in [
            (4, REMOTE, "10.244.1.0 dev flannel.1"),
            (6, REMOTE_V6, "fd00:244:1:: dev flannel-v6.1"),
        ] {
            space.run(&format!("ip -{family} route add default via {tunnel} onlink table 100"));
            space.run(&format!("ip -{family} rule add from {pod} lookup 100"));
        }
    }
}

fn underlays(links: &mut link::Backend, node: u8) -> Vec<Underlay> {
    node_addresses(node).into_iter().map(|own| links.underlay(own).unwrap()).collect()
}

fn listen(servers: &mut Servers, space: &Space, addresses: impl IntoIterator<Item = IpAddr>) {
    let at = |own| PORTS.map(|port| SocketAddr::new(own, port));
    let all: Vec<_> = addresses.into_iter().flat_map(at).collect();
    space.inside(|| servers.listen(all));
}

fn node_addresses(node: u8) -> [IpAddr; 2] {
    [ip(&format!("10.1.1.11{node}")), ip(&format!("fd00:1::11{node}"))]
}

fn pod_addresses(node: u8, host: u8) -> [IpAddr; 2] {
    [ip(&format!("10.244.{node}.{host}")), ip(&format!("fd00:244:{node}::{host}"))]
}

fn pod_route(pod: IpAddr) -> Route {
    let (host_part, gateway) = match pod {
        IpAddr::V4(pod) => (pod.octets()[3], "10.244.1.1"),
        IpAddr::V6(pod) => (pod.octets()[15], "fd00:244:1::1"),
    };
    Route {
        destination: host(pod),
        via: None,
        device: format!("pod{host_part}"),
        onlink: false,
        source: Some(ip(gateway)),
        protocol: Route::BOOT,
    }
}

fn is_pod_of(node: u8, address: IpAddr) -> bool {
    HOSTS.flat_map(|host| pod_addresses(node, host)).any(|pod| pod == address)
}

fn forget_connections() {
    let mut socket = Socket::netfilter().unwrap();
    for connection in conntrack::connections(&mut socket, Which::Both, |_all| true).unwrap() {
        conntrack::delete(&mut socket, &connection.original, connection.zone, None).unwrap();
    }
}

/// The program of the node in the flesh.
pub(crate) fn compiled(world: &World, settings: &Settings) -> Program {
    compile::compile(world, NODE, settings).0
}
