//! The rules that kube-proxy 1.36 makes in nftables mode, for `nft -f`: what benchmarks compare with.
//!
//! Only the shape is kube-proxy's: the table, its base chains, sets and verdict maps, a chain per
//! Service port with an anonymous map of its endpoints. Addresses are made up, hashes are not SHA-256.

use std::io::{self, Write};
use std::net::Ipv4Addr;

/// How many Services, and how many endpoints each of them has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) services: u32,
    pub(crate) endpoints: u32,
}

/// Chains, maps and sets that are there whatever the cluster holds.
const FRAME: &str = "\
add table ip kube-proxy { comment \"rules for kube-proxy\" ; }
add set ip kube-proxy cluster-ips { type ipv4_addr ; comment \"Active ClusterIPs\" ; }
add set ip kube-proxy nodeport-ips { type ipv4_addr ; comment \"IPs that accept NodePort traffic\" ; }
add set ip kube-proxy hairpin-connections { type ipv4_addr . ipv4_addr . inet_proto . inet_service ; }
add map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict ; }
add map ip kube-proxy service-nodeports { type inet_proto . inet_service : verdict ; }
add map ip kube-proxy no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict ; }
add map ip kube-proxy no-endpoint-nodeports { type inet_proto . inet_service : verdict ; }
add map ip kube-proxy firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict ; }
add chain ip kube-proxy filter-prerouting-pre-dnat { type filter hook prerouting priority -110 ; }
add chain ip kube-proxy filter-output-pre-dnat { type filter hook output priority -110 ; }
add chain ip kube-proxy filter-input { type filter hook input priority -10 ; }
add chain ip kube-proxy filter-forward { type filter hook forward priority -10 ; }
add chain ip kube-proxy filter-output { type filter hook output priority -10 ; }
add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority -100 ; }
add chain ip kube-proxy nat-output { type nat hook output priority -100 ; }
add chain ip kube-proxy nat-postrouting { type nat hook postrouting priority 100 ; }
add chain ip kube-proxy cluster-ips-check
add chain ip kube-proxy firewall-check
add chain ip kube-proxy mark-for-masquerade
add chain ip kube-proxy masquerading
add chain ip kube-proxy nodeport-endpoints-check
add chain ip kube-proxy reject-chain
add chain ip kube-proxy service-endpoints-check
add chain ip kube-proxy services
add rule ip kube-proxy filter-prerouting-pre-dnat ct state new jump firewall-check
add rule ip kube-proxy filter-output-pre-dnat ct state new jump firewall-check
add rule ip kube-proxy filter-input ct state new jump nodeport-endpoints-check
add rule ip kube-proxy filter-input ct state new jump service-endpoints-check
add rule ip kube-proxy filter-forward ct state new jump service-endpoints-check
add rule ip kube-proxy filter-forward ct state new jump cluster-ips-check
add rule ip kube-proxy filter-output ct state new jump service-endpoints-check
add rule ip kube-proxy filter-output ct state new jump cluster-ips-check
add rule ip kube-proxy nat-prerouting jump services
add rule ip kube-proxy nat-output jump services
add rule ip kube-proxy nat-postrouting jump masquerading
add rule ip kube-proxy cluster-ips-check ip daddr @cluster-ips reject
add rule ip kube-proxy cluster-ips-check ip daddr 10.96.0.0/12 drop
add rule ip kube-proxy firewall-check ip daddr . meta l4proto . th dport vmap @firewall-ips
add rule ip kube-proxy mark-for-masquerade mark set mark or 0x4000
add rule ip kube-proxy masquerading ip saddr . ip daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random
add rule ip kube-proxy masquerading mark and 0x4000 == 0 return
add rule ip kube-proxy masquerading mark set mark xor 0x4000
add rule ip kube-proxy masquerading masquerade fully-random
add rule ip kube-proxy nodeport-endpoints-check ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports
add rule ip kube-proxy reject-chain reject
add rule ip kube-proxy service-endpoints-check ip daddr . meta l4proto . th dport vmap @no-endpoint-services
add rule ip kube-proxy services ip daddr . meta l4proto . th dport vmap @service-ips
add rule ip kube-proxy services ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
add element ip kube-proxy nodeport-ips { 10.1.1.110 }
";

