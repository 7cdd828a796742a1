//! What the process has counted that carries the connections in proxy mode userspace: read when somebody asks.

use super::{Text, Type, carried};
use crate::accounting::{Account, Accounts, Endpoint};
use backend::userspace::{Counts, EndpointCount, FrontCount};

pub(super) fn write(text: &mut Text, counts: &Counts) {
    write_fronts(text, &counts.fronts);
    write_endpoints(text, &counts.endpoints);
    let process = &counts.process;
    let name = "podway_relay_waited_connections_total";
    text.family(name, Type::Counter, "New connections that waited for descriptors.");
    text.count(name, &[], process.waited);
    let name = "podway_relay_lost_conversations_total";
    text.family(name, Type::Counter, "New clients by datagrams that found no descriptors.");
    text.count(name, &[], process.lost);
    for (name, value, help) in [
        ("podway_relay_descriptors_limit", process.descriptors, "Descriptors that there may be."),
        ("podway_relay_descriptors_free", process.free, "Descriptors that are left."),
    ] {
        text.family(name, Type::Gauge, help);
        text.count(name, &[], value);
    }
}

/// The sums as those of connections that the kernel carries.
pub(crate) fn accounts(counts: &Counts) -> Accounts {
    let frontends = counts.fronts.iter().map(|it| {
        let account =
            Account::of_relay(it.connections, it.octets.received, it.octets.sent, it.open);
        (it.frontend, it.binding.port.clone(), account)
    });
    let endpoints = counts.endpoints.iter().map(|it| {
        let account =
            Account::of_relay(it.connections, it.octets.received, it.octets.sent, it.open);
        let protocol = it.service.protocol.number();
        (Endpoint { port: it.service.port.clone(), protocol, address: it.endpoint }, account)
    });
    Accounts { frontends: frontends.collect(), endpoints: endpoints.collect() }
}

fn write_fronts(text: &mut Text, fronts: &[FrontCount]) {
    let name = "podway_service_unserved_connections_total";
    text.family(name, Type::Counter, "Connections that were ended because no endpoint took them.");
    for count in fronts {
        let labels = carried::of_frontend(&count.frontend, &count.binding.port);
        text.count(name, &carried::borrowed(&labels), count.unserved);
    }
}

fn write_endpoints(text: &mut Text, endpoints: &[EndpointCount]) {
    let name = "podway_endpoint_failures_total";
    text.family(name, Type::Counter, "Connections that the endpoint did not take, or not soon.");
    for count in endpoints {
        let (port, protocol) = (count.service.port.clone(), count.service.protocol.number());
        let endpoint = Endpoint { port, protocol, address: count.endpoint };
        let labels = carried::of_endpoint(&endpoint);
        text.count(name, &carried::borrowed(&labels), count.failures);
    }
}
