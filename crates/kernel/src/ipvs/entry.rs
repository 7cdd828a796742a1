//! Virtual and real servers, to requests and back.

use super::abi::*;
use super::{Load, Traffic, Verb};
use crate::netlink::{Attributes, Batch, Body, Message};
use netstate::ipvs::{
    Change, Family, Forward, Persistence, RealServer, Scheduler, SchedulerFlags, Settings,
    VirtualAddress, VirtualServer,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// A virtual server as read, nobody behind it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) virtual_address: VirtualAddress,
    pub(super) server: VirtualServer,
    pub(super) traffic: Traffic,
}

pub(super) type Real = (SocketAddr, RealServer, Load);

pub(super) fn write_change(batch: &mut Batch, family: u16, verb: Verb, change: &Change) {
    let pick = |new, edit| if verb == Verb::New { new } else { edit };
    let (command, virtual_address) = match change {
        Change::SetVirtual { virtual_address, .. } => {
            (pick(IPVS_CMD_NEW_SERVICE, IPVS_CMD_SET_SERVICE), virtual_address)
        }
        Change::DeleteVirtual { virtual_address } => (IPVS_CMD_DEL_SERVICE, virtual_address),
        Change::SetReal { virtual_address, .. } => {
            (pick(IPVS_CMD_NEW_DEST, IPVS_CMD_SET_DEST), virtual_address)
        }
        Change::DeleteReal { virtual_address, .. } => (IPVS_CMD_DEL_DEST, virtual_address),
    };
    batch.request(family, 0, |body| {
        body.fixed(&header(command));
        body.nest(IPVS_CMD_ATTR_SERVICE, |body| {
            write_identity(body, virtual_address);
            if let Change::SetVirtual { settings, .. } = change {
                write_settings(body, virtual_address.family(), settings);
            }
        });
        match change {
            Change::SetReal { address, server, .. } => {
                body.nest(IPVS_CMD_ATTR_DEST, |body| write_real(body, *address, Some(server)));
            }
            Change::DeleteReal { address, .. } => {
                body.nest(IPVS_CMD_ATTR_DEST, |body| write_real(body, *address, None));
            }
            Change::SetVirtual { .. } | Change::DeleteVirtual { .. } => {}
        }
    });
}

/// What tells a virtual server from the others.
pub(super) fn write_identity(body: &mut Body<'_>, virtual_address: &VirtualAddress) {
    body.u16(IPVS_SVC_ATTR_AF, af(virtual_address.family()));
    match virtual_address {
        VirtualAddress::Socket { protocol, address } => {
            body.u16(IPVS_SVC_ATTR_PROTOCOL, u16::from(*protocol));
            write_address(body, IPVS_SVC_ATTR_ADDR, address.ip());
            body.be16(IPVS_SVC_ATTR_PORT, address.port());
        }
        VirtualAddress::Mark { mark, .. } => body.u32(IPVS_SVC_ATTR_FWMARK, *mark),
    }
}

pub(super) fn write_settings(body: &mut Body<'_>, family: Family, settings: &Settings) {
    body.text(IPVS_SVC_ATTR_SCHED_NAME, settings.scheduler.name());
    if let Some(engine) = &settings.engine {
        body.text(IPVS_SVC_ATTR_PE_NAME, engine);
    }
    // `struct ip_vs_flags`: the bits, and which of them are meant.
    let flags = flag_bits(settings).to_ne_bytes();
    body.bytes(IPVS_SVC_ATTR_FLAGS, &[flags, u32::MAX.to_ne_bytes()].concat());
    body.u32(IPVS_SVC_ATTR_TIMEOUT, settings.persistence.map_or(0, |kept| kept.timeout));
    let prefix = settings.persistence.map_or(family.whole(), |kept| kept.prefix);
    match family {
        Family::Ipv4 => body.be32(IPVS_SVC_ATTR_NETMASK, mask(prefix)),
        // The kernel takes the length itself, in its own byte order.
        Family::Ipv6 => body.u32(IPVS_SVC_ATTR_NETMASK, u32::from(prefix)),
    }
}

