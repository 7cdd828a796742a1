//! Cluster addresses: of one family or of both, as a service wants it and the cluster can.

use super::causes::Causes;
use super::pools::{Pool, number};
use super::service::has_cluster_ip;
use super::text;
use ipnet::IpNet;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One range, or one of each family; the first is of the family that services have by default.
#[derive(Debug)]
pub(super) struct Addresses(Vec<Range>);

#[derive(Debug)]
struct Range {
    cidr: IpNet,
    pool: Pool,
}

type Spec = Map<String, Value>;

impl Addresses {
    pub(super) fn new(cidrs: &[IpNet]) -> Self {
        let range = |cidr: &IpNet| Range { cidr: *cidr, pool: Pool::of_addresses(*cidr) };
        Addresses(cidrs.iter().map(range).collect())
    }

    /// The first address of the first range.
    pub(super) fn first(&self) -> Option<IpAddr> {
        self.0.first().map(|range| range.address(range.pool.first))
    }

    /// Those of the service's addresses that come from here.
    pub(super) fn held(&self, spec: &Spec) -> BTreeSet<IpAddr> {
        let addresses = cluster_ips(spec).into_iter().filter_map(|text| text.parse().ok());
        let ours = |address: &IpAddr| self.0.iter().any(|range| range.holds(*address));
        addresses.filter(|address| has_cluster_ip(spec) && ours(address)).collect()
    }

    pub(super) fn give_back(&mut self, address: IpAddr) {
        for range in self.0.iter_mut().filter(|range| range.holds(address)) {
            range.pool.taken.remove(&number(address));
        }
    }

    pub(super) fn take(&mut self, address: IpAddr) {
        if let Some(range) = self.0.iter_mut().find(|range| range.holds(address)) {
            range.pool.take(number(address));
        }
    }

    /// Decides the families and gives or checks an address of each. `held` is what the service has already. In a dry run
    /// the address that nobody gets stands for one, as of the real server.
    pub(super) fn allocate(
        &self,
        spec: &mut Spec,
        held: &BTreeSet<IpAddr>,
        dry_run: bool,
        causes: &mut Causes,
    ) {
        if !has_cluster_ip(spec) || self.0.is_empty() {
            return;
        }
        let Some(families) = self.families(spec, causes) else { return };
        if text(spec, "clusterIP") == "None" {
            return;
        }
        let mut addresses = cluster_ips(spec);
        addresses.truncate(families.len());
        for (index, family) in families.iter().enumerate() {
            let Some(range) = self.0.iter().find(|range| range.family() == family) else {
                continue;
            };
            match addresses.get(index) {
                Some(wanted) => self.check(wanted, family, index, (spec, held), causes),
                None if dry_run => addresses.push(range.cidr.network().to_string()),
                None => match range.pool.pick(&BTreeSet::new()) {
                    Some(number) => addresses.push(range.address(number).to_string()),
                    None => {
                        let why = "failed to allocate a ClusterIP: range is full";
                        return causes.invalid("spec.clusterIPs", &json!([]), why);
                    }
                },
            }
        }
        spec.insert("clusterIP".into(), json!(addresses.first()));
        spec.insert("clusterIPs".into(), json!(addresses));
    }

