//! Addresses, routes, neighbours and forwarding entries, to requests and back.

use super::abi::*;
use super::link::create_flags;
use super::names::Names;
use crate::netlink::{Attributes, Batch, Body, Message};
use ipnet::IpNet;
use netstate::{Address, FdbEntry, Local, Neighbour, Route, Unreachable};
use std::net::IpAddr;
use wire::Mac;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const AF_BRIDGE: u8 = 7;
const NTF_SELF: u8 = libc::NTF_SELF;

/// Whether a request brings something or takes it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Delete,
}

impl Verb {
    fn pick(self, add: u16, delete: u16) -> (u16, u16) {
        match self {
            Verb::Add => (add, create_flags(libc::NLM_F_REPLACE)),
            Verb::Delete => (delete, 0),
        }
    }
}

pub(super) fn write_address(batch: &mut Batch, verb: Verb, address: &Address, index: u32) {
    let (kind, flags) = verb.pick(libc::RTM_NEWADDR, libc::RTM_DELADDR);
    batch.request(kind, flags, |body| {
        let [a, b, c, d] = index.to_ne_bytes();
        body.fixed(&[family(address.net.addr()), address.net.prefix_len(), 0, 0, a, b, c, d]);
        write_ip(body, IFA_LOCAL, address.net.addr());
        write_ip(body, IFA_ADDRESS, address.net.addr());
        if verb == Verb::Add && address.net.addr().is_ipv6() {
            // Duplicate detection would leave the address unusable for a second; these are ours by assignment.
            body.u32(IFA_FLAGS, IFA_F_NODAD);
        }
    });
}

pub(super) fn write_route(batch: &mut Batch, verb: Verb, route: &Route, index: u32) {
    let (kind, flags) = verb.pick(libc::RTM_NEWROUTE, libc::RTM_DELROUTE);
    let scope = match (verb, route.via) {
        (Verb::Delete, _) => libc::RT_SCOPE_NOWHERE,
        (Verb::Add, Some(_)) => libc::RT_SCOPE_UNIVERSE,
        (Verb::Add, None) => libc::RT_SCOPE_LINK,
    };
    let destination = route.destination;
    let hop_flags = if route.onlink { RTNH_F_ONLINK } else { 0 };
    batch.request(kind, flags, |body| {
        let mut header = [0; 12];
        header[..8].copy_from_slice(&[
            family(destination.addr()),
            destination.prefix_len(),
            0,
            0,
            libc::RT_TABLE_MAIN,
            route.protocol,
            scope,
            libc::RTN_UNICAST,
        ]);
        header[8..].copy_from_slice(&hop_flags.to_ne_bytes());
        body.fixed(&header);
        write_ip(body, RTA_DST, destination.addr());
        match route.via {
            Some(via) if via.is_ipv4() == destination.addr().is_ipv4() => {
                write_ip(body, RTA_GATEWAY, via)
            }
            Some(via) => write_via(body, via),
            None => {}
        }
        body.u32(RTA_OIF, index);
        if let Some(source) = route.source {
            write_ip(body, RTA_PREFSRC, source);
        }
    });
}

pub(super) fn write_unreachable(batch: &mut Batch, verb: Verb, route: &Unreachable) {
    let (kind, flags) = verb.pick(libc::RTM_NEWROUTE, libc::RTM_DELROUTE);
    let destination = route.destination;
    batch.request(kind, flags, |body| {
        let mut header = [0; 12];
        header[..8].copy_from_slice(&[
            family(destination.addr()),
            destination.prefix_len(),
            0,
            0,
            libc::RT_TABLE_MAIN,
            route.protocol,
            libc::RT_SCOPE_UNIVERSE,
            libc::RTN_UNREACHABLE,
        ]);
        body.fixed(&header);
        write_ip(body, RTA_DST, destination.addr());
    });
}

/// An addition is refused where the address is local already, whoever made it so; on a device of its own, where it is
/// so on that one.
pub(super) fn write_local(batch: &mut Batch, verb: Verb, local: &Local, index: u32) {
    let anywhere = local.device == Local::ANYWHERE;
    let beside = if anywhere { libc::NLM_F_EXCL } else { libc::NLM_F_APPEND };
    let (kind, flags, scope) = match verb {
        Verb::Add => (libc::RTM_NEWROUTE, create_flags(beside), libc::RT_SCOPE_HOST),
        Verb::Delete => (libc::RTM_DELROUTE, 0, libc::RT_SCOPE_NOWHERE),
    };
    let length = if local.address.is_ipv4() { 32 } else { 128 };
    let protocol = local.protocol;
    batch.request(kind, flags, |body| {
        let mut header = [0; 12];
        header[..8].copy_from_slice(&[
            family(local.address),
            length,
            0,
            0,
            libc::RT_TABLE_LOCAL,
            protocol,
            scope,
            libc::RTN_LOCAL,
        ]);
        body.fixed(&header);
        write_ip(body, RTA_DST, local.address);
        body.u32(RTA_OIF, index);
        if let (Verb::Add, Some(source)) = (verb, local.source) {
            write_ip(body, RTA_PREFSRC, source);
        }
    });
}