fn flag_bits(settings: &Settings) -> u32 {
    let SchedulerFlags { fallback, port, third } = settings.scheduler_flags;
    let bits = [
        (settings.persistence.is_some(), IP_VS_SVC_F_PERSISTENT),
        (settings.one_packet, IP_VS_SVC_F_ONEPACKET),
        (fallback, IP_VS_SVC_F_SCHED1),
        (port, IP_VS_SVC_F_SCHED2),
        (third, IP_VS_SVC_F_SCHED3),
    ];
    bits.into_iter().filter(|(set, _)| *set).fold(0, |bits, (_, bit)| bits | bit)
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32u32.saturating_sub(u32::from(prefix))).unwrap_or(0)
}

/// `server`: `None` to say only which one is meant.
pub(super) fn write_real(body: &mut Body<'_>, address: SocketAddr, server: Option<&RealServer>) {
    body.u16(IPVS_DEST_ATTR_ADDR_FAMILY, af(Family::of(address.ip())));
    write_address(body, IPVS_DEST_ATTR_ADDR, address.ip());
    body.be16(IPVS_DEST_ATTR_PORT, address.port());
    if let Some(server) = server {
        body.u32(IPVS_DEST_ATTR_FWD_METHOD, forward_bits(server.forward));
        body.u32(IPVS_DEST_ATTR_WEIGHT, server.weight);
        body.u32(IPVS_DEST_ATTR_U_THRESH, server.upper_threshold);
        body.u32(IPVS_DEST_ATTR_L_THRESH, server.lower_threshold);
    }
}

fn forward_bits(forward: Forward) -> u32 {
    match forward {
        Forward::Masquerade => IP_VS_CONN_F_MASQ,
        Forward::Local => IP_VS_CONN_F_LOCALNODE,
        Forward::Tunnel => IP_VS_CONN_F_TUNNEL,
        Forward::Route => IP_VS_CONN_F_DROUTE,
        Forward::Bypass => IP_VS_CONN_F_BYPASS,
    }
}

