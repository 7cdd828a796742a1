//! What the process that carries the connections says of itself, in the words of all back ends.

use super::connection::Connection;
use super::message::{Counts, FrontCount};
use crate::served::{Fate, Relayed, Served};
use kernel::nft::Count;
use program::{Action, Pool, Scope, Slots};
use std::io;
use std::net::SocketAddr;

/// What it has counted in the network namespace of the calling thread; `None`: there is no such process.
pub fn counts() -> io::Result<Option<Counts>> {
    let Some((mut connection, _)) = Connection::find()? else { return Ok(None) };
    connection.counts().map(Some)
}

/// Whether there is such a process in the network namespace of the calling thread.
pub fn is_there() -> io::Result<bool> {
    Ok(Connection::find()?.is_some())
}

/// Its front ends.
pub fn services(counts: &Counts) -> Vec<Served> {
    counts.fronts.iter().map(served).collect()
}

fn served(count: &FrontCount) -> Served {
    let FrontCount { frontend, binding, .. } = count;
    let slots = |pool: &Pool| -> Vec<SocketAddr> {
        let slots = Slots::of(pool, None).endpoints;
        slots.into_iter().map(|index| pool.endpoints[index].address()).collect()
    };
    let fate = match &binding.action {
        Action::Balance { pool, .. } => Fate::Balanced { endpoints: slots(pool) },
        Action::BySource { inside, outside } => Fate::BySource {
            inside: slots(inside),
            outside: outside.as_deref().map(slots).unwrap_or_default(),
        },
        Action::Reject => Fate::Refused,
        Action::Drop => Fate::NotHere,
    };
    // The kernel refuses and loses by itself what nobody is to hear of, and does not count it.
    let led = matches!(fate, Fate::Balanced { .. } | Fate::BySource { .. });
    let octets = count.octets.received;
    Served {
        family: frontend.scope.family(),
        address: match frontend.scope {
            Scope::Address(address) => Some(address),
            Scope::NodePort(_) => None,
        },
        protocol: frontend.protocol.number(),
        port: frontend.port,
        origin: Some(binding.origin.clone()),
        fate,
        sources: binding.sources.iter().flat_map(|nets| nets.iter().copied()).collect(),
        affinity: binding.affinity.and_then(|time| u32::try_from(time.as_secs()).ok()),
        connections: led.then_some(Count { packets: count.connections, octets }),
        relayed: Some(Relayed { scheduler: binding.scheduler, unserved: count.unserved }),
    }
}