/// Asks which way a packet to `address` would go.
pub(super) fn write_route_query(batch: &mut Batch, address: IpAddr) {
    let length = if address.is_ipv4() { 32 } else { 128 };
    batch.request(libc::RTM_GETROUTE, 0, |body| {
        body.fixed(&[family(address), length, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        write_ip(body, RTA_DST, address);
    });
}

/// `struct rtvia`: a gateway of the other family.
fn write_via(body: &mut Body<'_>, via: IpAddr) {
    let mut value = u16::from(family(via)).to_ne_bytes().to_vec();
    match via {
        IpAddr::V4(via) => value.extend(via.octets()),
        IpAddr::V6(via) => value.extend(via.octets()),
    }
    body.bytes(RTA_VIA, &value);
}

pub(super) fn write_neighbour(batch: &mut Batch, verb: Verb, neighbour: &Neighbour, index: u32) {
    let (kind, flags) = verb.pick(libc::RTM_NEWNEIGH, libc::RTM_DELNEIGH);
    batch.request(kind, flags, |body| {
        write_ndmsg(body, family(neighbour.address), index, 0);
        write_ip(body, NDA_DST, neighbour.address);
        body.bytes(NDA_LLADDR, &neighbour.mac.0);
    });
}

pub(super) fn write_fdb(batch: &mut Batch, verb: Verb, entry: &FdbEntry, index: u32) {
    let (kind, replace) = verb.pick(libc::RTM_NEWNEIGH, libc::RTM_DELNEIGH);
    // Group addresses and the default (all zero) have many remotes: vxlan wants them appended, never replaced.
    let many = entry.mac.0[0] & 1 != 0 || entry.mac.0 == [0; 6];
    let flags = if many && verb == Verb::Add { create_flags(libc::NLM_F_APPEND) } else { replace };
    batch.request(kind, flags, |body| {
        write_ndmsg(body, AF_BRIDGE, index, NTF_SELF);
        write_ip(body, NDA_DST, entry.remote);
        body.bytes(NDA_LLADDR, &entry.mac.0);
    });
}

fn write_ndmsg(body: &mut Body<'_>, family: u8, index: u32, flags: u8) {
    let [a, b, c, d] = index.to_ne_bytes();
    let [e, f] = libc::NUD_PERMANENT.to_ne_bytes();
    body.fixed(&[family, 0, 0, 0, a, b, c, d, e, f, flags, 0]);
}

fn write_ip(body: &mut Body<'_>, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(address) => body.bytes(kind, &address.octets()),
        IpAddr::V6(address) => body.bytes(kind, &address.octets()),
    }
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// An entry names a device that was not there when the names were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnknownDevice;

fn device(names: &Names, index: u32) -> Result<String, UnknownDevice> {
    names.name(index).map(str::to_owned).ok_or(UnknownDevice)
}

/// `Ok(None)`: not one of those that are values here.
pub(super) fn read_address(
    message: Message<'_>,
    names: &Names,
) -> Result<Option<Address>, UnknownDevice> {
    let Some((header, attributes)) = message.split::<8>() else { return Ok(None) };
    let local = attributes.find(IFA_LOCAL).or_else(|| attributes.find(IFA_ADDRESS));
    let Some(net) = local.and_then(|local| net(local.value, header[1])) else { return Ok(None) };
    let index = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
    Ok(Some(Address { device: device(names, index)?, net }))
}

/// Unicast routes of the main table, one for each next hop.
pub(super) fn read_routes(
    message: Message<'_>,
    names: &Names,
    into: &mut Vec<Route>,
) -> Result<(), UnknownDevice> {
    let Some((header, attributes)) = message.split::<12>() else { return Ok(()) };
    let Some(destination) = main_destination(header, &attributes, libc::RTN_UNICAST) else {
        return Ok(());
    };
    let protocol = header[5];
    let flags = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
    let source = attributes.find(RTA_PREFSRC).and_then(|source| ip(source.value));
    let mut add = |index: u32, flags: u32, hop: &Attributes<'_>| {
        let onlink = flags & RTNH_F_ONLINK != 0;
        let device = device(names, index)?;
        into.push(Route { destination, via: read_gateway(hop), device, onlink, source, protocol });
        Ok(())
    };
    if let Some(index) = attributes.find(RTA_OIF).and_then(|index| index.u32()) {
        return add(index, flags, &attributes);
    }
    let hops = attributes.find(RTA_MULTIPATH).map_or(&[][..], |hops| hops.value);
    NextHops { rest: hops }.try_for_each(|(index, flags, hop)| add(index, flags, &hop))
}

/// Unreachable destinations of the main table.
pub(super) fn read_unreachable(message: Message<'_>) -> Option<Unreachable> {
    let (header, attributes) = message.split::<12>()?;
    let destination = main_destination(header, &attributes, libc::RTN_UNREACHABLE)?;
    Some(Unreachable { destination, protocol: header[5] })
}

/// Single addresses of table `local` that the kernel did not make itself.
pub(super) fn read_local(
    message: Message<'_>,
    names: &Names,
) -> Result<Option<Local>, UnknownDevice> {
    let Some((header, attributes)) = message.split::<12>() else { return Ok(None) };
    let [family, length, _, _, table, protocol, _, kind, ..] = *header;
    let table = attributes.find(RTA_TABLE).and_then(|it| it.u32()).unwrap_or(u32::from(table));
    let whole = length == if family == AF_INET { 32 } else { 128 };
    let local = table == u32::from(libc::RT_TABLE_LOCAL) && kind == libc::RTN_LOCAL;
    if !whole || !local || protocol == Route::KERNEL {
        return Ok(None);
    }
    let address = attributes.find(RTA_DST).and_then(|address| ip(address.value));
    let index = attributes.find(RTA_OIF).and_then(|index| index.u32());
    let (Some(address), Some(index)) = (address, index) else { return Ok(None) };
    let source = attributes.find(RTA_PREFSRC).and_then(|source| ip(source.value));
    Ok(Some(Local { address, device: device(names, index)?, source, protocol }))
}

/// The destination of a route of this kind in the main table, as `struct rtmsg` and its attributes have it.
fn main_destination(header: &[u8; 12], attributes: &Attributes<'_>, wanted: u8) -> Option<IpNet> {
    let [family, length, _, _, table, _, _, kind, flags @ ..] = *header;
    let table =
        attributes.find(RTA_TABLE).and_then(|table| table.u32()).unwrap_or(u32::from(table));
    let main = table == u32::from(libc::RT_TABLE_MAIN);
    if !main || kind != wanted || u32::from_ne_bytes(flags) & RTM_F_CLONED != 0 {
        return None;
    }
    let zero = if family == AF_INET { &[0; 4][..] } else { &[0; 16] };
    net(attributes.find(RTA_DST).map_or(zero, |destination| destination.value), length)
}

fn read_gateway(hop: &Attributes<'_>) -> Option<IpAddr> {
    let gateway = hop.find(RTA_GATEWAY).and_then(|gateway| ip(gateway.value));
    gateway.or_else(|| hop.find(RTA_VIA).and_then(|via| ip(via.value.get(2..)?)))
}

/// The hops of `RTA_MULTIPATH`: `struct rtnexthop` (length, flags, hops, index), then attributes.
struct NextHops<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for NextHops<'a> {
    type Item = (u32, u32, Attributes<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let [a, b, flags, _, c, d, e, f] = *self.rest.first_chunk::<8>()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let attributes = Attributes::new(self.rest.get(8..length)?);
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u32::from_ne_bytes([c, d, e, f]), u32::from(flags), attributes))
    }
}

