//! IPv4 headers without options (RFC 791).

use crate::checksum::checksum;
use crate::{Error, octets};
use std::net::Ipv4Addr;

const HEADER: usize = 20;
const PACKET: &str = "ipv4 packet";
/// More-fragments flag and fragment offset.
const FRAGMENT: u16 = 0x3fff;
const DONT_FRAGMENT: u16 = 0x4000;

/// An unfragmented packet. Options are skipped by `parse` and never emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr<'a> {
    /// Differentiated services and congestion bits.
    pub tos: u8,
    pub identification: u16,
    pub dont_fragment: bool,
    pub ttl: u8,
    /// IANA protocol number.
    pub protocol: u8,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub payload: &'a [u8],
}

impl<'a> Repr<'a> {
    /// Octets after the total length (a link's padding) are dropped.
    ///
    /// # Errors
    /// Cut short, not version 4, a fragment, lengths that contradict each other, or a wrong
    /// checksum.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let fixed: [u8; HEADER] = octets(bytes, 0, PACKET)?;
        let field = |field, value| Error::Field { packet: PACKET, field, value };
        if fixed[0] >> 4 != 4 {
            return Err(field("version", u32::from(fixed[0] >> 4)));
        }
        let header = usize::from(fixed[0] & 0xf) * 4;
        let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        if header < HEADER || total < header {
            return Err(field("header length", u32::from(fixed[0] & 0xf)));
        }
        let truncated = Error::Truncated { packet: PACKET, have: bytes.len(), need: total };
        let packet = bytes.get(..total).ok_or(truncated)?;
        let (head, payload) = packet.split_at(header);
        if checksum(head) != 0 {
            return Err(Error::Checksum { packet: PACKET });
        }
        let fragment = u16::from_be_bytes([fixed[6], fixed[7]]);
        if fragment & FRAGMENT != 0 {
            return Err(field("fragment", u32::from(fragment & FRAGMENT)));
        }
        Ok(Repr {
            tos: fixed[1],
            identification: u16::from_be_bytes([fixed[4], fixed[5]]),
            dont_fragment: fragment & DONT_FRAGMENT != 0,
            ttl: fixed[8],
            protocol: fixed[9],
            source: octets::<4>(bytes, 12, PACKET)?.into(),
            destination: octets::<4>(bytes, 16, PACKET)?.into(),
            payload,
        })
    }

    /// # Errors
    /// The payload does not fit the length field.
    pub fn emit(&self) -> Result<Vec<u8>, Error> {
        let length = HEADER + self.payload.len();
        let total = u16::try_from(length).map_err(|_too_large| Error::Field {
            packet: PACKET,
            field: "length",
            value: u32::try_from(length).unwrap_or(u32::MAX),
        })?;
        let mut bytes = Vec::with_capacity(length);
        bytes.extend([0x45, self.tos]);
        bytes.extend(total.to_be_bytes());
        bytes.extend(self.identification.to_be_bytes());
        bytes.extend(if self.dont_fragment { DONT_FRAGMENT } else { 0 }.to_be_bytes());
        bytes.extend([self.ttl, self.protocol, 0, 0]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        let sum = checksum(&bytes).to_be_bytes();
        bytes[10..12].copy_from_slice(&sum);
        bytes.extend(self.payload);
        Ok(bytes)
    }
}
