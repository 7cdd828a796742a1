//! What connections carried, by front end and by endpoint.

use super::{Text, Type};
use crate::accounting::{Account, Accounts, Endpoint};
use model::{Family, Protocol};
use program::{Frontend, Scope, ServicePortName};
use serde_json::{Value, json};

type Labels = Vec<(&'static str, String)>;

/// Families whose samples have the same labels.
struct Families {
    prefix: &'static str,
    /// What they are about.
    of: &'static str,
    samples: Vec<(Labels, Account)>,
}

pub(crate) fn write(text: &mut Text, accounts: &Accounts) {
    let frontends = accounts
        .frontends
        .iter()
        .map(|(frontend, port, account)| (of_frontend(frontend, port), *account));
    let endpoints =
        accounts.endpoints.iter().map(|(endpoint, account)| (of_endpoint(endpoint), *account));
    let of_frontends = Families {
        prefix: "podway_service",
        of: "to a front end of a Service",
        samples: frontends.collect(),
    };
    of_frontends.write(text);
    let of_endpoints = Families {
        prefix: "podway_endpoint",
        of: "to an endpoint of a Service",
        samples: endpoints.collect(),
    };
    of_endpoints.write_connections(text);
    of_endpoints.write(text);
}

impl Families {
    fn write_connections(&self, text: &mut Text) {
        let name = format!("{}_connections_total", self.prefix);
        text.family(&name, Type::Counter, &format!("Connections {}.", self.of));
        for (labels, account) in &self.samples {
            text.count(&name, &borrowed(labels), account.told.connections);
        }
    }

    fn write(&self, text: &mut Text) {
        let name = format!("{}_active_connections", self.prefix);
        text.family(&name, Type::Gauge, &format!("Connections {} that are open.", self.of));
        for (labels, account) in &self.samples {
            text.count(&name, &borrowed(labels), account.active);
        }
        let name = format!("{}_bytes_total", self.prefix);
        text.family(&name, Type::Counter, &format!("Octets of packets {}, and back.", self.of));
        for (labels, account) in &self.samples {
            let told = account.told;
            for (direction, octets) in
                [("request", told.request_octets), ("reply", told.reply_octets)]
            {
                let mut labels = borrowed(labels);
                labels.push(("direction", direction));
                text.count(&name, &labels, octets);
            }
        }
    }
}

/// The same as a JSON object.
pub(crate) fn json(accounts: &Accounts) -> Value {
    let frontends = accounts.frontends.iter().map(|(frontend, port, account)| {
        let mut object = of_account(port, account);
        object["address"] = address(frontend).into();
        object["ipFamily"] = frontend.scope.family().to_string().into();
        object["protocol"] = frontend.protocol.to_string().into();
        object["port"] = frontend.port.into();
        object
    });
    let endpoints = accounts.endpoints.iter().map(|(endpoint, account)| {
        let mut object = of_account(&endpoint.port, account);
        object["endpoint"] = endpoint.address.to_string().into();
        object["protocol"] = protocol(endpoint.protocol).into();
        object
    });
    json!({
        "frontends": frontends.collect::<Vec<_>>(),
        "endpoints": endpoints.collect::<Vec<_>>(),
    })
}

fn of_account(port: &ServicePortName, account: &Account) -> Value {
    json!({
        "namespace": &*port.service.namespace,
        "service": &*port.service.name,
        "portName": &*port.port,
        "connections": account.told.connections,
        "active": account.active,
        "requestBytes": account.told.request_octets,
        "replyBytes": account.told.reply_octets,
    })
}

pub(super) fn of_frontend(frontend: &Frontend, port: &ServicePortName) -> Labels {
    let mut labels = of_service(port);
    labels.extend([
        ("address", address(frontend)),
        ("ip_family", frontend.scope.family().to_string()),
        ("protocol", frontend.protocol.to_string()),
        ("port", frontend.port.to_string()),
    ]);
    labels
}

pub(super) fn of_endpoint(endpoint: &Endpoint) -> Labels {
    let mut labels = of_service(&endpoint.port);
    labels.extend([
        ("endpoint", endpoint.address.to_string()),
        ("ip_family", Family::of(endpoint.address.ip()).to_string()),
        ("protocol", protocol(endpoint.protocol)),
    ]);
    labels
}

fn of_service(port: &ServicePortName) -> Labels {
    vec![
        ("namespace", port.service.namespace.to_string()),
        ("service", port.service.name.to_string()),
    ]
}

pub(super) fn borrowed<'a>(labels: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    labels.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// `node`: the node's own addresses.
fn address(frontend: &Frontend) -> String {
    match frontend.scope {
        Scope::Address(address) => address.to_string(),
        Scope::NodePort(_) => "node".to_owned(),
    }
}

fn protocol(number: u8) -> String {
    let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter();
    let found = known.into_iter().find(|it| it.number() == number);
    found.map_or_else(|| number.to_string(), |protocol| protocol.to_string())
}