/// The fields of `struct ndmsg` that matter, for permanent entries only.
fn read_ndmsg<'a>(message: &Message<'a>) -> Option<(u32, u8, Attributes<'a>)> {
    let (header, attributes) = message.split::<12>()?;
    let state = u16::from_ne_bytes([header[8], header[9]]);
    let index = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
    (state & libc::NUD_PERMANENT != 0).then_some((index, header[10], attributes))
}

pub(super) fn read_neighbour(
    message: Message<'_>,
    names: &Names,
) -> Result<Option<Neighbour>, UnknownDevice> {
    let Some((index, _, attributes)) = read_ndmsg(&message) else { return Ok(None) };
    let (Some(address), Some(mac)) = (read_ip(&attributes), read_mac(&attributes)) else {
        return Ok(None);
    };
    Ok(Some(Neighbour { device: device(names, index)?, address, mac }))
}

/// Entries with a remote: those of VXLAN devices.
pub(super) fn read_fdb(
    message: Message<'_>,
    names: &Names,
) -> Result<Option<FdbEntry>, UnknownDevice> {
    let Some((index, flags, attributes)) = read_ndmsg(&message) else { return Ok(None) };
    let (Some(remote), Some(mac)) = (read_ip(&attributes), read_mac(&attributes)) else {
        return Ok(None);
    };
    if flags & NTF_SELF == 0 {
        return Ok(None);
    }
    Ok(Some(FdbEntry { device: device(names, index)?, mac, remote }))
}

fn read_ip(attributes: &Attributes<'_>) -> Option<IpAddr> {
    ip(attributes.find(NDA_DST)?.value)
}

fn read_mac(attributes: &Attributes<'_>) -> Option<Mac> {
    attributes.find(NDA_LLADDR)?.value.try_into().ok().map(Mac)
}

pub(crate) fn ip(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
    }
}

fn net(octets: &[u8], length: u8) -> Option<IpNet> {
    IpNet::new(ip(octets)?, length).ok()
}
