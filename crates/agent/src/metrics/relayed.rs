//! What the process has counted that carries the connections in proxy mode userspace: read when somebody asks.

use super::{Text, Type};
use backend::userspace::{Counts, EndpointCount, FrontCount};
use model::Family;
use program::Scope;

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

type Row<T> = (&'static str, Type, fn(&T) -> u64, &'static str);

fn write_fronts(text: &mut Text, fronts: &[FrontCount]) {
    let rows: [Row<FrontCount>; 3] = [
        (
            "podway_service_unserved_connections_total",
            Type::Counter,
            |it| it.unserved,
            "Connections that were ended because no endpoint took them.",
        ),
        (
            "podway_service_received_bytes_total",
            Type::Counter,
            |it| it.octets.received,
            "From clients to endpoints.",
        ),
        (
            "podway_service_sent_bytes_total",
            Type::Counter,
            |it| it.octets.sent,
            "From endpoints to clients.",
        ),
    ];
    for (name, kind, value, help) in rows {
        text.family(name, kind, help);
        for count in fronts {
            let origin = &count.binding.origin;
            let address = match count.frontend.scope {
                Scope::Address(address) => address.to_string(),
                Scope::NodePort(_) => "node".to_owned(),
            };
            let labels = [
                ("namespace", &*origin.namespace),
                ("service", &*origin.name),
                ("address", address.as_str()),
                ("ip_family", family(count.frontend.scope.family())),
                ("protocol", &count.frontend.protocol.to_string()),
                ("port", &count.frontend.port.to_string()),
            ];
            text.count(name, &labels, value(count));
        }
    }
}

fn write_endpoints(text: &mut Text, endpoints: &[EndpointCount]) {
    let rows: [Row<EndpointCount>; 5] = [
        (
            "podway_endpoint_connections_total",
            Type::Counter,
            |it| it.connections,
            "Connections that the endpoint took.",
        ),
        (
            "podway_endpoint_failures_total",
            Type::Counter,
            |it| it.failures,
            "Connections that the endpoint did not take.",
        ),
        ("podway_endpoint_open_connections", Type::Gauge, |it| it.open, "Connections under way."),
        (
            "podway_endpoint_received_bytes_total",
            Type::Counter,
            |it| it.octets.received,
            "From clients to the endpoint.",
        ),
        (
            "podway_endpoint_sent_bytes_total",
            Type::Counter,
            |it| it.octets.sent,
            "From the endpoint to clients.",
        ),
    ];
    for (name, kind, value, help) in rows {
        text.family(name, kind, help);
        for count in endpoints {
            let port = &count.service.port;
            let labels = [
                ("namespace", &*port.service.namespace),
                ("service", &*port.service.name),
                ("port_name", &*port.port),
                ("protocol", &count.service.protocol.to_string()),
                ("ip_family", family(count.service.family)),
                ("endpoint", &count.endpoint.to_string()),
            ];
            text.count(name, &labels, value(count));
        }
    }
}

fn family(family: Family) -> &'static str {
    if family == Family::V4 { "IPv4" } else { "IPv6" }
}
