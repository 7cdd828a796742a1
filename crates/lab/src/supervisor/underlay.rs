//! The segment that nodes and client share: a bridge in the supervisor's own network namespace.
//!
//! Nothing connects it with the host: no device of the host is ever moved or linked into the lab.

use crate::plan::Plan;
use crate::{Error, Feature, Result, layout};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kernel::namespace::{self, Namespace};
use kernel::netlink::Socket;
use kernel::nft::Transaction;
use kernel::route::{self, Change, NewLink, Peer};
use kernel::{Errno, sysctl};
use netstate::link::Vxlan;
use netstate::nft::{Family, TableId};
use netstate::{Address, Link, LinkKind, Route};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::Path;

const BRIDGE: &str = "underlay";
/// What every machine on the segment calls its end of the wire.
const WIRE: &str = "eth0";

/// A machine on the segment: a network namespace with one wire to the bridge.
pub(super) struct Machine<'a> {
    /// Where its network namespace is mounted.
    pub(super) netns: &'a Path,
    /// The bridge's end of its wire.
    pub(super) port: &'a str,
    pub(super) address: Ipv4Addr,
    /// None in a lab without IPv6.
    pub(super) address_v6: Option<Ipv6Addr>,
    /// It passes packets on, as a node does.
    pub(super) forwards: bool,
}

/// Makes the bridge with the gateway's address.
pub(super) fn build(plan: &Plan) -> Result<()> {
    let mut socket = Socket::route()?;
    let gateway = address(BRIDGE, plan.gateway.into(), plan.underlay.into());
    let gateway_v6 =
        plan.v6.as_ref().map(|v6| address(BRIDGE, v6.gateway.into(), v6.underlay.into()));
    let changes = [
        Change::SetUp { device: "lo".into(), up: true },
        Change::AddLink(link(BRIDGE, LinkKind::Bridge)),
    ];
    let addresses = [gateway].into_iter().chain(gateway_v6).map(Change::AddAddress);
    apply(&mut socket, &changes.into_iter().chain(addresses).collect::<Vec<_>>())
}

/// Makes a machine's network namespace and plugs it in.
pub(super) fn plug(plan: &Plan, machine: &Machine<'_>) -> Result<()> {
    let netns = namespace::make_net()?;
    netns.pin(machine.netns)?;
    let veth = LinkKind::Veth { peer: None };
    let (near, far) = (link(machine.port, veth.clone()), link(WIRE, veth));
    let peer = Peer { link: &far, namespace: Some(netns.as_fd()) };
    let new = NewLink { master: Some(BRIDGE), peer: Some(peer), ..NewLink::new(&near) };
    namespace::in_netns(&netns, || settings(machine.forwards))??;
    let mut socket = Socket::route()?;
    route::add_link(&mut socket, &new)?;
    namespace::in_netns(&netns, || address_machine(plan, machine))??;
    Ok(route::settle(&mut socket, machine.port)?)
}

/// Pulls a machine's wire, then gives up its network namespace.
pub(super) fn unplug(netns: &Path, port: &str) -> Result<()> {
    pull(port)?;
    Ok(namespace::unpin(netns)?)
}

/// Pulls a machine's wire: from here on nothing it sends arrives anywhere.
pub(super) fn pull(port: &str) -> Result<()> {
    apply(&mut Socket::route()?, &[Change::DeleteLink(port.to_owned())])
}

/// The host's settings are inherited, so those that matter are set. Before there are devices, which inherit `default`.
fn settings(forwards: bool) -> Result<()> {
    let forward = if forwards { "1" } else { "0" };
    let values = [
        ("net/ipv4/ip_forward", forward),
        ("net/ipv4/conf/all/rp_filter", "0"),
        // Loose: a reply may leave by another way than the request came.
        ("net/ipv4/conf/default/rp_filter", "2"),
        ("net/ipv4/conf/all/send_redirects", "0"),
        ("net/ipv4/conf/default/send_redirects", "0"),
        ("net/ipv4/conf/all/accept_redirects", "0"),
        ("net/ipv4/conf/default/accept_redirects", "0"),
    ];
    // A kernel without IPv6 has none of these, and nothing to be set.
    let values_v6 = [
        ("net/ipv6/conf/all/disable_ipv6", "0"),
        ("net/ipv6/conf/default/disable_ipv6", "0"),
        ("net/ipv6/conf/all/forwarding", forward),
        ("net/ipv6/conf/default/accept_ra", "0"),
        ("net/ipv6/conf/default/accept_redirects", "0"),
        // Every address here is its owner's by plan; asking around would take a second.
        ("net/ipv6/conf/default/accept_dad", "0"),
    ];
    let has_v6 = Path::new("/proc/sys/net/ipv6/conf").exists();
    let values = values.into_iter().chain(values_v6.into_iter().filter(|_| has_v6));
    for (name, value) in values {
        sysctl::write(name, value)?;
    }
    Ok(())
}

