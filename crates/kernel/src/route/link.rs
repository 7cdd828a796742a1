//! Links: what is asked and what is read.

use super::abi::*;
use super::names::Names;
use crate::netlink::{Attributes, Batch, Body, Message};
use netstate::link::Vxlan;
use netstate::{Link, LinkKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use wire::Mac;

/// Octets of `struct ifinfomsg`.
const IFINFO: usize = 16;
const ARPHRD_LOOPBACK: u16 = 772;
const UP: u32 = libc::IFF_UP.cast_unsigned();

/// A link as it was found, with what only the kernel knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLink {
    pub index: u32,
    pub link: Link,
    /// Index of the bridge or other device it is enslaved to.
    pub master: Option<u32>,
    /// Whether frames can pass: up, and so is the other end (`IFF_LOWER_UP`).
    pub running: bool,
}

/// A link to make, and where.
#[derive(Debug, Clone, Copy)]
pub struct NewLink<'a> {
    pub link: &'a Link,
    /// Name of the bridge that it joins.
    pub master: Option<&'a str>,
    /// The network namespace it is made in; `None`: the socket's own.
    pub namespace: Option<BorrowedFd<'a>>,
    /// The other end of a veth pair; for other kinds `None`.
    pub peer: Option<Peer<'a>>,
}

impl<'a> NewLink<'a> {
    pub fn new(link: &'a Link) -> Self {
        NewLink { link, master: None, namespace: None, peer: None }
    }
}

/// The other end of a veth pair.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// Its kind is ignored, and it arrives down: the kernel cannot raise an end before the pair is one.
    pub link: &'a Link,
    /// The network namespace it is made in; `None`: the socket's own.
    pub namespace: Option<BorrowedFd<'a>>,
}

/// Writes the request; the name of a device it refers to and that is unknown comes back.
pub(super) fn write_new<'a>(
    batch: &mut Batch,
    new: &NewLink<'a>,
    names: &Names,
) -> Result<(), &'a str> {
    let index_of = |name: &'a str| names.index(name).ok_or(name);
    let master = new.master.map(index_of).transpose()?;
    let device = match &new.link.kind {
        LinkKind::Vxlan(vxlan) => Some(index_of(&vxlan.device)?),
        _ => None,
    };
    let flags = create_flags(libc::NLM_F_EXCL);
    batch.request(libc::RTM_NEWLINK, flags, |body| {
        write_end(body, new.link, if new.link.up { UP } else { 0 }, new.namespace);
        if let Some(master) = master {
            body.u32(IFLA_MASTER, master);
        }
        body.nest(IFLA_LINKINFO, |info| write_info(info, new, device));
    });
    Ok(())
}

/// What both ends of a pair have: header, name, address, MTU, namespace.
fn write_end(body: &mut Body<'_>, link: &Link, flags: u32, namespace: Option<BorrowedFd<'_>>) {
    write_header(body, 0, flags, flags);
    body.text(IFLA_IFNAME, &link.name);
    if let Some(mac) = link.mac {
        body.bytes(IFLA_ADDRESS, &mac.0);
    }
    if let Some(mtu) = link.mtu {
        body.u32(IFLA_MTU, mtu);
    }
    if let Some(namespace) = namespace {
        body.u32(IFLA_NET_NS_FD, namespace.as_raw_fd().cast_unsigned());
    }
}

fn write_info(info: &mut Body<'_>, new: &NewLink<'_>, device: Option<u32>) {
    info.text(IFLA_INFO_KIND, kind_word(&new.link.kind));
    match &new.link.kind {
        LinkKind::Vxlan(vxlan) => {
            info.nest(IFLA_INFO_DATA, |data| write_vxlan(data, vxlan, device))
        }
        LinkKind::Veth { peer: name } => info.nest(IFLA_INFO_DATA, |data| {
            data.nest(VETH_INFO_PEER, |end| match (&new.peer, name) {
                (Some(peer), _) => write_end(end, peer.link, 0, peer.namespace),
                (None, Some(name)) => {
                    write_header(end, 0, 0, 0);
                    end.text(IFLA_IFNAME, name);
                }
                (None, None) => write_header(end, 0, 0, 0),
            });
        }),
        LinkKind::Bridge | LinkKind::Loopback | LinkKind::Other(_) => {}
    }
}

fn write_vxlan(data: &mut Body<'_>, vxlan: &Vxlan, device: Option<u32>) {
    data.u32(IFLA_VXLAN_ID, vxlan.vni);
    data.be16(IFLA_VXLAN_PORT, vxlan.port);
    data.u8(IFLA_VXLAN_LEARNING, u8::from(vxlan.learning));
    match vxlan.local {
        IpAddr::V4(local) => data.bytes(IFLA_VXLAN_LOCAL, &local.octets()),
        IpAddr::V6(local) => data.bytes(IFLA_VXLAN_LOCAL6, &local.octets()),
    }
    if let Some(device) = device {
        data.u32(IFLA_VXLAN_LINK, device);
    }
}

fn kind_word(kind: &LinkKind) -> &str {
    match kind {
        LinkKind::Bridge => "bridge",
        LinkKind::Veth { .. } => "veth",
        LinkKind::Vxlan(_) => "vxlan",
        LinkKind::Loopback => "loopback",
        LinkKind::Other(word) => word,
    }
}

