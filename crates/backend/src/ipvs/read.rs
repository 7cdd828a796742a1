//! The Services as the kernel serves them, in the words of the program: for `podway show` and `explain`.

use crate::served::{Fate, Served};
use kernel::ipvs::{Ipvs, Observed};
use netstate::ipvs::{VirtualAddress, VirtualServer};
use std::net::SocketAddr;

/// Front ends as the service table has them, with IPVS's part in place of what leads to it.
pub fn complete(served: Vec<Served>) -> kernel::Result<Vec<Served>> {
    if !served.iter().any(leads_to_itself) {
        return Ok(served);
    }
    let ipvs = Ipvs::open()?.read()?;
    Ok(served.into_iter().map(|frontend| behind(frontend, &ipvs)).collect())
}

fn leads_to_itself(served: &Served) -> bool {
    let own = served.address.map(|address| SocketAddr::new(address, served.port));
    served.fate.endpoints().any(|endpoint| Some(endpoint) == own)
}

/// The front end with the real servers in place of the virtual one that the table leads to.
fn behind(mut served: Served, ipvs: &Observed) -> Served {
    let Some(address) = served.address else { return served };
    let at = SocketAddr::new(address, served.port);
    let virtual_address = VirtualAddress::Socket { protocol: served.protocol, address: at };
    let Some(server) = ipvs.table.virtual_servers.get(&virtual_address) else { return served };
    let pools = match &mut served.fate {
        Fate::Balanced { endpoints } => vec![endpoints],
        Fate::BySource { inside, outside } => vec![inside, outside],
        Fate::Refused | Fate::NotHere => Vec::new(),
    };
    for pool in pools {
        if *pool == [at] {
            *pool = shares(server);
        }
    }
    let kept = server.settings.persistence.map(|persistence| persistence.timeout);
    served.affinity = served.affinity.or(kept);
    served
}

/// Each real server as often as its share is greater; not at all where it gets nothing new.
fn shares(server: &VirtualServer) -> Vec<SocketAddr> {
    let weights = || server.real_servers.values().map(|real| real.weight);
    let divisor = weights().fold(0, greatest_common_divisor).max(1);
    let shares = server
        .real_servers
        .iter()
        .flat_map(|(address, real)| (0..real.weight / divisor).map(move |_share| *address));
    shares.collect()
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
