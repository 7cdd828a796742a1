//! Cluster IPs with their families, and external IPs.

use super::{Fields, has_cluster_ip};
use crate::admission::causes::Causes;
use crate::admission::text;
use serde_json::{Value, json};
use std::net::IpAddr;

const NO_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const FAMILY_POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];
const FIXED: &str = "may not change once set";

/// Whoever gives one of `clusterIP` and `clusterIPs` means both.
pub(super) fn synchronise(spec: &mut Fields, old: Option<&Value>) {
    let ip = text(spec, "clusterIP").to_owned();
    let ips = list(spec, "clusterIPs");
    let first = ips.first().and_then(Value::as_str).unwrap_or_default();
    // Who changed only the one, means the other.
    let stale = old.is_some_and(|old| {
        !ips.is_empty() && list_of(&old["clusterIPs"]) == ips && old["clusterIP"] != *ip
    });
    match (ip.is_empty(), first.is_empty()) {
        (true, _) if stale => drop(spec.remove("clusterIPs")),
        (false, true) => drop(spec.insert("clusterIPs".into(), json!([ip]))),
        (false, false) if stale => spec["clusterIPs"][0] = ip.into(),
        _ => {}
    }
}

/// What no update may change.
pub(super) fn check_change(spec: &Fields, old: &Fields, causes: &mut Causes) {
    let outside = |spec: &Fields| !has_cluster_ip(spec);
    let headless = |spec: &Fields| super::check::is_headless(spec);
    if outside(spec) || outside(old) || (headless(spec) && headless(old)) {
        return;
    }
    let shown = |field: &str| spec.get(field).cloned().unwrap_or_default();
    let (ips, before) = (list(spec, "clusterIPs"), list(old, "clusterIPs"));
    let common = if ips.len() == before.len() { ips.len() } else { 1 };
    if ips.is_empty() && !before.is_empty() {
        causes.invalid(
            "spec.clusterIPs[0]",
            &shown("clusterIPs"),
            "primary clusterIP can not be unset",
        );
    }
    for (index, (ip, before)) in ips.iter().zip(before).take(common).enumerate() {
        if ip != before {
            causes.invalid(&format!("spec.clusterIPs[{index}]"), &shown("clusterIPs"), FIXED);
        }
    }
    if headless(spec) != headless(old) {
        return;
    }
    let (families, before) = (list(spec, "ipFamilies"), list(old, "ipFamilies"));
    let common = if families.len() == before.len() { families.len() } else { 1 };
    for (family, before) in families.iter().zip(before).take(common) {
        if family != before {
            causes.invalid("spec.ipFamilies[0]", &shown("ipFamilies"), FIXED);
        }
    }
}

pub(super) fn check(spec: &Fields, causes: &mut Causes) {
    if !has_cluster_ip(spec) {
        return;
    }
    let ips = list(spec, "clusterIPs");
    let shown = spec.get("clusterIPs").cloned().unwrap_or_default();
    let ip = text(spec, "clusterIP");
    if ip.is_empty() && !ips.is_empty() {
        causes.invalid(
            "spec.clusterIPs",
            &shown,
            "must be empty when `clusterIP` is not specified",
        );
    }
    if !ip.is_empty() && ips.first().is_some_and(|first| *first != ip) {
        causes.invalid("spec.clusterIPs", &shown, "first value must match `clusterIP`");
    }
    check_families(spec, causes);
    let mut wrong = false;
    for (index, ip) in ips.iter().enumerate() {
        let text = ip.as_str().unwrap_or_default();
        if index == 0 && text == "None" {
            if ips.len() > 1 {
                wrong = true;
                causes.invalid(
                    "spec.clusterIPs",
                    &shown,
                    "'None' must be the first and only value",
                );
            }
        } else if text.parse::<IpAddr>().is_err() {
            wrong = true;
            causes.invalid(&format!("spec.clusterIPs[{index}]"), ip, NO_ADDRESS);
        }
    }
    if ips.len() > 2 {
        causes.invalid("spec.clusterIPs", &shown, "may only hold up to 2 values");
    }
    if !wrong {
        check_stacks(spec, ips, &shown, causes);
    }
}

fn check_families(spec: &Fields, causes: &mut Causes) {
    let mut seen = Vec::new();
    for (index, family) in list(spec, "ipFamilies").iter().enumerate() {
        let path = format!("spec.ipFamilies[{index}]");
        causes.one_of(&path, family.as_str().unwrap_or_default(), &FAMILIES);
        if seen.contains(&family) {
            causes.duplicate(&path, family);
        }
        seen.push(family);
    }
    if let Some(policy) = spec.get("ipFamilyPolicy").and_then(Value::as_str) {
        causes.one_of("spec.ipFamilyPolicy", policy, &FAMILY_POLICIES);
    }
}

/// Two addresses are of two families, and each is of the family that stands at its place.
fn check_stacks(spec: &Fields, ips: &[Value], shown: &Value, causes: &mut Causes) {
    let family = |ip: &Value| match ip.as_str().and_then(|ip| ip.parse().ok()) {
        Some(IpAddr::V4(_)) => "IPv4",
        Some(IpAddr::V6(_)) => "IPv6",
        None => "",
    };
    if let [first, second] = ips
        && family(first) == family(second)
    {
        let detail = "may specify no more than one IP for each IP family";
        causes.invalid("spec.clusterIPs", shown, detail);
    }
    for (index, (ip, wanted)) in ips.iter().zip(list(spec, "ipFamilies")).enumerate() {
        let (found, wanted) = (family(ip), wanted.as_str().unwrap_or_default());
        if FAMILIES.contains(&wanted) && !found.is_empty() && found != wanted {
            let detail =
                format!("expected an {wanted} value as indicated by `ipFamilies[{index}]`");
            causes.invalid(&format!("spec.clusterIPs[{index}]"), ip, &detail);
        }
    }
}

/// External IPs; one that was there before was good enough then.
pub(super) fn check_external(spec: &Fields, old: Option<&Value>, causes: &mut Causes) {
    for (index, ip) in list(spec, "externalIPs").iter().enumerate() {
        let path = format!("spec.externalIPs[{index}]");
        let kept =
            old.is_some_and(|old| old["externalIPs"].as_array().is_some_and(|it| it.contains(ip)));
        match ip.as_str().unwrap_or_default().parse() {
            Err(_) if kept => {}
            Err(_) => causes.invalid(&path, ip, NO_ADDRESS),
            Ok(address) => check_endpoint(address, ip, &path, causes),
        }
    }
}

pub(in crate::admission) fn check_syntax(shown: &Value, path: &str, causes: &mut Causes) {
    if shown.as_str().is_none_or(|text| text.parse::<IpAddr>().is_err()) {
        causes.invalid(path, shown, NO_ADDRESS);
    }
}

/// An address that packets can be sent to from anywhere.
pub(in crate::admission) fn check_endpoint(
    address: IpAddr,
    shown: &Value,
    path: &str,
    causes: &mut Causes,
) {
    let (link_local, multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    if address.is_unspecified() {
        let detail = format!("may not be unspecified ({address})");
        causes.invalid(path, shown, &detail);
    }
    for (wrong, detail) in [
        (address.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
    ] {
        if wrong {
            causes.invalid(path, shown, detail);
        }
    }
}

fn list_of(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn list<'a>(spec: &'a Fields, field: &str) -> &'a [Value] {
    spec.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
