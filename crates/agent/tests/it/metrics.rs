//! kube-proxy's metrics are there under their own names, with their own labels.

use crate::node::{Node, in_own_namespace};
use backend::Mode;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

const METRICS: u16 = 10249;
const HEALTH: u16 = 10256;

/// Name without `kubeproxy_`, type, labels, and the one mode that has it.
const FAMILIES: [(&str, &str, &[&str], Option<Mode>); 20] = [
    ("sync_proxy_rules_duration_seconds", "histogram", &["ip_family"], None),
    ("sync_full_proxy_rules_duration_seconds", "histogram", &["ip_family"], None),
    ("sync_partial_proxy_rules_duration_seconds", "histogram", &["ip_family"], None),
    ("network_programming_duration_seconds", "histogram", &["ip_family"], None),
    ("sync_proxy_rules_last_timestamp_seconds", "gauge", &["ip_family"], None),
    ("sync_proxy_rules_last_queued_timestamp_seconds", "gauge", &["ip_family"], None),
    ("sync_proxy_rules_endpoint_changes_pending", "gauge", &["ip_family"], None),
    ("sync_proxy_rules_endpoint_changes_total", "counter", &["ip_family"], None),
    ("sync_proxy_rules_service_changes_pending", "gauge", &["ip_family"], None),
    ("sync_proxy_rules_service_changes_total", "counter", &["ip_family"], None),
    ("sync_proxy_rules_no_local_endpoints_total", "gauge", &["ip_family", "traffic_policy"], None),
    ("sync_proxy_rules_iptables_total", "gauge", &["ip_family", "table"], Some(Mode::Iptables)),
    ("sync_proxy_rules_iptables_last", "gauge", &["ip_family", "table"], Some(Mode::Iptables)),
    (
        "sync_proxy_rules_iptables_restore_failures_total",
        "counter",
        &["ip_family"],
        Some(Mode::Iptables),
    ),
    ("sync_proxy_rules_nftables_sync_failures_total", "counter", &["ip_family"], Some(Mode::Nft)),
    (
        "sync_proxy_rules_nftables_cleanup_failures_total",
        "counter",
        &["ip_family"],
        Some(Mode::Nft),
    ),
    ("proxy_healthz_total", "counter", &["code"], None),
    ("proxy_livez_total", "counter", &["code"], None),
    ("conntrack_reconciler_sync_duration_seconds", "histogram", &["ip_family"], None),
    ("conntrack_reconciler_deleted_entries_total", "counter", &["ip_family"], None),
];

/// The families of a text in Prometheus' format: their type, and the labels of their samples.
fn families(text: &str) -> BTreeMap<&str, (&str, BTreeSet<&str>)> {
    let mut families = BTreeMap::new();
    let mut name = "";
    for line in text.lines() {
        if let Some((family, kind)) = line.strip_prefix("# TYPE ").and_then(|it| it.split_once(' '))
        {
            name = family;
            families.insert(name, (kind, BTreeSet::new()));
        } else if !line.starts_with('#') {
            let (sample, labels) = line.split_once('{').unwrap_or((line, ""));
            assert!(sample.starts_with(name), "{line} is of no family");
            let labels = labels.split_once('}').map_or("", |(labels, _value)| labels);
            let names = labels.split(',').filter_map(|it| Some(it.split_once('=')?.0));
            families.get_mut(name).unwrap().1.extend(names.filter(|name| *name != "le"));
        }
    }
    families
}

async fn check(mode: Mode) {
    let node = Node::new(&format!("metrics-{mode}")).await;
    let agent = node.start_agent_in(mode).await;
    let service = node
        .apply(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
            "spec": {"clusterIP": "10.96.5.5", "ports": [{"port": 80}]},
        }))
        .await;
    let version = service["metadata"]["resourceVersion"].as_str().unwrap();
    node.ask(HEALTH, &format!("/programmed?Service={version}")).await;
    let text = node.ask(METRICS, "/metrics").await.body;
    let have = families(&text);
    for (name, kind, labels, only) in FAMILIES {
        let name = format!("kubeproxy_{name}");
        let wanted = only.is_none_or(|only| only == mode);
        let labels: BTreeSet<_> = labels.iter().copied().collect();
        let expected = wanted.then_some((kind, labels));
        assert_eq!(have.get(name.as_str()).cloned(), expected, "{name} in mode {mode}: {text}");
    }
    if mode == Mode::Iptables {
        rules_are_counted(&text);
    }
    agent.abort();
}

#[test]
fn all_are_there_in_mode_nft() {
    in_own_namespace("metrics::all_are_there_in_mode_nft", async || check(Mode::Nft).await);
}

#[test]
fn all_are_there_in_mode_userspace() {
    let name = "metrics::all_are_there_in_mode_userspace";
    in_own_namespace(name, async || check(Mode::Userspace).await);
}

#[test]
fn all_are_there_in_mode_iptables() {
    in_own_namespace("metrics::all_are_there_in_mode_iptables", async || {
        check(Mode::Iptables).await
    });
}

/// The rules that there are, and those that a change took.
fn rules_are_counted(text: &str) {
    let value = |what: &str, table: &str| {
        let sample = format!(
            "kubeproxy_sync_proxy_rules_iptables_{what}{{ip_family=\"IPv4\",table=\"{table}\"}} "
        );
        let found = text.lines().find_map(|line| line.strip_prefix(&sample));
        found.unwrap_or_else(|| panic!("{sample} in {text}")).parse::<u32>().unwrap()
    };
    let saved = |table: &str| {
        let save =
            std::process::Command::new("iptables-save").args(["-t", table]).output().unwrap();
        let rules = String::from_utf8(save.stdout).unwrap();
        let own = ["-A KUBE-", "-A PODWAY-"];
        u32::try_from(
            rules.lines().filter(|line| own.iter().any(|it| line.starts_with(it))).count(),
        )
        .unwrap()
    };
    for table in ["nat", "filter"] {
        assert!(saved(table) > 0);
        assert_eq!(value("total", table), saved(table), "{table}");
    }
    assert!((1..saved("filter")).contains(&value("last", "filter")), "{text}");
}
