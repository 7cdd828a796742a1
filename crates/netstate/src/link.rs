//! Links and what hangs on them.

use ipnet::IpNet;
use std::net::IpAddr;
use wire::Mac;

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

/// A destination in the main table that is refused with ICMP unreachable unless a longer prefix leads on
/// (`RTN_UNREACHABLE`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unreachable {
    pub destination: IpNet,
    /// Who made it (`rtm_protocol`).
    pub protocol: u8,
}

/// An address that the node answers for without having it on an interface (`RTN_LOCAL`, in table `local`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Local {
    pub address: IpAddr,
    /// [`Local::ANYWHERE`]; only ::1 is looked for by the device that a packet comes through.
    pub device: String,
    /// What the node's own processes have as source when they speak to it (`RTA_PREFSRC`); without it, the address.
    pub source: Option<IpAddr>,
    /// Who made it (`rtm_protocol`).
    pub protocol: u8,
}

impl Local {
    /// The loopback device: packets to the address may come through any.
    pub const ANYWHERE: &str = "lo";
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