/// `union nf_inet_addr`: sixteen octets, of which IPv4 has the first four.
fn write_address(body: &mut Body<'_>, kind: u16, address: IpAddr) {
    let mut octets = [0; 16];
    match address {
        IpAddr::V4(address) => octets[..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => octets = address.octets(),
    }
    body.bytes(kind, &octets);
}

fn af(family: Family) -> u16 {
    match family {
        Family::Ipv4 => AF_INET,
        Family::Ipv6 => AF_INET6,
    }
}

/// `None` for a message that is no virtual server.
pub(super) fn read_virtual(message: Message<'_>) -> Option<Found> {
    let (_, attributes) = message.split::<GENERIC>()?;
    let service = attributes.find(IPVS_CMD_ATTR_SERVICE)?.nested();
    let family = family(service.find(IPVS_SVC_ATTR_AF)?.u16()?)?;
    let virtual_address = match service.find(IPVS_SVC_ATTR_FWMARK).and_then(|mark| mark.u32()) {
        Some(mark) => VirtualAddress::Mark { family, mark },
        None => VirtualAddress::Socket {
            protocol: u8::try_from(service.find(IPVS_SVC_ATTR_PROTOCOL)?.u16()?).ok()?,
            address: SocketAddr::new(
                read_address(&service, IPVS_SVC_ATTR_ADDR, family)?,
                service.find(IPVS_SVC_ATTR_PORT)?.be16()?,
            ),
        },
    };
    let settings = read_settings(&service, family)?;
    let server = VirtualServer { settings, real_servers: BTreeMap::new() };
    let traffic = read_traffic(&service, IPVS_SVC_ATTR_STATS64);
    Some(Found { virtual_address, server, traffic })
}

fn read_settings(service: &Attributes<'_>, family: Family) -> Option<Settings> {
    let flags = service.find(IPVS_SVC_ATTR_FLAGS)?.u32()?;
    let has = |bit| flags & bit != 0;
    let netmask = service.find(IPVS_SVC_ATTR_NETMASK)?;
    let prefix = match family {
        Family::Ipv4 => netmask.be32()?.leading_ones(),
        Family::Ipv6 => netmask.u32()?,
    };
    let kept = Persistence {
        timeout: service.find(IPVS_SVC_ATTR_TIMEOUT)?.u32()?,
        prefix: u8::try_from(prefix).ok()?,
    };
    Some(Settings {
        scheduler: Scheduler::from_name(service.find(IPVS_SVC_ATTR_SCHED_NAME)?.text()?),
        scheduler_flags: SchedulerFlags {
            fallback: has(IP_VS_SVC_F_SCHED1),
            port: has(IP_VS_SVC_F_SCHED2),
            third: has(IP_VS_SVC_F_SCHED3),
        },
        persistence: has(IP_VS_SVC_F_PERSISTENT).then_some(kept),
        one_packet: has(IP_VS_SVC_F_ONEPACKET),
        engine: service.find(IPVS_SVC_ATTR_PE_NAME).and_then(|name| name.text()).map(str::to_owned),
    })
}

/// `None` for a message that is no real server. `family`: that of the virtual server, where the kernel is silent.
pub(super) fn read_real(message: Message<'_>, of: Family) -> Option<Real> {
    let (_, attributes) = message.split::<GENERIC>()?;
    let real = attributes.find(IPVS_CMD_ATTR_DEST)?.nested();
    let number = |kind| real.find(kind).and_then(|attribute| attribute.u32());
    let own = real.find(IPVS_DEST_ATTR_ADDR_FAMILY).and_then(|family| family.u16());
    let address = SocketAddr::new(
        read_address(&real, IPVS_DEST_ATTR_ADDR, own.map_or(Some(of), family)?)?,
        real.find(IPVS_DEST_ATTR_PORT)?.be16()?,
    );
    let server = RealServer {
        forward: read_forward(number(IPVS_DEST_ATTR_FWD_METHOD)?)?,
        weight: number(IPVS_DEST_ATTR_WEIGHT)?,
        upper_threshold: number(IPVS_DEST_ATTR_U_THRESH).unwrap_or(0),
        lower_threshold: number(IPVS_DEST_ATTR_L_THRESH).unwrap_or(0),
    };
    let load = Load {
        active: number(IPVS_DEST_ATTR_ACTIVE_CONNS).unwrap_or(0),
        inactive: number(IPVS_DEST_ATTR_INACT_CONNS).unwrap_or(0),
        persistent: number(IPVS_DEST_ATTR_PERSIST_CONNS).unwrap_or(0),
        traffic: read_traffic(&real, IPVS_DEST_ATTR_STATS64),
    };
    Some((address, server, load))
}

fn read_forward(bits: u32) -> Option<Forward> {
    match bits & IP_VS_CONN_F_FWD_MASK {
        IP_VS_CONN_F_MASQ => Some(Forward::Masquerade),
        IP_VS_CONN_F_LOCALNODE => Some(Forward::Local),
        IP_VS_CONN_F_TUNNEL => Some(Forward::Tunnel),
        IP_VS_CONN_F_DROUTE => Some(Forward::Route),
        IP_VS_CONN_F_BYPASS => Some(Forward::Bypass),
        _ => None,
    }
}

fn read_traffic(attributes: &Attributes<'_>, kind: u16) -> Traffic {
    let stats = attributes.find(kind).map(|stats| stats.nested());
    let number =
        |kind| stats.as_ref().and_then(|stats| stats.find(kind)?.u64()).unwrap_or_default();
    Traffic {
        connections: number(IPVS_STATS_ATTR_CONNS),
        packets_in: number(IPVS_STATS_ATTR_INPKTS),
        packets_out: number(IPVS_STATS_ATTR_OUTPKTS),
        octets_in: number(IPVS_STATS_ATTR_INBYTES),
        octets_out: number(IPVS_STATS_ATTR_OUTBYTES),
    }
}

fn read_address(attributes: &Attributes<'_>, kind: u16, family: Family) -> Option<IpAddr> {
    let octets = attributes.find(kind)?.value;
    match family {
        Family::Ipv4 => octets.first_chunk::<4>().copied().map(IpAddr::from),
        Family::Ipv6 => octets.first_chunk::<16>().copied().map(IpAddr::from),
    }
}

fn family(af: u16) -> Option<Family> {
    match af {
        AF_INET => Some(Family::Ipv4),
        AF_INET6 => Some(Family::Ipv6),
        _ => None,
    }
}
