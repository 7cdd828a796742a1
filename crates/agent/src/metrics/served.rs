//! Connections by front end, as the kernel or a process of ours has counted them: read when somebody asks.

use super::{TABLES, Text, Type, relayed};
use backend::iptables::{self, Written};
use backend::userspace::{self, Counts};
use backend::{Fate, Mode, Served, services};
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
    /// How many rules there are, in mode iptables.
    rules: Option<Written>,
    /// Where a process of ours carries the connections.
    pub(crate) relayed: Option<Counts>,
}

impl Counted {
    /// Of the network namespace of the calling thread.
    pub(crate) fn read(mode: Mode) -> Result<Self, services::Error> {
        let (mut rules, mut relayed) = (None, None);
        let served = match mode {
            Mode::Nft | Mode::Ipvs => services::served()?,
            Mode::Iptables => {
                let found = iptables::read::podways()?;
                rules = Some(found.rules);
                found.served
            }
            Mode::Userspace => {
                relayed = userspace::counts().map_err(userspace::Error::from)?;
                relayed.as_ref().map(userspace::services).unwrap_or_default()
            }
        };
        Ok(Self { served, rules, relayed })
    }

    pub(crate) fn write(&self, text: &mut Text) {
        if let Some(rules) = &self.rules {
            write_rules(text, rules);
        }
        write_connections(text, &self.served);
        if let Some(counts) = &self.relayed {
            relayed::write(text, counts);
        }
    }
}

fn write_rules(text: &mut Text, rules: &Written) {
    let name = "kubeproxy_sync_proxy_rules_iptables_total";
    text.family(name, Type::Gauge, "Rules that serve Services.");
    for ((family, table), number) in rules.iter().filter(|((_, table), _)| TABLES.contains(table)) {
        let (family, number) = (family.to_string(), u32::try_from(*number).unwrap_or(u32::MAX));
        let labels = [("ip_family", family.as_str()), ("table", table.as_str())];
        text.sample(name, &labels, number.into());
    }
}

/// One family for each fate; front ends of others have no origin and are left out.
fn write_connections(text: &mut Text, served: &[Served]) {
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
