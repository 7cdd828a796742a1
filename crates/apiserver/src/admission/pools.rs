//! Cluster addresses and node ports, each given to one service.
//!
//! Each range has a band at its start that is given out only on demand or when the rest is used up, so that people
//! can choose addresses there without a collision (KEP-3070, KEP-3668).

use super::addresses::Addresses;
use super::causes::Causes;
use super::service::{has_health_port, has_node_ports, is_exposed};
use crate::error::Error;
use crate::resources::Kind;
use crate::store::{Change, Object};
use ipnet::IpNet;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// What is free and what is taken.
#[derive(Debug)]
pub(crate) struct Pools {
    addresses: Addresses,
    node_ports: Pool,
}

impl Pools {
    #[must_use]
    pub(crate) fn new(cidrs: &[IpNet], node_ports: &RangeInclusive<u16>) -> Self {
        Self { addresses: Addresses::new(cidrs), node_ports: Pool::of_ports(node_ports) }
    }

    /// The first address of the first range: the API's own service.
    #[must_use]
    pub(crate) fn first_address(&self) -> Option<IpAddr> {
        self.addresses.first()
    }

    /// Gives a service what it needs and checks what it asks for. Nothing is taken before [`Self::follow`] hears of
    /// the write; `dry_run`: there will be none.
    pub(crate) fn allocate(
        &self,
        kind: Kind,
        object: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
    ) -> Result<(), Error> {
        if kind != Kind::Service {
            return Ok(());
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let held = old.map(|old| self.held(old)).unwrap_or_default();
        let mut causes = Causes::default();
        if let Some(spec) = object["spec"].as_object_mut() {
            self.addresses.allocate(spec, &held.addresses, dry_run, &mut causes);
            self.allocate_ports(spec, &held, &mut causes);
        }
        causes.into_result(kind.resource(), &name)
    }

    /// Books what a write took and gave back.
    pub(crate) fn follow(&mut self, change: &Change) {
        if change.kind != Kind::Service {
            return;
        }
        let held = |object: &Option<std::sync::Arc<Object>>| {
            object.as_ref().map(|object| self.held(&object.value)).unwrap_or_default()
        };
        let (old, new) = (held(&change.old), held(&change.new));
        for address in old.addresses {
            self.addresses.give_back(address);
        }
        for number in old.node_ports {
            self.node_ports.taken.remove(&number);
        }
        new.addresses.into_iter().for_each(|address| self.addresses.take(address));
        new.node_ports.into_iter().for_each(|number| self.node_ports.take(number));
    }

    fn allocate_ports(&self, spec: &mut Map<String, Value>, held: &Held, causes: &mut Causes) {
        let mut planned: BTreeSet<u128> = BTreeSet::new();
        if has_node_ports(spec) {
            self.check_ports(spec, held, &mut planned, causes);
            self.fill_ports(spec, &mut planned, causes);
        }
        if has_health_port(spec)
            && spec.get("healthCheckNodePort").and_then(Value::as_u64).unwrap_or(0) == 0
        {
            match self.node_ports.pick(&planned) {
                Some(port) => drop(spec.insert("healthCheckNodePort".into(), port_value(port))),
                None => causes.invalid("spec.healthCheckNodePort", &0.into(), "range is full"),
            }
        }
    }

    /// Ports that were asked for.
    fn check_ports(
        &self,
        spec: &Map<String, Value>,
        held: &Held,
        planned: &mut BTreeSet<u128>,
        causes: &mut Causes,
    ) {
        for (index, port) in
            spec.get("ports").and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            let value = &port["nodePort"];
            let Some(number) = value.as_u64().map(u128::from).filter(|number| *number > 0) else {
                continue;
            };
            let path = format!("spec.ports[{index}].nodePort");
            let pool = &self.node_ports;
            if !pool.holds(number) {
                let (first, last) = (pool.first, pool.first + pool.size - 1);
                let why = format!(
                    "provided port is not in the valid range. The range of valid ports is {first}-{last}"
                );
                causes.invalid(&path, value, &why);
            } else if pool.taken.contains(&number) && !held.node_ports.contains(&number) {
                causes.invalid(&path, value, "provided port is already allocated");
            }
            planned.insert(number);
        }
    }

    /// Ports that were left to us; one number serves all protocols of a port.
    fn fill_ports(
        &self,
        spec: &mut Map<String, Value>,
        planned: &mut BTreeSet<u128>,
        causes: &mut Causes,
    ) {
        let Some(Value::Array(ports)) = spec.get_mut("ports") else { return };
        for index in 0..ports.len() {
            if ports[index]["nodePort"].as_u64().unwrap_or(0) > 0 || !ports[index].is_object() {
                continue;
            }
            let (port, protocol) = (ports[index]["port"].clone(), ports[index]["protocol"].clone());
            let twin = ports.iter().find(|other| {
                other["port"] == port
                    && other["protocol"] != protocol
                    && other["nodePort"].as_u64().unwrap_or(0) > 0
            });
            let number = match twin {
                Some(twin) => Some(twin["nodePort"].clone()),
                None => self.node_ports.pick(planned).map(|number| {
                    planned.insert(number);
                    port_value(number)
                }),
            };
            match number {
                Some(number) => ports[index]["nodePort"] = number,
                None => causes.invalid(
                    &format!("spec.ports[{index}].nodePort"),
                    &0.into(),
                    "range is full",
                ),
            }
        }
    }

