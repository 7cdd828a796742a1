//! Virtual IPs: Podway's own object, `podway.io/v1alpha1` VirtualIP.

use crate::field::{Field, FieldError};
use crate::object::{Meta, Protocol};
use crate::selector::Selector;
use std::net::IpAddr;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualIp {
    pub meta: Meta,
    pub addresses: Vec<IpAddr>,
    /// Which nodes take part; empty: all.
    pub node_selector: Selector,
    pub vrrp: Vrrp,
    pub listeners: Vec<Listener>,
    /// `status.node`: who holds the addresses, as last reported.
    pub owner: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vrrp {
    /// VRID, 1–255.
    pub virtual_router_id: u8,
    /// Advertisement interval, 10 ms to 40.95 s in steps of 10 ms (RFC 9568 §5.2.7).
    pub interval: Duration,
    pub preempt: bool,
}

/// A port of the virtual IP and where its connections go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    pub algorithm: Algorithm,
    /// Every node's InternalIP at this port.
    pub node_port: u16,
    pub health_check: HealthCheck,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    RoundRobin,
    LeastConnections,
}

/// An active TCP health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    pub interval: Duration,
    pub timeout: Duration,
    /// Failures in a row until a back end counts as down.
    pub fall: u32,
    /// Successes in a row until it counts as up again.
    pub rise: u32,
}

impl VirtualIp {
    pub(super) fn parse(meta: Meta, object: &Field<'_>) -> Result<Self, FieldError> {
        let spec = object.at("spec");
        let addresses = spec.at("addresses");
        let parsed: Vec<_> = addresses.items()?.iter().map(Field::ip).collect::<Result<_, _>>()?;
        if parsed.is_empty() {
            return Err(addresses.error("at least one address"));
        }
        let selector = spec.at("nodeSelector");
        let node_selector = if selector.at("matchLabels").is_present()
            || selector.at("matchExpressions").is_present()
        {
            Selector::parse(&selector)?
        } else {
            Selector::from_labels(selector.strings()?)
        };
        let listeners = spec.at("listeners").items()?;
        Ok(VirtualIp {
            addresses: parsed,
            node_selector,
            vrrp: Vrrp::parse(&spec.at("vrrp"))?,
            listeners: listeners.iter().map(Listener::parse).collect::<Result<_, _>>()?,
            owner: object.at("status").at("node").optional_text()?.map(str::to_owned),
            meta,
        })
    }
}

/// Refuses fields of a manifest that no VirtualIP has, which are slips of the pen. Objects of an API may come from
/// a later version of it and are not asked.
pub(crate) fn check_fields(object: &Field<'_>) -> Result<(), FieldError> {
    let spec = object.at("spec");
    let names = ["addresses", "nodeSelector", "vrrp", "listeners"];
    spec.only(&names, "addresses, nodeSelector, vrrp or listeners as name")?;
    let names = ["virtualRouterId", "advertisementInterval", "preempt"];
    let expected = "virtualRouterId, advertisementInterval or preempt as name";
    spec.at("vrrp").only(&names, expected)?;
    spec.at("listeners").items()?.iter().try_for_each(check_listener)
}

fn check_listener(listener: &Field<'_>) -> Result<(), FieldError> {
    let names = ["name", "protocol", "port", "algorithm", "backends", "healthCheck"];
    let expected = "name, protocol, port, algorithm, backends or healthCheck as name";
    listener.only(&names, expected)?;
    let backends = listener.at("backends");
    backends.only(&["nodes"], "nodes as name")?;
    backends.at("nodes").only(&["port"], "port as name")?;
    let names = ["interval", "timeout", "fall", "rise"];
    listener.at("healthCheck").only(&names, "interval, timeout, fall or rise as name")
}

impl Vrrp {
    fn parse(field: &Field<'_>) -> Result<Self, FieldError> {
        let id = field.at("virtualRouterId");
        let expected = "a virtual router id from 1 to 255";
        let virtual_router_id = id.optional_number::<u8>(expected)?.unwrap_or(51);
        if virtual_router_id == 0 {
            return Err(id.error(expected));
        }
        let interval = field.at("advertisementInterval");
        let expected = "a duration from 10ms to 40.95s in steps of 10ms";
        let parsed = duration(&interval, expected)?.unwrap_or(Duration::from_millis(100));
        let millis = parsed.as_millis();
        if !(10..=40_950).contains(&millis) || millis % 10 != 0 {
            return Err(interval.error(expected));
        }
        let preempt = field.at("preempt").optional_bool()?.unwrap_or(true);
        Ok(Vrrp { virtual_router_id, interval: parsed, preempt })
    }
}

impl Listener {
    fn parse(field: &Field<'_>) -> Result<Self, FieldError> {
        let protocol = Protocol::parse(&field.at("protocol"))?;
        if protocol != Protocol::Tcp {
            return Err(field.at("protocol").error("TCP, the only protocol a listener balances"));
        }
        let algorithm = match field.at("algorithm").optional_text()? {
            None | Some("RoundRobin") => Algorithm::RoundRobin,
            Some("LeastConnections") => Algorithm::LeastConnections,
            Some(_) => return Err(field.at("algorithm").error("RoundRobin or LeastConnections")),
        };
        let port = field.at("port").port()?;
        Ok(Listener {
            name: field.at("name").optional_text()?.unwrap_or_default().to_owned(),
            protocol,
            port,
            algorithm,
            node_port: field.at("backends").at("nodes").at("port").port()?,
            health_check: HealthCheck::parse(&field.at("healthCheck"))?,
        })
    }
}

impl HealthCheck {
    fn parse(field: &Field<'_>) -> Result<Self, FieldError> {
        let period = |name, default| {
            let field = field.at(name);
            let expected = "a duration like 500ms or 1s, longer than nothing";
            let parsed = duration(&field, expected)?.unwrap_or(Duration::from_millis(default));
            if parsed.is_zero() { Err(field.error(expected)) } else { Ok(parsed) }
        };
        let count = |name| {
            let field = field.at(name);
            let parsed = field.optional_number::<u32>("a number of checks from 1")?.unwrap_or(2);
            if parsed == 0 { Err(field.error("a number of checks from 1")) } else { Ok(parsed) }
        };
        Ok(HealthCheck {
            interval: period("interval", 1000)?,
            timeout: period("timeout", 500)?,
            fall: count("fall")?,
            rise: count("rise")?,
        })
    }
}

/// A Go duration of one unit or several: `100ms`, `1s`, `1m30s`, `1.5s` (`metav1.Duration`).
fn duration(field: &Field<'_>, expected: &'static str) -> Result<Option<Duration>, FieldError> {
    let Some(text) = field.optional_text()? else { return Ok(None) };
    parse_duration(text).map(Some).ok_or_else(|| field.error(expected))
}

fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    let nanos = (!text.is_empty()).then_some(total)?;
    let rounded = Duration::try_from_secs_f64(nanos).ok()?;
    // Floating point must not turn 100ms into 99.999999ms.
    Some(Duration::from_micros(u64::try_from((rounded.as_nanos() + 500) / 1000).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let rows = [
            ("100ms", Some(100_000)),
            ("1s", Some(1_000_000)),
            ("1m30s", Some(90_000_000)),
            ("1.5s", Some(1_500_000)),
            ("", None),
            ("5", None),
            ("s", None),
            ("5 s", None),
            ("-1s", None),
        ];
        for (text, micros) in rows {
            assert_eq!(parse_duration(text), micros.map(Duration::from_micros), "{text}");
        }
    }
}
