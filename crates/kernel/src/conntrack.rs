//! Connections as the kernel tracks them, over `NETLINK_NETFILTER`.
//!
//! Reading: [`connections`]. Ending an entry, so that the next packet is translated anew: [`delete`]. Hearing of
//! those that ended: [`Ended`].

mod ended;
mod statistics;

pub use ended::Ended;
pub use statistics::{Statistics, statistics};

use crate::Result;
use crate::netlink::{Attributes, Batch, Body, Message, Socket, flags};
use crate::nft::Count;
use crate::route::ip;
use nix::errno::Errno;
use std::net::IpAddr;

/// One tracked connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// As its first packet came, before any translation.
    pub original: Tuple,
    /// As its answers come, before they are translated back: with destination NAT the source is who really answers.
    pub reply: Tuple,
    /// `CT --zone`; 0 where nobody set one.
    pub zone: u16,
    /// Bits of `enum ip_conntrack_status`; see [`Connection::answered`] and its neighbours.
    pub status: u32,
    pub mark: u32,
    /// Seconds until it is forgotten; `None` where it is offloaded and has none.
    pub timeout: Option<u32>,
    pub tcp_state: Option<TcpState>,
    /// Counted only with sysctl `net/netfilter/nf_conntrack_acct`.
    pub counts: Option<Counts>,
    /// The kernel's number for this very entry: another one of the same tuple has another.
    pub id: u32,
}

impl Connection {
    /// `IPS_SEEN_REPLY`.
    pub fn answered(&self) -> bool {
        self.status & 1 << 1 != 0
    }

    /// `IPS_ASSURED`: it is not thrown out early when the table is full.
    pub fn assured(&self) -> bool {
        self.status & 1 << 2 != 0
    }

    /// `IPS_SRC_NAT`.
    pub fn source_translated(&self) -> bool {
        self.status & 1 << 4 != 0
    }

    /// `IPS_DST_NAT`.
    pub fn destination_translated(&self) -> bool {
        self.status & 1 << 5 != 0
    }
}

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// `IPPROTO_*`.
    pub protocol: u8,
    pub ends: Ends,
}

impl Tuple {
    pub fn source_port(&self) -> Option<u16> {
        match self.ends {
            Ends::Ports { source, .. } => Some(source),
            Ends::Icmp { .. } | Ends::None => None,
        }
    }

    pub fn destination_port(&self) -> Option<u16> {
        match self.ends {
            Ends::Ports { destination, .. } => Some(destination),
            Ends::Icmp { .. } | Ends::None => None,
        }
    }
}

/// What tells connections between two addresses apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ends {
    /// TCP, UDP, SCTP and the like.
    Ports {
        source: u16,
        destination: u16,
    },
    /// ICMP and ICMPv6 queries.
    Icmp {
        id: u16,
        kind: u8,
        code: u8,
    },
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub original: Count,
    pub reply: Count,
}

/// `enum tcp_conntrack`, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpState {
    None,
    SynSent,
    SynReceived,
    Established,
    FinWait,
    CloseWait,
    LastAck,
    TimeWait,
    Close,
    SynSent2,
}

/// Which connections to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Ipv4,
    Ipv6,
    Both,
}

const NEW: u16 = 1 << 8;
const GET: u16 = NEW | 1;
const DELETE: u16 = NEW | 2;
/// Octets of `struct nfgenmsg`.
const GENERIC: usize = 4;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

// linux/netfilter/nfnetlink_conntrack.h
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_PROTOINFO: u16 = 4;
const CTA_TIMEOUT: u16 = 7;
const CTA_MARK: u16 = 8;
const CTA_COUNTERS_ORIG: u16 = 9;
const CTA_COUNTERS_REPLY: u16 = 10;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
/// Identifier, type, code follow each other; the same for ICMPv6 from 7 on.
const CTA_PROTO_ICMP_ID: u16 = 4;
const CTA_PROTO_ICMPV6_ID: u16 = 7;
const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;
const CTA_COUNTERS_PACKETS: u16 = 1;
const CTA_COUNTERS_BYTES: u16 = 2;
const IPPROTO_ICMP: u8 = 1;
const IPPROTO_ICMPV6: u8 = 58;

