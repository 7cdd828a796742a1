//! One container's cable: a veth pair, its addresses and routes at both ends.

use crate::Error;
use crate::ipam::{Pool, everywhere, host};
use ipnet::{IpNet, Ipv6Net};
use kernel::Errno;
use kernel::namespace::{Namespace, in_netns};
use kernel::netlink::Socket;
use kernel::route::{self, Change, NewLink, Peer};
use netstate::{Address, Link, LinkKind, Mac, Route};
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd;

/// First octets of the addresses at the two ends, locally administered; the four others are the pod's IP address.
///
/// Given addresses are left alone by udev, which replaces those that the kernel chose.
const POD_MAC: [u8; 2] = [0x0a, 0x58];
const HOST_MAC: [u8; 2] = [0x0a, 0x59];

/// Name of the node's end of the cable: `pdw` and eight hexadecimal digits, those that the container's id begins with
/// wherever that tells it apart.
#[must_use]
pub fn link_name(container: &str, interface: &str) -> String {
    match container.get(..8) {
        Some(start) if interface == "eth0" && start.bytes().all(is_lower_hex) => {
            format!("pdw{start}")
        }
        _ => format!("pdw{:08x}", fold(container.bytes().chain([0]).chain(interface.bytes()))),
    }
}

fn is_lower_hex(octet: u8) -> bool {
    matches!(octet, b'0'..=b'9' | b'a'..=b'f')
}

/// FNV-1a, 32 bits.
fn fold(octets: impl Iterator<Item = u8>) -> u32 {
    octets.fold(0x811c_9dc5, |hash, octet| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193))
}

/// How a container shall be connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cable {
    pub(crate) host_end: Link,
    pub(crate) pod_end: Link,
    /// Each address of the container, with the pool it comes from. Never empty.
    pub(crate) addresses: Vec<(IpAddr, Pool)>,
    /// `rtm_protocol`.
    pub(crate) protocol: u8,
}

impl Cable {
    /// `addresses` must not be empty.
    pub(crate) fn new(
        (container, interface): (&str, &str),
        addresses: Vec<(IpAddr, Pool)>,
        mtu: u32,
        protocol: u8,
    ) -> Cable {
        let end = |name: String, mac: [u8; 2]| Link {
            name,
            kind: LinkKind::Veth { peer: None },
            mac: addresses.first().map(|(address, _)| mac_of(mac, *address)),
            mtu: Some(mtu),
            up: true,
        };
        Cable {
            host_end: end(link_name(container, interface), HOST_MAC),
            pod_end: end(interface.to_owned(), POD_MAC),
            addresses,
            protocol,
        }
    }

    /// Lays it, between the calling thread's namespace and `pod`. What was made before a failure is taken away again.
    pub(crate) fn connect(&self, pod: &Namespace) -> Result<(), Error> {
        let mut socket = Socket::route()?;
        let peer = Peer { link: &self.pod_end, namespace: Some(pod.as_fd()) };
        let new = NewLink { peer: Some(peer), ..NewLink::new(&self.host_end) };
        route::add_link(&mut socket, &new).map_err(|error| match error.errno() {
            Some(Errno::EEXIST) => Error::InterfaceExists { name: self.pod_end.name.clone() },
            _ => error.into(),
        })?;
        self.configure(&mut socket, pod).inspect_err(|_| {
            // The error that matters is the one at hand.
            disconnect(&self.host_end.name).ok();
        })
    }

    fn configure(&self, socket: &mut Socket, pod: &Namespace) -> Result<(), Error> {
        let mut inside = in_netns(pod, Socket::route)??;
        apply(&mut inside, &self.pod_changes())?;
        apply(socket, &self.host_changes())?;
        route::settle(&mut inside, &self.pod_end.name)?;
        route::settle(socket, &self.host_end.name)?;
        self.addresses.iter().try_for_each(|(address, _)| forward(*address))
    }

    /// The peer of a new veth device comes up only when told so, whatever its maker asked for.
    fn pod_changes(&self) -> Vec<Change> {
        let up = |device: &str| Change::SetUp { device: device.to_owned(), up: true };
        let addresses = self.pod_addresses().into_iter().map(Change::AddAddress);
        let routes = self.pod_routes().into_iter().map(Change::AddRoute);
        [up("lo"), up(&self.pod_end.name)].into_iter().chain(addresses).chain(routes).collect()
    }

    fn host_changes(&self) -> Vec<Change> {
        let addresses = self.host_addresses().into_iter().map(Change::AddAddress);
        addresses.chain(self.host_routes().into_iter().map(Change::AddRoute)).collect()
    }

    fn pod_addresses(&self) -> Vec<Address> {
        let device = &self.pod_end.name;
        let on = |address| Address { device: device.clone(), net: host(address) };
        self.addresses.iter().map(|(address, _)| on(*address)).collect()
    }