fn address_machine(plan: &Plan, machine: &Machine<'_>) -> Result<()> {
    let route = |destination: IpNet, via: Option<IpAddr>| {
        Change::AddRoute(Route {
            destination,
            via,
            device: WIRE.to_owned(),
            onlink: false,
            source: None,
            protocol: Route::BOOT,
        })
    };
    let changes = [
        Change::SetUp { device: "lo".into(), up: true },
        // The peer of a new veth device comes up only when told so, whatever its maker asked for.
        Change::SetUp { device: WIRE.into(), up: true },
        Change::AddAddress(address(WIRE, machine.address.into(), plan.underlay.into())),
        route(Ipv4Net::default().into(), Some(plan.gateway.into())),
    ];
    let onlink = plan.onlink.iter().map(|address| route(Ipv4Net::from(*address).into(), None));
    let v6 = plan.v6.as_ref().zip(machine.address_v6).map(|(v6, own)| {
        [
            Change::AddAddress(address(WIRE, own.into(), v6.underlay.into())),
            route(Ipv6Net::default().into(), Some(v6.gateway.into())),
        ]
    });
    let changes: Vec<Change> =
        changes.into_iter().chain(onlink).chain(v6.into_iter().flatten()).collect();
    let mut socket = Socket::route()?;
    apply(&mut socket, &changes)?;
    Ok(route::settle(&mut socket, WIRE)?)
}

/// Fails where the kernel lacks what nodes will need; tries in a network namespace that goes at once.
pub(super) fn probe() -> Result<()> {
    let netns: Namespace = namespace::make_net()?;
    namespace::in_netns(&netns, || {
        probe_vxlan()?;
        probe_nf_tables()
    })?
}

fn probe_vxlan() -> Result<()> {
    let vxlan = Vxlan {
        vni: 1,
        port: 8472,
        local: Ipv4Addr::LOCALHOST.into(),
        device: "lo".to_owned(),
        learning: false,
    };
    let probe = link("probe", LinkKind::Vxlan(vxlan));
    let made = route::add_link(&mut Socket::route()?, &NewLink::new(&Link { up: false, ..probe }));
    made.map_err(|error| lacking(error, Feature::Vxlan))
}

fn probe_nf_tables() -> Result<()> {
    let id = TableId { family: Family::Ip, name: "probe".to_owned() };
    let mut transaction = Transaction::new();
    transaction.table(&id);
    let made = Socket::netfilter().and_then(|mut socket| transaction.commit(&mut socket));
    made.map(drop).map_err(|error| lacking(error, Feature::NfTables))
}

fn lacking(error: kernel::Error, feature: Feature) -> Error {
    match error.errno() {
        Some(Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT | Errno::ENOENT | Errno::EINVAL) => {
            Error::Missing { feature }
        }
        _ => error.into(),
    }
}

fn link(name: &str, kind: LinkKind) -> Link {
    Link { name: name.to_owned(), kind, mac: None, mtu: None, up: true }
}

fn address(device: &str, address: IpAddr, net: IpNet) -> Address {
    let net = IpNet::new_assert(address, net.prefix_len());
    Address { device: device.to_owned(), net }
}

fn apply(socket: &mut Socket, changes: &[Change]) -> Result<()> {
    match route::apply(socket, changes) {
        Ok(()) => Ok(()),
        Err(errors) => Err(errors.into_iter().next().expect("a failure has an error").into()),
    }
}

/// The bridge's end of a node's wire: the node's name where it fits a device.
pub(super) fn port(index: usize, node: &str) -> String {
    const LONGEST: usize = 15;
    let fits = node.len() <= LONGEST && !node.contains(['/', ':', ' ']);
    match node {
        "lo" | "client" | BRIDGE => format!("port{index}"),
        _ if fits => node.to_owned(),
        _ => format!("port{index}"),
    }
}

pub(super) fn client_machine(plan: &Plan) -> Result<()> {
    let netns = layout::client_netns();
    let machine = Machine {
        netns: &netns,
        port: "client",
        address: plan.client,
        address_v6: plan.v6.as_ref().map(|v6| v6.client),
        forwards: false,
    };
    plug(plan, &machine)
}