/// The connections that `keep` wants, in no order; entries come and go while they are read.
pub fn connections(
    socket: &mut Socket,
    which: Which,
    mut keep: impl FnMut(&Connection) -> bool,
) -> Result<Vec<Connection>> {
    let family = match which {
        Which::Ipv4 => AF_INET,
        Which::Ipv6 => AF_INET6,
        Which::Both => 0,
    };
    let mut batch = Batch::default();
    batch.request(GET, flags(libc::NLM_F_DUMP), |body| body.fixed(&[family, 0, 0, 0]));
    socket.dump("read connections", "", &mut batch, |found: &mut Vec<Connection>, message| {
        found.extend(read(message).filter(|connection| keep(connection)));
        Ok(())
    })
}

/// Forgets the connection with this original tuple; false when there is none.
///
/// With `id`, only that very entry: one that took its place in between stays.
pub fn delete(socket: &mut Socket, original: &Tuple, zone: u16, id: Option<u32>) -> Result<bool> {
    let operation = "delete connection";
    let mut batch = Batch::default();
    let family = if original.source.is_ipv4() { AF_INET } else { AF_INET6 };
    batch.request(DELETE, 0, |body| {
        body.fixed(&[family, 0, 0, 0]);
        body.nest(CTA_TUPLE_ORIG, |body| write_tuple(body, original));
        if zone != 0 {
            body.be16(CTA_ZONE, zone);
        }
        if let Some(id) = id {
            body.be32(CTA_ID, id);
        }
    });
    match socket.execute(operation, &mut batch)?.into_iter().next() {
        None => Ok(true),
        Some(refusal) if refusal.errno == Errno::ENOENT => Ok(false),
        Some(refusal) => Err(refusal.into_error(operation, format!("{original:?}"))),
    }
}

fn write_tuple(body: &mut Body<'_>, tuple: &Tuple) {
    body.nest(CTA_TUPLE_IP, |body| {
        write_ip(body, CTA_IP_V4_SRC, CTA_IP_V6_SRC, tuple.source);
        write_ip(body, CTA_IP_V4_DST, CTA_IP_V6_DST, tuple.destination);
    });
    body.nest(CTA_TUPLE_PROTO, |body| {
        body.u8(CTA_PROTO_NUM, tuple.protocol);
        match tuple.ends {
            Ends::Ports { source, destination } => {
                body.be16(CTA_PROTO_SRC_PORT, source);
                body.be16(CTA_PROTO_DST_PORT, destination);
            }
            Ends::Icmp { id, kind, code } => {
                let first = if tuple.protocol == IPPROTO_ICMPV6 {
                    CTA_PROTO_ICMPV6_ID
                } else {
                    CTA_PROTO_ICMP_ID
                };
                body.be16(first, id);
                body.u8(first + 1, kind);
                body.u8(first + 2, code);
            }
            Ends::None => {}
        }
    });
}

fn write_ip(body: &mut Body<'_>, v4: u16, v6: u16, address: IpAddr) {
    match address {
        IpAddr::V4(address) => body.bytes(v4, &address.octets()),
        IpAddr::V6(address) => body.bytes(v6, &address.octets()),
    }
}

/// `None` for a message that is no connection.
fn read(message: Message<'_>) -> Option<Connection> {
    let (_, attributes) = message.split::<GENERIC>()?;
    let number = |kind| attributes.find(kind).and_then(|attribute| attribute.be32());
    let tcp = attributes.find(CTA_PROTOINFO).and_then(|info| info.nested().find(CTA_PROTOINFO_TCP));
    Some(Connection {
        original: read_tuple(&attributes, CTA_TUPLE_ORIG)?,
        reply: read_tuple(&attributes, CTA_TUPLE_REPLY)?,
        zone: attributes.find(CTA_ZONE).and_then(|zone| zone.be16()).unwrap_or(0),
        status: number(CTA_STATUS).unwrap_or(0),
        mark: number(CTA_MARK).unwrap_or(0),
        timeout: number(CTA_TIMEOUT),
        tcp_state: tcp.and_then(|tcp| tcp_state(tcp.nested().find(CTA_PROTOINFO_TCP_STATE)?.u8()?)),
        counts: read_counts(&attributes),
        id: number(CTA_ID).unwrap_or(0),
    })
}

fn read_counts(attributes: &Attributes<'_>) -> Option<Counts> {
    let count = |kind| {
        let nested = attributes.find(kind)?.nested();
        let number = |kind| nested.find(kind)?.be64();
        Some(Count { packets: number(CTA_COUNTERS_PACKETS)?, octets: number(CTA_COUNTERS_BYTES)? })
    };
    Some(Counts { original: count(CTA_COUNTERS_ORIG)?, reply: count(CTA_COUNTERS_REPLY)? })
}

