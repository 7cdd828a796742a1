//! VRRP advertisements for IPv4: version 3 (RFC 9568 §5) and version 2 (RFC 3768 §5).

use crate::checksum::Sum;
use crate::{Error, ipv4, octets};
use std::net::Ipv4Addr;
use std::num::NonZeroU8;
use std::time::Duration;

/// IP protocol number.
pub const PROTOCOL: u8 = 112;
/// Where advertisements go.
pub const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// Anything less came from off the link and is dropped (RFC 9568 §5.1.1.3).
pub const TTL: u8 = 255;

const PACKET: &str = "vrrp advertisement";
const HEADER: usize = 8;
/// Version 2 ends with eight octets of authentication data.
const AUTHENTICATION: usize = 8;
const TYPE_ADVERTISEMENT: u8 = 1;

/// Time between advertisements; the unit decides the version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interval {
    /// Version 3.
    V3(Centiseconds),
    /// Version 2, whole seconds.
    V2(NonZeroU8),
}

impl Interval {
    #[must_use]
    pub fn duration(self) -> Duration {
        match self {
            Interval::V3(Centiseconds(value)) => Duration::from_millis(u64::from(value) * 10),
            Interval::V2(seconds) => Duration::from_secs(seconds.get().into()),
        }
    }
}

/// 10 ms to 40.95 s, the twelve bits of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Centiseconds(u16);

impl Centiseconds {
    pub const MAX: u16 = 0xfff;

    #[must_use]
    pub fn new(value: u16) -> Option<Self> {
        (1..=Self::MAX).contains(&value).then_some(Centiseconds(value))
    }

    /// The duration in whole centiseconds, if it is one that can be sent.
    #[must_use]
    pub fn from_duration(duration: Duration) -> Option<Self> {
        if !duration.as_nanos().is_multiple_of(10_000_000) {
            return None;
        }
        u16::try_from(duration.as_millis() / 10).ok().and_then(Self::new)
    }
}

/// The virtual addresses of a router: 1 to 255 of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses(Vec<Ipv4Addr>);

impl Addresses {
    /// `None` when empty or too many for the count field.
    #[must_use]
    pub fn new(addresses: Vec<Ipv4Addr>) -> Option<Self> {
        (1..=255).contains(&addresses.len()).then_some(Addresses(addresses))
    }

    #[must_use]
    pub fn as_slice(&self) -> &[Ipv4Addr] {
        &self.0
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertisement {
    /// Virtual router identifier.
    pub vrid: NonZeroU8,
    /// 255: owner of the addresses; 0: the Active router resigns.
    pub priority: u8,
    pub interval: Interval,
    pub addresses: Addresses,
}

impl Advertisement {
    /// Reads the payload of an IPv4 packet whose protocol is [`PROTOCOL`].
    ///
    /// Version 3 counts the pseudo-header into its checksum (RFC 5798 §5.2.8); the routers that leave
    /// it out are understood too.
    ///
    /// # Errors
    /// Not a valid advertisement, or TTL other than 255.
    pub fn parse(packet: &ipv4::Repr<'_>) -> Result<Self, Error> {
        let field = |field, value| Error::Field { packet: PACKET, field, value };
        if packet.protocol != PROTOCOL {
            return Err(field("protocol", packet.protocol.into()));
        }
        if packet.ttl != TTL {
            return Err(field("ttl", packet.ttl.into()));
        }
        let header: [u8; HEADER] = octets(packet.payload, 0, PACKET)?;
        if header[0] & 0xf != TYPE_ADVERTISEMENT {
            return Err(field("type", u32::from(header[0] & 0xf)));
        }
        let interval = parse_interval(&header)?;
        let body = message(packet.payload, &header, interval)?;
        check(packet, body, interval)?;
        Ok(Advertisement {
            vrid: NonZeroU8::new(header[1]).ok_or(field("virtual router id", 0))?,
            priority: header[2],
            interval,
            addresses: parse_addresses(body, header[3])?,
        })
    }

    /// The payload of an IPv4 packet from `source` to [`GROUP`].
    #[must_use]
    pub fn emit(&self, source: Ipv4Addr) -> Vec<u8> {
        let addresses = self.addresses.as_slice();
        let count = u8::try_from(addresses.len()).expect("Addresses holds at most 255");
        let (version, interval) = match self.interval {
            Interval::V3(Centiseconds(value)) => (3, value.to_be_bytes()),
            Interval::V2(seconds) => (2, [0, seconds.get()]),
        };
        let mut bytes =
            vec![version << 4 | TYPE_ADVERTISEMENT, self.vrid.get(), self.priority, count];
        bytes.extend(interval);
        bytes.extend([0, 0]);
        for address in addresses {
            bytes.extend(address.octets());
        }
        if version == 2 {
            bytes.extend([0; AUTHENTICATION]);
        }
        let start =
            if version == 3 { pseudo_header(source, GROUP, bytes.len()) } else { Sum::default() };
        let sum = start.with(&bytes).finish().to_be_bytes();
        bytes[6..8].copy_from_slice(&sum);
        bytes
    }
}

fn parse_interval(header: &[u8; HEADER]) -> Result<Interval, Error> {
    let field = |field, value| Error::Field { packet: PACKET, field, value };
    match header[0] >> 4 {
        3 => {
            let value = u16::from_be_bytes([header[4], header[5]]) & Centiseconds::MAX;
            Centiseconds::new(value).map(Interval::V3).ok_or(field("interval", value.into()))
        }
        2 if header[4] != 0 => Err(field("authentication type", header[4].into())),
        2 => NonZeroU8::new(header[5]).map(Interval::V2).ok_or(field("interval", 0)),
        version => Err(field("version", version.into())),
    }
}

/// The octets that the header says belong to the message.
fn message<'a>(
    payload: &'a [u8],
    header: &[u8; HEADER],
    interval: Interval,
) -> Result<&'a [u8], Error> {
    let tail = if matches!(interval, Interval::V2(_)) { AUTHENTICATION } else { 0 };
    let need = HEADER + usize::from(header[3]) * 4 + tail;
    payload.get(..need).ok_or(Error::Truncated { packet: PACKET, have: payload.len(), need })
}

fn check(packet: &ipv4::Repr<'_>, body: &[u8], interval: Interval) -> Result<(), Error> {
    let plain = Sum::default().with(body).finish() == 0;
    let pseudo = pseudo_header(packet.source, packet.destination, body.len());
    let right = match interval {
        Interval::V2(_) => plain,
        Interval::V3(_) => plain || pseudo.with(body).finish() == 0,
    };
    if right { Ok(()) } else { Err(Error::Checksum { packet: PACKET }) }
}

fn parse_addresses(body: &[u8], count: u8) -> Result<Addresses, Error> {
    let list: Result<Vec<Ipv4Addr>, Error> = (0..usize::from(count))
        .map(|index| octets::<4>(body, HEADER + index * 4, PACKET).map(Ipv4Addr::from))
        .collect();
    let empty = Error::Field { packet: PACKET, field: "address count", value: count.into() };
    Addresses::new(list?).ok_or(empty)
}

fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr, length: usize) -> Sum {
    let length = u16::try_from(length).expect("an advertisement has at most 1036 octets");
    Sum::default()
        .with(&source.octets())
        .with(&destination.octets())
        .with_word(PROTOCOL.into())
        .with_word(length)
}