    /// Completes `ipFamilies` and `ipFamilyPolicy`; `None` where they cannot be had.
    fn families(&self, spec: &mut Spec, causes: &mut Causes) -> Option<Vec<String>> {
        let named = spec.get("ipFamilies").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut families: Vec<String> =
            named.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let configured: Vec<_> = self.0.iter().map(Range::family).collect();
        for (index, family) in families.iter().enumerate() {
            if !configured.contains(&family.as_str()) {
                let field = format!("spec.ipFamilies[{index}]");
                causes.invalid(&field, &family.as_str().into(), "not configured on this cluster");
                return None;
            }
        }
        let wanted = cluster_ips(spec);
        let implied = wanted.iter().filter_map(|text| text.parse().ok()).map(family_of);
        for family in implied.skip(families.len()) {
            families.push(family.to_owned());
        }
        // Without a selector nobody knows of which family the endpoints will be.
        let selector = spec.get("selector").and_then(Value::as_object);
        let open = wanted == ["None"] && selector.is_none_or(Map::is_empty) && families.is_empty();
        if open && !spec.contains_key("ipFamilyPolicy") {
            spec.insert("ipFamilies".into(), json!(["IPv4", "IPv6"]));
            spec.insert("ipFamilyPolicy".into(), "RequireDualStack".into());
            return Some(vec!["IPv4".to_owned(), "IPv6".to_owned()]);
        }
        let policy = match text(spec, "ipFamilyPolicy") {
            "" => "SingleStack".to_owned(),
            policy => policy.to_owned(),
        };
        let single = policy == "SingleStack";
        if single && wanted.len() > 1 && families.len() > 1 {
            // Going back to one family, the second address goes.
            spec.insert("clusterIPs".into(), json!([wanted[0]]));
        }
        if families.is_empty() {
            families.extend(configured.first().map(|family| (*family).to_owned()));
        }
        if single {
            families.truncate(1);
        } else if families.len() == 1 {
            let other = configured.iter().find(|family| **family != families[0]);
            families.extend(other.map(|family| (*family).to_owned()));
        }
        if policy == "RequireDualStack" && families.len() < 2 {
            let why = "this cluster is not configured for dual-stack services";
            causes.invalid("spec.ipFamilyPolicy", &policy.as_str().into(), why);
            return None;
        }
        spec.insert("ipFamilies".into(), json!(families));
        spec.insert("ipFamilyPolicy".into(), policy.into());
        Some(families)
    }

    /// Whether the service may have the address that it asks for.
    fn check(
        &self,
        wanted: &str,
        family: &str,
        index: usize,
        (spec, held): (&Spec, &BTreeSet<IpAddr>),
        causes: &mut Causes,
    ) {
        // What is no address has been refused already, but for the second one.
        let Ok(address) = wanted.parse::<IpAddr>() else {
            if index > 0 {
                let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
                causes.invalid(&format!("spec.clusterIPs[{index}]"), &wanted.into(), detail);
            }
            return;
        };
        if held.contains(&address) {
            return;
        }
        if family_of(address) != family {
            let field = format!("spec.clusterIPs[{index}]");
            let why = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            return causes.invalid(&field, &wanted.into(), &why);
        }
        let range = self.0.iter().find(|range| range.family() == family);
        let why = match range {
            Some(range) if !range.holds(address) => {
                "the provided network does not match the current range".to_owned()
            }
            Some(range) if range.pool.taken.contains(&number(address)) => {
                "provided IP is already allocated".to_owned()
            }
            _ => return,
        };
        let ips = spec.get("clusterIPs").cloned().unwrap_or_default();
        causes.invalid("spec.clusterIPs", &ips, &format!("failed to allocate IP {address}: {why}"));
    }
}

impl Range {
    fn family(&self) -> &'static str {
        family_of(self.cidr.addr())
    }

    fn holds(&self, address: IpAddr) -> bool {
        self.cidr.contains(&address) && self.pool.holds(number(address))
    }

    fn address(&self, number: u128) -> IpAddr {
        match self.cidr {
            IpNet::V4(_) => {
                Ipv4Addr::from(u32::try_from(number).expect("numbers come from this range")).into()
            }
            IpNet::V6(_) => Ipv6Addr::from(number).into(),
        }
    }
}

