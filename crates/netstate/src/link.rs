//! Links and what hangs on them.

use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(InvalidMac)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_not_hex| InvalidMac)?;
        }
        if parts.next().is_some() { Err(InvalidMac) } else { Ok(Mac(bytes)) }
    }
}

/// The text is not six two-digit hexadecimal numbers with colons between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidMac;

impl fmt::Display for InvalidMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected an Ethernet address like 0a:58:0a:f4:00:01")
    }
}

impl std::error::Error for InvalidMac {}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    pub kind: LinkKind,
    /// `None`: whatever the kernel chose.
    pub mac: Option<Mac>,
    /// Octets of the largest packet; `None`: whatever the kernel chose.
    pub mtu: Option<u32>,
    pub up: bool,
}

/// The kinds of links that matter here (`IFLA_INFO_KIND`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkKind {
    Bridge,
    /// One end of a pair; the peer's name where it was known at creation.
    Veth {
        peer: Option<String>,
    },
    Vxlan(Vxlan),
    Loopback,
    /// Anything else, with the kernel's word for it (empty for a physical device).
    Other(String),
}

/// Parameters of a VXLAN device (RFC 7348; `IFLA_VXLAN_*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vxlan {
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// UDP destination port.
    pub port: u16,
    /// Source address of the outer packets.
    pub local: IpAddr,
    /// Name of the underlay interface.
    pub device: String,
    /// Whether the device learns addresses from packets; flannel's devices do not.
    pub learning: bool,
}

/// An address on an interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    pub device: String,
    /// Address with prefix length; the host bits are those of the address.
    pub net: IpNet,
}

/// A unicast route of the main table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    pub destination: IpNet,
    pub via: Option<IpAddr>,
    pub device: String,
    /// The gateway counts as on the link even if no prefix says so (`RTNH_F_ONLINK`).
    pub onlink: bool,
    /// Preferred source address (`RTA_PREFSRC`).
    pub source: Option<IpAddr>,
    /// Who made it (`rtm_protocol`); see [`Route::PODWAY`].
    pub protocol: u8,
}

impl Route {
    /// The route protocol number that marks Podway's own routes: the only ones it ever removes.
    pub const PODWAY: u8 = 77;
    /// `RTPROT_KERNEL`: made by the kernel with an address.
    pub const KERNEL: u8 = 2;
    /// `RTPROT_BOOT`: what a bare `ip route add` leaves.
    pub const BOOT: u8 = 3;
}

/// A permanent entry of the neighbour table (ARP, NDP).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    pub device: String,
    pub address: IpAddr,
    pub mac: Mac,
}

/// A permanent entry of a VXLAN device's forwarding database: frames to `mac` leave to `remote`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FdbEntry {
    pub device: String,
    pub mac: Mac,
    pub remote: IpAddr,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_reads_what_it_writes() {
        let mac = Mac([0x0a, 0x58, 0x0a, 0xf4, 0, 1]);
        assert_eq!(mac.to_string().parse(), Ok(mac));
        for bad in ["", "0a:58", "0a:58:0a:f4:00:01:02", "0a:58:0a:f4:00:zz", "0a:58:0a:f4:00:1"] {
            assert_eq!(bad.parse::<Mac>(), Err(InvalidMac), "{bad}");
        }
    }
}