fn read_tuple(attributes: &Attributes<'_>, kind: u16) -> Option<Tuple> {
    let tuple = attributes.find(kind)?.nested();
    let addresses = tuple.find(CTA_TUPLE_IP)?.nested();
    let address = |v4, v6| ip(addresses.find(v4).or_else(|| addresses.find(v6))?.value);
    let proto = tuple.find(CTA_TUPLE_PROTO)?.nested();
    let protocol = proto.find(CTA_PROTO_NUM)?.u8()?;
    Some(Tuple {
        source: address(CTA_IP_V4_SRC, CTA_IP_V6_SRC)?,
        destination: address(CTA_IP_V4_DST, CTA_IP_V6_DST)?,
        protocol,
        ends: read_ends(&proto, protocol),
    })
}

fn read_ends(proto: &Attributes<'_>, protocol: u8) -> Ends {
    let port = |kind| proto.find(kind).and_then(|port| port.be16());
    let octet = |kind| proto.find(kind).and_then(|octet| octet.u8());
    let icmp = match protocol {
        IPPROTO_ICMP => CTA_PROTO_ICMP_ID,
        _ => CTA_PROTO_ICMPV6_ID,
    };
    match (port(CTA_PROTO_SRC_PORT), port(CTA_PROTO_DST_PORT)) {
        (Some(source), Some(destination)) => Ends::Ports { source, destination },
        _ => match (port(icmp), octet(icmp + 1), octet(icmp + 2)) {
            (Some(id), Some(kind), Some(code)) => Ends::Icmp { id, kind, code },
            _ => Ends::None,
        },
    }
}

fn tcp_state(number: u8) -> Option<TcpState> {
    use TcpState::{
        Close, CloseWait, Established, FinWait, LastAck, None, SynReceived, SynSent, SynSent2,
        TimeWait,
    };
    let states = [
        None,
        SynSent,
        SynReceived,
        Established,
        FinWait,
        CloseWait,
        LastAck,
        TimeWait,
        Close,
        SynSent2,
    ];
    states.get(usize::from(number)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Messages;
    use proptest::prelude::*;

    fn tuple() -> impl Strategy<Value = Tuple> {
        let ends = prop_oneof![
            any::<(u16, u16)>()
                .prop_map(|(source, destination)| (6, Ends::Ports { source, destination })),
            any::<(u16, u8, u8)>()
                .prop_map(|(id, kind, code)| (IPPROTO_ICMP, Ends::Icmp { id, kind, code })),
            any::<(u16, u8, u8)>()
                .prop_map(|(id, kind, code)| (IPPROTO_ICMPV6, Ends::Icmp { id, kind, code })),
            Just((47, Ends::None)),
        ];
        let addresses = prop_oneof![
            any::<(std::net::Ipv4Addr, std::net::Ipv4Addr)>()
                .prop_map(|(a, b)| (a.into(), b.into())),
            any::<(std::net::Ipv6Addr, std::net::Ipv6Addr)>()
                .prop_map(|(a, b)| (a.into(), b.into())),
        ];
        (addresses, ends).prop_map(|((source, destination), (protocol, ends))| Tuple {
            source,
            destination,
            protocol,
            ends,
        })
    }

    fn listed(original: &Tuple, reply: &Tuple) -> Batch {
        let mut batch = Batch::default();
        batch.request(NEW, 0, |body| {
            body.fixed(&[0; GENERIC]);
            body.nest(CTA_TUPLE_ORIG, |body| write_tuple(body, original));
            body.nest(CTA_TUPLE_REPLY, |body| write_tuple(body, reply));
        });
        batch
    }

    proptest! {
        #[test]
        fn tuples_read_back_as_written(original in tuple(), reply in tuple()) {
            let batch = listed(&original, &reply);
            let read = read(Messages::new(batch.as_bytes()).next().unwrap()).unwrap();
            prop_assert_eq!((read.original, read.reply), (original, reply));
        }

        #[test]
        fn spoilt_messages_never_panic(tuple in tuple(), at in any::<prop::sample::Index>(), octet in any::<u8>()) {
            let mut octets = listed(&tuple, &tuple).as_bytes().to_vec();
            let at = at.index(octets.len());
            octets[at] = octet;
            let _unused = Messages::new(&octets).map(read).count();
        }
    }
}
