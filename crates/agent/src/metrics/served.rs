//! Connections by front end, as the kernel or a process of ours has counted them: read when somebody asks.

use super::{Text, Type, relayed};
use backend::userspace::{self, Counts};
use backend::{Fate, Served, services};
use model::Origin;

/// What becomes of connections, by the metric that counts them.
const METRICS: [(&str, &str); 3] = [
    ("podway_service_connections_total", "New connections that went to an endpoint."),
    ("podway_service_rejected_connections_total", "New connections refused: no endpoint."),
    ("podway_service_dropped_connections_total", "New connections lost: no endpoint on this node."),
];

/// What is counted outside of the agent.
#[derive(Debug)]
pub(crate) struct Counted {
    served: Vec<Served>,
    /// Where a process of ours carries the connections.
    pub(crate) relayed: Option<Counts>,
}

impl Counted {
    /// Of the network namespace of the calling thread.
    pub(crate) fn read() -> Result<Self, services::Error> {
        let relayed = userspace::counts().map_err(userspace::Error::from)?;
        let served = match &relayed {
            Some(counts) => userspace::services(counts),
            None => services::served()?,
        };
        Ok(Counted { served, relayed })
    }

    pub(crate) fn write(&self, text: &mut Text) {
        write(text, &self.served);
        if let Some(counts) = &self.relayed {
            relayed::write(text, counts);
        }
    }
}

/// One family for each fate; front ends of others have no origin and are left out.
fn write(text: &mut Text, served: &[Served]) {
    let protocols = [(6, "TCP"), (17, "UDP"), (132, "SCTP")];
    for (place, (name, help)) in METRICS.into_iter().enumerate() {
        text.family(name, Type::Counter, help);
        for one in served.iter().filter(|one| fate(one) == place) {
            let Some((origin, count)) = one.origin.as_ref().zip(one.connections) else { continue };
            let protocol = protocols.iter().find(|(number, _)| *number == one.protocol);
            let (namespace, service) = names(origin);
            let frontend = one.address.map_or_else(|| "node".to_owned(), |it| it.to_string());
            let labels = [
                ("namespace", namespace),
                ("service", service),
                ("address", frontend.as_str()),
                ("ip_family", if one.family == model::Family::V4 { "IPv4" } else { "IPv6" }),
                ("protocol", protocol.map_or("", |(_, name)| *name)),
                ("port", &one.port.to_string()),
            ];
            text.count(name, &labels, count.packets);
        }
    }
}

fn fate(served: &Served) -> usize {
    match served.fate {
        Fate::Balanced { .. } | Fate::BySource { .. } => 0,
        Fate::Refused => 1,
        Fate::NotHere => 2,
    }
}

fn names(origin: &Origin) -> (&str, &str) {
    (&origin.namespace, &origin.name)
}
