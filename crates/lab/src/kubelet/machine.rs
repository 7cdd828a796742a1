//! What a node is made of: this machine, which all nodes of a lab share.

use apiserver::VERSION;
use ipnet::IpNet;
use serde_json::{Value, json};
use std::fs::read_to_string;

/// The node's status in these words, where nobody said it yet: `nodeInfo`, `capacity` and `allocatable`.
pub(super) fn description(node: &Value, machine: &Machine) -> Option<Value> {
    let status = &node["status"];
    let mut told = serde_json::Map::new();
    if status["nodeInfo"]["kubeletVersion"].as_str().unwrap_or_default().is_empty() {
        told.insert("nodeInfo".into(), machine.information());
    }
    let has = |field: &str| status[field].as_object().is_some_and(|it| !it.is_empty());
    if !has("capacity") {
        told.insert("capacity".into(), machine.capacity(node));
    }
    if !has("allocatable") {
        let whole = told.get("capacity").unwrap_or(&status["capacity"]).clone();
        told.insert("allocatable".into(), whole);
    }
    (!told.is_empty()).then(|| told.into())
}

#[derive(Debug, Default)]
pub(super) struct Machine {
    kernel: String,
    system: String,
    boot: String,
    processors: usize,
    /// In KiB.
    memory: u64,
}

impl Machine {
    /// What cannot be read stays empty.
    pub(super) fn read() -> Machine {
        let line = |path: &str| read_to_string(path).unwrap_or_default().trim().to_owned();
        Machine {
            kernel: line("/proc/sys/kernel/osrelease"),
            system: field(&line("/etc/os-release"), "PRETTY_NAME=").trim_matches('"').to_owned(),
            boot: line("/proc/sys/kernel/random/boot_id"),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory: field(&line("/proc/meminfo"), "MemTotal:")
                .trim_end_matches("kB")
                .trim()
                .parse()
                .unwrap_or(0),
        }
    }

    fn information(&self) -> Value {
        json!({
            "kernelVersion": self.kernel,
            "osImage": self.system,
            "bootID": self.boot,
            "containerRuntimeVersion": concat!("podway://", env!("CARGO_PKG_VERSION")),
            "kubeletVersion": VERSION,
            "operatingSystem": "linux",
            "architecture": ARCHITECTURE,
        })
    }

    /// As many pods as the node has addresses for.
    fn capacity(&self, node: &Value) -> Value {
        json!({
            "cpu": self.processors.to_string(),
            "memory": format!("{}Ki", self.memory),
            "pods": pods(&node["spec"]["podCIDR"]).to_string(),
        })
    }
}

/// As Go and Kubernetes call it.
pub(crate) const ARCHITECTURE: &str = match std::env::consts::ARCH.as_bytes() {
    b"x86_64" => "amd64",
    b"aarch64" => "arm64",
    _ => std::env::consts::ARCH,
};

/// Without the first and the last address and the gateway's; of IPv6 no more than a node of IPv4 alone can have.
fn pods(cidr: &Value) -> u64 {
    let parsed = cidr.as_str().and_then(|text| text.parse::<IpNet>().ok());
    let bits = parsed.map_or(0, |it| it.max_prefix_len() - it.prefix_len());
    (1_u64 << bits.min(16)).saturating_sub(3)
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_declared_stays() {
        let machine = Machine { processors: 2, memory: 1024, ..Machine::default() };
        let own = json!({"cpu": "2", "memory": "1024Ki", "pods": "253"});
        let declared = json!({"cpu": "64"});
        let rows = [
            (json!({}), Some(&own), Some(&own), true),
            (json!({"nodeInfo": {"kubeletVersion": ""}}), Some(&own), Some(&own), true),
            (json!({"capacity": declared}), None, Some(&declared), true),
            (
                json!({"nodeInfo": {"kubeletVersion": "v1.30.0"}, "capacity": own, "allocatable": declared}),
                None,
                None,
                false,
            ),
        ];
        for (status, capacity, allocatable, informs) in rows {
            let node = json!({"spec": {"podCIDR": "10.244.0.0/24"}, "status": status});
            let told = description(&node, &machine).unwrap_or_default();
            assert_eq!(told.get("capacity"), capacity, "{status}");
            assert_eq!(told.get("allocatable"), allocatable, "{status}");
            assert_eq!(told.get("nodeInfo").is_some(), informs, "{status}");
        }
    }

    #[test]
    fn this_machine_is_read() {
        let Machine { kernel, boot, processors, memory, .. } = Machine::read();
        assert!(!kernel.is_empty() && boot.len() == 36 && processors > 0 && memory > 0);
    }

    #[test]
    fn pods_need_addresses() {
        for (cidr, expected) in [("10.244.1.0/24", 253), ("fd00::/64", 65533), ("10.0.0.0/32", 0)] {
            assert_eq!(pods(&cidr.into()), expected, "{cidr}");
        }
    }
}
