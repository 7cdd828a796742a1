//! Choosing addresses; nothing here touches a file.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses of one subnet that containers may have.
///
/// Invariant: the gateway lies in the subnet, and there is at least one other usable address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    subnet: IpNet,
    gateway: IpAddr,
}

impl Pool {
    /// `None`: the subnet is too small, or the gateway is not one of its usable addresses.
    #[must_use]
    pub fn new(subnet: IpNet, gateway: Option<IpAddr>) -> Option<Pool> {
        let subnet = subnet.trunc();
        let (first, last) = usable(subnet);
        let gateway = gateway.unwrap_or_else(|| address(subnet, first));
        let inside = (first..=last).contains(&number(gateway)) && subnet.contains(&gateway);
        (inside && first < last).then_some(Pool { subnet, gateway })
    }

    #[must_use]
    pub fn subnet(&self) -> IpNet {
        self.subnet
    }

    #[must_use]
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// The first free address after `last`, going round at the end, so that an address rests as long as can be before
    /// somebody else gets it. Never the network's own address, the gateway or the broadcast address.
    #[must_use]
    pub fn choose(&self, last: Option<IpAddr>, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
        let (first, end) = usable(self.subnet);
        let last = last.filter(|last| self.subnet.contains(last)).map(number);
        let start = last.and_then(|last| last.checked_add(1)).unwrap_or(first);
        let start = if (first..=end).contains(&start) { start } else { first };
        (start..=end)
            .chain(first..start)
            .map(|number| address(self.subnet, number))
            .find(|address| *address != self.gateway && !taken.contains(address))
    }
}

/// Network and broadcast address are no hosts; the first address of an IPv6 subnet is the routers' anycast address.
fn usable(subnet: IpNet) -> (u128, u128) {
    let (first, last) = (number(subnet.network()), number(subnet.broadcast()));
    (first.saturating_add(1), last.saturating_sub(u128::from(subnet.addr().is_ipv4())))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

fn address(subnet: IpNet, number: u128) -> IpAddr {
    match (subnet, u32::try_from(number)) {
        (IpNet::V4(_), Ok(number)) => Ipv4Addr::from(number).into(),
        _ => Ipv6Addr::from(number).into(),
    }
}

/// The prefix that holds this address alone.
#[must_use]
pub fn host(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(address) => Ipv4Net::from(address).into(),
        IpAddr::V6(address) => Ipv6Net::from(address).into(),
    }
}

/// The prefix that holds every address of the same family.
#[must_use]
pub fn everywhere(family_of: IpAddr) -> IpNet {
    match family_of {
        IpAddr::V4(_) => Ipv4Net::default().into(),
        IpAddr::V6(_) => Ipv6Net::default().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Subnet, gateway, last, taken; the address chosen.
    type Row<'a> = (&'a str, Option<&'a str>, Option<&'a str>, &'a [&'a str], Option<&'a str>);

    #[test]
    fn addresses_are_given_in_turn_and_rest_before_they_come_again() {
        let rows: [Row<'_>; 10] = [
            ("10.0.0.0/29", None, None, &[], Some("10.0.0.2")),
            ("10.0.0.0/29", None, Some("10.0.0.2"), &["10.0.0.2"], Some("10.0.0.3")),
            ("10.0.0.0/29", None, Some("10.0.0.2"), &[], Some("10.0.0.3")),
            ("10.0.0.0/29", None, Some("10.0.0.6"), &["10.0.0.2"], Some("10.0.0.3")),
            ("10.0.0.0/29", Some("10.0.0.6"), Some("10.0.0.5"), &[], Some("10.0.0.1")),
            ("10.0.0.0/30", None, Some("10.0.0.2"), &["10.0.0.2"], None),
            ("10.0.0.0/30", None, Some("192.168.0.1"), &[], Some("10.0.0.2")),
            ("10.0.0.8/29", None, Some("10.0.0.15"), &[], Some("10.0.0.10")),
            ("255.255.255.0/24", None, Some("255.255.255.255"), &[], Some("255.255.255.2")),
            ("fd00::/64", None, Some("fd00::2"), &["fd00::3"], Some("fd00::4")),
        ];
        for (subnet, gateway, last, taken, expected) in rows {
            let ip = |text: &str| text.parse::<IpAddr>().unwrap();
            let pool = Pool::new(subnet.parse().unwrap(), gateway.map(ip)).unwrap();
            let taken = taken.iter().map(|text| ip(text)).collect();
            assert_eq!(pool.choose(last.map(ip), &taken), expected.map(ip), "{subnet} {last:?}");
        }
    }

    #[test]
    fn a_pool_has_room_for_a_gateway_and_somebody_else() {
        let rows = [
            ("10.0.0.0/30", None, true),
            ("10.0.0.0/31", None, false),
            ("10.0.0.0/32", None, false),
            ("10.0.0.0/24", Some("10.0.0.0"), false),
            ("10.0.0.0/24", Some("10.0.0.255"), false),
            ("10.0.0.0/24", Some("10.0.1.1"), false),
            ("0.0.0.0/0", None, true),
            ("fd00::/127", None, false),
            ("fd00::/126", None, true),
            ("::/0", None, true),
        ];
        for (subnet, gateway, expected) in rows {
            let gateway = gateway.map(|text| text.parse().unwrap());
            assert_eq!(Pool::new(subnet.parse().unwrap(), gateway).is_some(), expected, "{subnet}");
        }
    }
}