    fn held(&self, service: &Value) -> Held {
        let spec = &service["spec"];
        let Some(fields) = spec.as_object() else { return Held::default() };
        let ports = spec["ports"].as_array().into_iter().flatten().map(|port| &port["nodePort"]);
        let ports =
            ports.chain([&spec["healthCheckNodePort"]]).filter_map(Value::as_u64).map(u128::from);
        Held {
            addresses: self.addresses.held(fields),
            // Only those who have node ports hold what they name.
            node_ports: ports
                .filter(|port| is_exposed(fields) && self.node_ports.holds(*port))
                .collect(),
        }
    }
}

fn port_value(number: u128) -> Value {
    u64::try_from(number).expect("ports have 16 bits").into()
}

pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// What a service has.
#[derive(Debug, Default)]
struct Held {
    addresses: BTreeSet<IpAddr>,
    node_ports: BTreeSet<u128>,
}

/// A range of numbers, those taken, and where to look next: a number given back rests until the others were used.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) first: u128,
    size: u128,
    /// How many numbers at the start are kept for those who ask for them.
    reserved: u128,
    pub(super) taken: BTreeSet<u128>,
    next: u128,
}

impl Pool {
    pub(super) fn of_addresses(cidr: IpNet) -> Self {
        let bits = u32::from(cidr.max_prefix_len() - cidr.prefix_len()).min(64);
        let all = 1_u128 << bits;
        // Neither the network's own address nor IPv4's broadcast address is anybody's.
        let unusable = if cidr.addr().is_ipv4() { 2 } else { 1 };
        Self::new(number(cidr.network()) + 1, all.saturating_sub(unusable), band(all, 16, 16, 256))
    }

    fn of_ports(range: &RangeInclusive<u16>) -> Self {
        let size = u128::from(range.end().saturating_sub(*range.start())) + 1;
        Self::new(u128::from(*range.start()), size, band(size, 32, 16, 128))
    }

    fn new(first: u128, size: u128, reserved: u128) -> Self {
        Self { first, size, reserved, taken: BTreeSet::new(), next: first + reserved }
    }

    pub(super) fn holds(&self, number: u128) -> bool {
        (self.first..self.first + self.size).contains(&number)
    }

    pub(super) fn take(&mut self, number: u128) {
        self.taken.insert(number);
        if number >= self.first + self.reserved {
            self.next = number + 1;
        }
    }

    /// A free number: from the place to look next to the end, then from the dynamic start, then from the very start.
    pub(super) fn pick(&self, planned: &BTreeSet<u128>) -> Option<u128> {
        let end = self.first + self.size;
        let free =
            |from: u128| (from..end).find(|n| !self.taken.contains(n) && !planned.contains(n));
        [self.next, self.first + self.reserved, self.first].into_iter().find_map(free)
    }
}

/// `min(max(least, size / step), most)`; a range smaller than `least` has no band.
fn band(size: u128, step: u128, least: u128, most: u128) -> u128 {
    if size < least { 0 } else { (size / step).clamp(least, most) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_are_those_of_the_real_server() {
        for (cidr, first, reserved) in [
            ("10.96.0.0/12", "10.96.0.1", 256),
            ("10.96.0.0/24", "10.96.0.1", 16),
            ("10.96.0.0/29", "10.96.0.1", 0),
        ] {
            let cidr: IpNet = cidr.parse().unwrap();
            let pools = Pools::new(&[cidr], &(30_000..=32_767));
            assert_eq!(pools.first_address().unwrap().to_string(), first);
            assert_eq!(Pool::of_addresses(cidr).reserved, reserved, "{cidr}");
        }
        let ports = Pool::of_ports(&(30_000..=32_767));
        assert_eq!(ports.pick(&BTreeSet::new()), Some(30_086));
    }

    #[test]
    fn gives_out_everything_once_and_the_band_last() {
        let mut pool = Pool::of_addresses("10.0.0.0/26".parse().unwrap());
        let mut given = Vec::new();
        while let Some(number) = pool.pick(&BTreeSet::new()) {
            pool.take(number);
            given.push(number - pool.first);
        }
        assert_eq!(given[0], 16);
        assert_eq!(given.len(), 62);
        assert!(given[46..].is_sorted() && given[46] == 0, "{given:?}");
    }

    #[test]
    fn a_number_given_back_rests() {
        let mut pool = Pool::of_ports(&(30_000..=32_767));
        pool.take(30_086);
        pool.taken.remove(&30_086);
        assert_eq!(pool.pick(&BTreeSet::new()), Some(30_087));
    }
}
