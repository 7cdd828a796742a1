//! Ethernet II frames.

use crate::{Error, Mac, octets};

pub const BROADCAST: Mac = Mac([0xff; 6]);

/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;

const HEADER: usize = 14;
/// Smaller values of the type field are lengths (IEEE 802.3), not types.
const SMALLEST_TYPE: u16 = 0x0600;

/// A frame without its check sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr<'a> {
    pub destination: Mac,
    pub source: Mac,
    pub ether_type: u16,
    pub payload: &'a [u8],
}

impl<'a> Repr<'a> {
    /// # Errors
    /// The frame is cut short, or is an 802.3 frame without an EtherType.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let packet = "ethernet frame";
        let ether_type = u16::from_be_bytes(octets(bytes, 12, packet)?);
        if ether_type < SMALLEST_TYPE {
            return Err(Error::Field { packet, field: "type", value: ether_type.into() });
        }
        Ok(Repr {
            destination: Mac(octets(bytes, 0, packet)?),
            source: Mac(octets(bytes, 6, packet)?),
            ether_type,
            payload: &bytes[HEADER..],
        })
    }

    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.payload.len());
        bytes.extend(self.destination.0);
        bytes.extend(self.source.0);
        bytes.extend(self.ether_type.to_be_bytes());
        bytes.extend(self.payload);
        bytes
    }
}
