//! ARP for IPv4 over Ethernet (RFC 826).

use crate::{Error, Mac, ethernet, octets};
use std::net::Ipv4Addr;

const LENGTH: usize = 28;
const PACKET: &str = "arp";
/// Hardware type Ethernet, protocol type IPv4, their address lengths.
const FIXED: [u8; 6] = [0, 1, 8, 0, 6, 4];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Request,
    Reply,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr {
    pub operation: Operation,
    pub sender_mac: Mac,
    pub sender: Ipv4Addr,
    pub target_mac: Mac,
    pub target: Ipv4Addr,
}

impl Repr {
    /// An announcement that `address` is at `mac`: a request whose sender and target are the same
    /// (RFC 5944 §4.6), which updates the caches of all who hear it.
    #[must_use]
    pub fn gratuitous(mac: Mac, address: Ipv4Addr) -> Self {
        Repr {
            operation: Operation::Request,
            sender_mac: mac,
            sender: address,
            target_mac: ethernet::BROADCAST,
            target: address,
        }
    }

    /// # Errors
    /// Cut short, not IPv4 over Ethernet, or neither a request nor a reply.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let fixed: [u8; 6] = octets(bytes, 0, PACKET)?;
        if let Some(at) = (0..6).find(|&at| fixed[at] != FIXED[at]) {
            return Err(Error::Field { packet: PACKET, field: "header", value: fixed[at].into() });
        }
        let operation = match u16::from_be_bytes(octets(bytes, 6, PACKET)?) {
            1 => Operation::Request,
            2 => Operation::Reply,
            other => {
                return Err(Error::Field {
                    packet: PACKET,
                    field: "operation",
                    value: other.into(),
                });
            }
        };
        Ok(Repr {
            operation,
            sender_mac: Mac(octets(bytes, 8, PACKET)?),
            sender: octets::<4>(bytes, 14, PACKET)?.into(),
            target_mac: Mac(octets(bytes, 18, PACKET)?),
            target: octets::<4>(bytes, 24, PACKET)?.into(),
        })
    }

    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let operation = match self.operation {
            Operation::Request => 1u16,
            Operation::Reply => 2,
        };
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.extend(FIXED);
        bytes.extend(operation.to_be_bytes());
        bytes.extend(self.sender_mac.0);
        bytes.extend(self.sender.octets());
        bytes.extend(self.target_mac.0);
        bytes.extend(self.target.octets());
        bytes
    }

    /// This packet in a frame: to everybody, or to the target when it is known.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let destination = match self.operation {
            Operation::Request => ethernet::BROADCAST,
            Operation::Reply => self.target_mac,
        };
        let payload = self.emit();
        ethernet::Repr {
            destination,
            source: self.sender_mac,
            ether_type: ethernet::ARP,
            payload: &payload,
        }
        .emit()
    }
}