    fn host_addresses(&self) -> Vec<Address> {
        let on = |net| Address { device: self.host_end.name.clone(), net };
        let of = |(_, pool): &(IpAddr, Pool)| {
            let gateway = pool.gateway();
            [Some(on(host(gateway))), gateway.is_ipv6().then(|| on(solicitor()))]
        };
        self.addresses.iter().flat_map(of).flatten().collect()
    }

    /// The gateway is on the link, everything else behind it.
    fn pod_routes(&self) -> Vec<Route> {
        let route = |destination, via, source| Route {
            destination,
            via,
            device: self.pod_end.name.clone(),
            onlink: false,
            source,
            protocol: self.protocol,
        };
        let pair = |(address, pool): &(IpAddr, Pool)| {
            let gateway = pool.gateway();
            let link = route(host(gateway), None, Some(*address));
            [link, route(everywhere(gateway), Some(gateway), None)]
        };
        self.addresses.iter().flat_map(pair).collect()
    }

    fn host_routes(&self) -> Vec<Route> {
        let route = |(address, pool): &(IpAddr, Pool)| Route {
            destination: host(*address),
            via: None,
            device: self.host_end.name.clone(),
            onlink: false,
            source: Some(pool.gateway()),
            protocol: self.protocol,
        };
        self.addresses.iter().map(route).collect()
    }

    /// Compares both ends with what [`Cable::connect`] makes.
    pub(crate) fn verify(&self, pod: &Namespace) -> Result<(), Error> {
        let mut inside = in_netns(pod, Socket::route)??;
        let (addresses, routes) = (self.pod_addresses(), self.pod_routes());
        verify_end(&mut inside, &self.pod_end, &addresses, &routes)?;
        let (addresses, routes) = (self.host_addresses(), self.host_routes());
        verify_end(&mut Socket::route()?, &self.host_end, &addresses, &routes)
    }
}

/// A link-local address for the node's end of every cable.
///
/// Neighbour solicitations for packets that the node passes on to the pod come from one (RFC 4861, section 7.2.2).
/// The kernel's own would do, but is looked for duplicates first, and until then, two seconds, the pod is out of reach.
fn solicitor() -> IpNet {
    let address = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    IpNet::V6(Ipv6Net::new_assert(address, 64))
}

/// Has the node pass on packets of the address's family.
fn forward(address: IpAddr) -> Result<(), Error> {
    let switch = match address {
        IpAddr::V4(_) => "net/ipv4/ip_forward",
        IpAddr::V6(_) => "net/ipv6/conf/all/forwarding",
    };
    if kernel::sysctl::read(switch)? != "1" {
        kernel::sysctl::write(switch, "1")?;
    }
    Ok(())
}

/// Takes the cable away: with one end goes the other, and all that hangs on them. None there is no error.
pub(crate) fn disconnect(host_end: &str) -> Result<(), Error> {
    apply(&mut Socket::route()?, &[Change::DeleteLink(host_end.to_owned())])
}

/// Whether the node's end is there.
pub(crate) fn exists(host_end: &str) -> Result<bool, Error> {
    Ok(route::link(&mut Socket::route()?, host_end)?.is_some())
}

fn apply(socket: &mut Socket, changes: &[Change]) -> Result<(), Error> {
    // The first refusal tells the most: others often follow from it.
    let first = |errors: Vec<kernel::Error>| errors.into_iter().next().map(Error::from);
    match route::apply(socket, changes).map_err(first) {
        Err(Some(error)) => Err(error),
        _ => Ok(()),
    }
}

fn verify_end(
    socket: &mut Socket,
    wanted: &Link,
    addresses: &[Address],
    routes: &[Route],
) -> Result<(), Error> {
    let differs = |what: String| Err(Error::Differs { what });
    let device = &wanted.name;
    let Some(found) = route::link(socket, device)? else { return differs(device.clone()) };
    if !found.link.up || (found.link.mac, found.link.mtu) != (wanted.mac, wanted.mtu) {
        return differs(device.clone());
    }
    let there = route::addresses(socket)?;
    if let Some(missing) = addresses.iter().find(|address| !there.contains(address)) {
        return differs(format!("address {} of {device}", missing.net));
    }
    let there = route::routes(socket)?;
    if let Some(missing) = routes.iter().find(|route| !there.contains(route)) {
        return differs(format!("route to {} through {device}", missing.destination));
    }
    Ok(())
}

fn mac_of([a, b]: [u8; 2], address: IpAddr) -> Mac {
    let [c, d, e, f] = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            *address.octets().last_chunk().expect("an IPv6 address has 16 octets")
        }
    };
    Mac([a, b, c, d, e, f])
}