pub(super) fn write_header(body: &mut Body<'_>, index: u32, flags: u32, change: u32) {
    let mut header = [0; IFINFO];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    body.fixed(&header);
}

/// A request about one link by name: flags to change, then what `rest` writes.
pub(super) fn write_named(
    batch: &mut Batch,
    kind: u16,
    device: &str,
    (flags, change): (u32, u32),
    rest: impl FnOnce(&mut Body<'_>),
) {
    batch.request(kind, 0, |body| {
        write_header(body, 0, flags, change);
        body.text(IFLA_IFNAME, device);
        rest(body);
    });
}

pub(super) fn write_up(batch: &mut Batch, device: &str, up: bool) {
    write_named(batch, libc::RTM_SETLINK, device, (if up { UP } else { 0 }, UP), |_nothing| {});
}

/// `NLM_F_CREATE` and one more flag of a new-something request.
pub(super) fn create_flags(more: libc::c_int) -> u16 {
    crate::netlink::flags(libc::NLM_F_CREATE | more)
}

/// A link as read, before the indices it mentions have names.
#[derive(Debug)]
pub(super) struct RawLink {
    found: FoundLink,
    /// `IFLA_LINK`, where it is in the same namespace.
    lower: Option<u32>,
}

impl RawLink {
    /// `None` for a message that is no link.
    pub(super) fn read(message: Message<'_>) -> Option<RawLink> {
        let (header, attributes) = message.split::<IFINFO>()?;
        let arp_type = u16::from_ne_bytes([header[2], header[3]]);
        let flags = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
        let (kind, lower) = read_kind(&attributes, arp_type);
        let link = Link {
            name: attributes.find(IFLA_IFNAME)?.text()?.to_owned(),
            kind,
            mac: attributes
                .find(IFLA_ADDRESS)
                .and_then(|address| address.value.try_into().ok())
                .map(Mac),
            mtu: attributes.find(IFLA_MTU).and_then(|mtu| mtu.u32()),
            up: flags & UP != 0,
        };
        let index = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
        let master = attributes.find(IFLA_MASTER).and_then(|master| master.u32());
        let running = flags & libc::IFF_LOWER_UP.cast_unsigned() != 0 && link.up;
        Some(RawLink { found: FoundLink { index, link, master, running }, lower })
    }

    pub(super) fn index(&self) -> u32 {
        self.found.index
    }

    pub(super) fn name(&self) -> &str {
        &self.found.link.name
    }

    /// Whether names of other links are needed to say what it is.
    pub(super) fn refers(&self) -> bool {
        self.lower.is_some()
    }

    pub(super) fn resolve(mut self, names: &Names) -> FoundLink {
        let lower = self.lower.and_then(|index| names.name(index)).map(str::to_owned);
        match &mut self.found.link.kind {
            LinkKind::Veth { peer } => *peer = lower,
            LinkKind::Vxlan(vxlan) => vxlan.device = lower.unwrap_or_default(),
            LinkKind::Bridge | LinkKind::Loopback | LinkKind::Other(_) => {}
        }
        self.found
    }
}

/// The kind, and the index of the link it is about: a veth's peer, a vxlan's underlay.
fn read_kind(attributes: &Attributes<'_>, arp_type: u16) -> (LinkKind, Option<u32>) {
    let info =
        attributes.find(IFLA_LINKINFO).map(|info| info.nested()).unwrap_or(Attributes::new(&[]));
    let data = info.find(IFLA_INFO_DATA).map(|data| data.nested()).unwrap_or(Attributes::new(&[]));
    match info.find(IFLA_INFO_KIND).and_then(|kind| kind.text()) {
        Some("bridge") => (LinkKind::Bridge, None),
        Some("veth") => {
            let elsewhere = attributes.find(IFLA_LINK_NETNSID).is_some();
            let peer =
                attributes.find(IFLA_LINK).and_then(|link| link.u32()).filter(|_index| !elsewhere);
            (LinkKind::Veth { peer: None }, peer)
        }
        Some("vxlan") => (
            LinkKind::Vxlan(read_vxlan(&data)),
            data.find(IFLA_VXLAN_LINK).and_then(|link| link.u32()),
        ),
        Some(word) => (LinkKind::Other(word.to_owned()), None),
        None if arp_type == ARPHRD_LOOPBACK => (LinkKind::Loopback, None),
        None => (LinkKind::Other(String::new()), None),
    }
}

fn read_vxlan(data: &Attributes<'_>) -> Vxlan {
    let local4 =
        data.find(IFLA_VXLAN_LOCAL).and_then(|local| <[u8; 4]>::try_from(local.value).ok());
    let local6 =
        data.find(IFLA_VXLAN_LOCAL6).and_then(|local| <[u8; 16]>::try_from(local.value).ok());
    let local = match (local4, local6) {
        (Some(octets), _) => IpAddr::V4(Ipv4Addr::from(octets)),
        (None, Some(octets)) => IpAddr::V6(Ipv6Addr::from(octets)),
        (None, None) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    Vxlan {
        vni: data.find(IFLA_VXLAN_ID).and_then(|id| id.u32()).unwrap_or_default(),
        port: data.find(IFLA_VXLAN_PORT).and_then(|port| port.be16()).unwrap_or_default(),
        local,
        device: String::new(),
        learning: data.find(IFLA_VXLAN_LEARNING).and_then(|learning| learning.u8()) == Some(1),
    }
}