fn family_of(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// `clusterIPs`, else `clusterIP`; those that are said.
fn cluster_ips(spec: &Spec) -> Vec<String> {
    let listed = spec.get("clusterIPs").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let listed = listed.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
    match text(spec, "clusterIP") {
        single if listed.is_empty() && !single.is_empty() => vec![single.to_owned()],
        _ => listed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a service's spec: its addresses and families, or why it is refused.
    fn allocated(cidrs: &[&str], spec: Value, held: &[&str]) -> String {
        let cidrs: Vec<_> = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
        let mut addresses = Addresses::new(&cidrs);
        let taken = ["10.96.0.7", "fd00:96::7"];
        taken.iter().for_each(|address| addresses.take(address.parse().unwrap()));
        let Value::Object(mut spec) = spec else { unreachable!() };
        spec.insert("type".into(), "ClusterIP".into());
        let held = held.iter().map(|address| address.parse().unwrap()).collect();
        let mut causes = Causes::default();
        addresses.allocate(&mut spec, &held, false, &mut causes);
        if let Err(error) = causes.into_result(crate::resources::Kind::Service.resource(), "s") {
            return error.to_string();
        }
        let listed = |field: &str| {
            let entries = spec[field].as_array().into_iter().flatten();
            entries.filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
        };
        let policy = text(&spec, "ipFamilyPolicy");
        let ips = if text(&spec, "clusterIP") == "None" {
            "None".to_owned()
        } else {
            listed("clusterIPs")
        };
        assert!(ips == "None" || ips.starts_with(text(&spec, "clusterIP")));
        format!("{ips} | {} | {policy}", listed("ipFamilies"))
    }

    #[test]
    fn services_get_the_families_that_they_want() {
        let (v4, v6) = ("10.96.0.0/24", "fd00:96::/112");
        let both = [v4, v6];
        let prefer = || json!({"ipFamilyPolicy": "PreferDualStack"});
        let rows: [(&[&str], Value, &[&str], &str); 12] = [
            (&[v4], json!({}), &[], "10.96.0.17 | IPv4 | SingleStack"),
            (&[v6], json!({}), &[], "fd00:96::101 | IPv6 | SingleStack"),
            (&both, json!({}), &[], "10.96.0.17 | IPv4 | SingleStack"),
            (&both, json!({"ipFamilies": ["IPv6"]}), &[], "fd00:96::101 | IPv6 | SingleStack"),
            (&[v4], prefer(), &[], "10.96.0.17 | IPv4 | PreferDualStack"),
            (&both, prefer(), &[], "10.96.0.17 fd00:96::101 | IPv4 IPv6 | PreferDualStack"),
            (
                &both,
                json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]}),
                &[],
                "fd00:96::101 10.96.0.17 | IPv6 IPv4 | RequireDualStack",
            ),
            (
                &both,
                json!({"ipFamilyPolicy": "RequireDualStack", "clusterIP": "fd00:96::9"}),
                &[],
                "fd00:96::9 10.96.0.17 | IPv6 IPv4 | RequireDualStack",
            ),
            // An upgrade keeps the first address, a downgrade gives the second one back.
            (
                &both,
                json!({"ipFamilyPolicy": "PreferDualStack", "clusterIPs": ["10.96.0.7"], "ipFamilies": ["IPv4"]}),
                &["10.96.0.7"],
                "10.96.0.7 fd00:96::101 | IPv4 IPv6 | PreferDualStack",
            ),
            (
                &both,
                json!({"ipFamilyPolicy": "SingleStack", "clusterIPs": ["10.96.0.7", "fd00:96::7"],
                    "ipFamilies": ["IPv4", "IPv6"]}),
                &["10.96.0.7", "fd00:96::7"],
                "10.96.0.7 | IPv4 | SingleStack",
            ),
            (
                &both,
                json!({"clusterIP": "None", "selector": {"a": "b"}}),
                &[],
                "None | IPv4 | SingleStack",
            ),
            (
                &both,
                json!({"clusterIP": "None", "ipFamilyPolicy": "PreferDualStack"}),
                &[],
                "None | IPv4 IPv6 | PreferDualStack",
            ),
        ];
        for (cidrs, spec, held, expected) in rows {
            assert_eq!(allocated(cidrs, spec.clone(), held), expected, "{cidrs:?} {spec}");
        }
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        let both = ["10.96.0.0/24", "fd00:96::/112"];
        let rows: [(&[&str], Value, &str); 5] = [
            (
                &both[..1],
                json!({"ipFamilyPolicy": "RequireDualStack"}),
                "not configured for dual-stack services",
            ),
            (&both[..1], json!({"ipFamilies": ["IPv6"]}), "not configured on this cluster"),
            (
                &both,
                json!({"clusterIPs": ["10.96.0.9", "fd00:97::1"], "ipFamilyPolicy": "PreferDualStack"}),
                "does not match the current range",
            ),
            (
                &both,
                json!({"clusterIPs": ["10.96.0.9", "fd00:96::7"], "ipFamilyPolicy": "PreferDualStack"}),
                "already allocated",
            ),
            (
                &both,
                json!({"clusterIPs": ["10.96.0.9"], "ipFamilies": ["IPv6"]}),
                "expected an IPv6 value",
            ),
        ];
        for (cidrs, spec, expected) in rows {
            let answer = allocated(cidrs, spec.clone(), &[]);
            assert!(answer.contains(expected), "{spec}: {answer}");
        }
    }
}