/// One endpoint in this many is on the node whose rules these are.
const NODES: u32 = 100;

/// Writes commands for `nft -f`, which loads them in one transaction.
pub(crate) fn write(size: Size, out: &mut impl Write) -> io::Result<()> {
    out.write_all(FRAME.as_bytes())?;
    for service in 0..size.services {
        write_service(service, size.endpoints, out)?;
    }
    out.flush()
}

fn write_service(number: u32, endpoints: u32, out: &mut impl Write) -> io::Result<()> {
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 1, 0)) + number);
    let (name, table) = (format!("bench/service-{number}"), "ip kube-proxy");
    let chain = format!("service-{}-{name}/tcp/http", hash(number));
    writeln!(out, "add element {table} cluster-ips {{ {address} }}")?;
    if endpoints == 0 {
        let key = format!("{address} . tcp . 80 comment \"{name}:http\"");
        return writeln!(
            out,
            "add element {table} no-endpoint-services {{ {key} : goto reject-chain }}"
        );
    }
    writeln!(out, "add chain {table} {chain}")?;
    writeln!(
        out,
        "add rule {table} {chain} ip daddr {address} tcp dport 80 ip saddr != 10.244.0.0/16 jump mark-for-masquerade"
    )?;
    let first = number * endpoints;
    let pods: Vec<_> = (first..first + endpoints).map(pod_address).collect();
    let choices: Vec<_> =
        pods.iter().enumerate().map(|(slot, pod)| format!("{slot} : {pod} . 8080")).collect();
    writeln!(
        out,
        "add rule {table} {chain} meta l4proto tcp dnat ip to numgen random mod {endpoints} map {{ {} }}",
        choices.join(" , ")
    )?;
    for (_, pod) in (first..).zip(&pods).filter(|(number, _)| number % NODES == 0) {
        writeln!(out, "add element {table} hairpin-connections {{ {pod} . {pod} . tcp . 8080 }}")?;
    }
    let key = format!("{address} . tcp . 80 comment \"{name}:http\"");
    writeln!(out, "add element {table} service-ips {{ {key} : goto {chain} }}")
}

/// Not of the pod network of examples, which is too small for the largest benchmark.
fn pod_address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 128, 0, 1)) + number)
}

/// Eight letters of the base-32 alphabet, different for every number.
fn hash(number: u32) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mixed = (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..8_u32)
        .map(|place| {
            char::from(ALPHABET[(mixed >> (24 + 5 * place)).to_le_bytes()[0] as usize & 31])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn commands(size: Size) -> Vec<String> {
        let mut text = Vec::new();
        write(size, &mut text).unwrap();
        String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_service_is_a_chain_and_an_element() {
        let all = commands(Size { services: 2, endpoints: 2 });
        let own = &all[FRAME.lines().count()..];
        let second: Vec<_> = own.iter().filter(|line| line.contains("service-1/")).collect();
        assert_eq!(second.len(), 4, "{own:#?}");
        assert!(second[2].ends_with(
            "dnat ip to numgen random mod 2 map { 0 : 10.128.0.3 . 8080 , 1 : 10.128.0.4 . 8080 }"
        ));
        assert!(second[3].contains("service-ips { 10.96.1.1 . tcp . 80 comment"));
    }

    #[test]
    fn names_differ() {
        let all: BTreeSet<_> = (0..50_000).map(hash).collect();
        assert_eq!(all.len(), 50_000);
    }

    #[test]
    fn without_endpoints_it_is_rejected() {
        let all = commands(Size { services: 1, endpoints: 0 });
        assert!(all.last().unwrap().contains("no-endpoint-services"));
    }
}
