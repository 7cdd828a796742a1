//! Who may answer a packet, by the table's values alone.

use super::{Family, Forward, Scheduler, Table, VirtualAddress, VirtualServer};
use std::net::SocketAddr;

/// `IPPROTO_TCP`: only its connections are served on the ports of no virtual server for the sake of FTP.
const TCP: u8 = 6;
const FTP_DATA: u16 = 20;
const FTP: u16 = 21;
/// `PROT_SOCK`: where the ports that FTP opens passively begin.
const UNPRIVILEGED: u16 = 1024;

/// What IPVS sees of the first packet of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    pub protocol: u8,
    pub destination: SocketAddr,
    pub mark: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// IPVS lets it pass: there is no virtual server for it.
    Unserved,
    /// There is a virtual server and nobody behind it: ICMP port unreachable.
    Refused(VirtualAddress),
    /// One of these gets it, at this address.
    OneOf {
        virtual_address: VirtualAddress,
        servers: Vec<SocketAddr>,
        /// The hash may fall on somebody who takes nothing new, and then the packet is refused.
        or_refused: bool,
    },
}

impl Table {
    /// The virtual server that a packet is for, as `ip_vs_service_find` looks for it.
    pub fn find(&self, packet: &Packet) -> Option<(VirtualAddress, &VirtualServer)> {
        let get = |key: VirtualAddress| Some((key, self.virtual_servers.get(&key)?));
        let socket = |port| {
            let address = SocketAddr::new(packet.destination.ip(), port);
            get(VirtualAddress::Socket { protocol: packet.protocol, address })
        };
        let port = packet.destination.port();
        let family = Family::of(packet.destination.ip());
        let marked = || get(VirtualAddress::Mark { family, mark: packet.mark });
        let for_ftp = packet.protocol == TCP && (port == FTP_DATA || port >= UNPRIVILEGED);
        (packet.mark != 0)
            .then(marked)
            .flatten()
            .or_else(|| socket(port))
            .or_else(|| socket(FTP).filter(|_| for_ftp))
            .or_else(|| socket(0))
    }

    /// Who may answer the first packet of a connection of a client who has none.
    pub fn answer(&self, packet: &Packet) -> Answer {
        let Some((virtual_address, server)) = self.find(packet) else { return Answer::Unserved };
        let taking = server.real_servers.iter().filter(|(_, real)| real.weight > 0);
        let servers: Vec<_> = taking.map(|(at, _)| target(server, *at, packet)).collect();
        if servers.is_empty() {
            return Answer::Refused(virtual_address);
        }
        let or_refused = servers.len() < server.real_servers.len() && stumbles(server);
        Answer::OneOf { virtual_address, servers, or_refused }
    }
}

/// Whether a real server of weight 0 still has its share of the hash.
fn stumbles(server: &VirtualServer) -> bool {
    match server.settings.scheduler {
        Scheduler::DestinationHash => true,
        Scheduler::SourceHash => !server.settings.scheduler_flags.fallback,
        _ => false,
    }
}

/// Only masquerading replaces the port, and only by one that there is.
fn target(server: &VirtualServer, real: SocketAddr, packet: &Packet) -> SocketAddr {
    let translates =
        server.real_servers.get(&real).is_some_and(|found| found.forward == Forward::Masquerade);
    match real.port() {
        port if translates && port != 0 => real,
        _ => SocketAddr::new(real.ip(), packet.destination.port()),
    }
}
