//! How the service proxy of a node is set: Podway's agent, as it announces it on its Node, or kube-proxy, as its
//! configuration says.

use crate::field::{Field, FieldError};
use crate::named::named;
use crate::object::Family;
use crate::object::service::Scheduler;
use ipnet::IpNet;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// The ways to serve Services, by their names in `--proxy-mode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProxyMode {
    #[default]
    Nft,
    Iptables,
    Ipvs,
    Userspace,
}

named!(ProxyMode { Nft = "nft", Iptables = "iptables", Ipvs = "ipvs", Userspace = "userspace" });

impl ProxyMode {
    /// What Services may ask for in this mode.
    pub const fn schedulers(self) -> &'static [Scheduler] {
        use Scheduler::*;
        match self {
            // Slots can stand for these; others need to know who is busy or whose turn it is.
            ProxyMode::Nft => &[Random, SourceHash, DestinationHash, Maglev],
            ProxyMode::Iptables => &[Random],
            ProxyMode::Ipvs => &[
                RoundRobin,
                WeightedRoundRobin,
                LeastConnection,
                WeightedLeastConnection,
                LocalityLeastConnection,
                DestinationHash,
                SourceHash,
                ShortestExpectedDelay,
                NeverQueue,
                Maglev,
            ],
            // By IPVS's `lblc` a Service's connections, which all have one destination, are spread as by `wlc`.
            ProxyMode::Userspace => &[
                Random,
                RoundRobin,
                WeightedRoundRobin,
                LeastConnection,
                WeightedLeastConnection,
                LocalityLeastConnection,
                DestinationHash,
                SourceHash,
                ShortestExpectedDelay,
                NeverQueue,
                Maglev,
            ],
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no proxy mode {name:?}: there are nft, iptables, ipvs and userspace")]
pub struct UnknownMode {
    name: String,
}

impl FromStr for ProxyMode {
    type Err = UnknownMode;

    /// `nftables` is kube-proxy's name for `nft`.
    fn from_str(name: &str) -> Result<Self, UnknownMode> {
        let name = if name == "nftables" { "nft" } else { name };
        ProxyMode::by_name(name).ok_or_else(|| UnknownMode { name: name.to_owned() })
    }
}

/// Which of the node's addresses node ports answer on (`--nodeport-addresses`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodePortAddresses {
    /// All local addresses within these prefixes; `None`: the first address of each family.
    pub within: Option<Vec<IpNet>>,
    /// The families whose loopback addresses count too, for processes of the node.
    pub localhost: BTreeSet<Family>,
}

/// How this cluster's pods are told from others (`--detect-local-mode`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalDetection {
    /// Sources in the cluster's pod network.
    ClusterCidr,
    /// Sources in the node's own pod subnets.
    NodeCidr,
    /// What comes in through this bridge.
    BridgeInterface(String),
    /// What comes in through interfaces whose names begin so.
    InterfaceNamePrefix(String),
    /// Not at all, as kube-proxy does without a `clusterCIDR`: nobody is masqueraded for being from outside.
    None,
}

/// Whose settings they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProgram {
    Podway,
    KubeProxy,
}

impl ProxyProgram {
    /// The families whose loopback addresses node ports answer on, where they are to at all.
    pub fn loopback(self, wanted: bool) -> BTreeSet<Family> {
        match self {
            ProxyProgram::Podway if wanted => Family::ALL.into(),
            ProxyProgram::KubeProxy if wanted => [Family::V4].into(),
            ProxyProgram::Podway | ProxyProgram::KubeProxy => BTreeSet::new(),
        }
    }
}

impl fmt::Display for ProxyProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProxyProgram::Podway => "podway",
            ProxyProgram::KubeProxy => "kube-proxy",
        })
    }
}

/// A service proxy's settings, as far as they decide what becomes of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    pub program: ProxyProgram,
    pub mode: ProxyMode,
    /// All pods' addresses; empty where nobody said.
    pub cluster_cidrs: Vec<IpNet>,
    pub local_detection: LocalDetection,
    pub masquerade_all: bool,
    pub node_ports: NodePortAddresses,
    /// Of Services that name none; `None`: as the mode is used to.
    pub scheduler: Option<Scheduler>,
}

/// Prefixes that hold every address.
const EVERYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];

impl Proxy {
    /// The annotation of a Node by which its agent tells its settings: compact JSON with the members of kube-proxy's
    /// configuration, those that it keeps by mode without that level.
    pub const ANNOTATION: &str = "podway.io/agent";

    /// `podway agent` without options.
    pub fn podway(cluster_cidrs: Vec<IpNet>) -> Self {
        Proxy {
            program: ProxyProgram::Podway,
            mode: ProxyMode::default(),
            cluster_cidrs,
            local_detection: LocalDetection::ClusterCidr,
            masquerade_all: false,
            node_ports: NodePortAddresses::default(),
            scheduler: None,
        }
    }

    /// What [`Proxy::ANNOTATION`] holds.
    pub fn annotation(&self) -> String {
        let text = |nets: &[IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (detect, detail) = match &self.local_detection {
            LocalDetection::ClusterCidr | LocalDetection::None => ("ClusterCIDR", None),
            LocalDetection::NodeCidr => ("NodeCIDR", None),
            LocalDetection::BridgeInterface(name) => {
                ("BridgeInterface", Some(("bridgeInterface", name)))
            }
            LocalDetection::InterfaceNamePrefix(name) => {
                ("InterfaceNamePrefix", Some(("interfaceNamePrefix", name)))
            }
        };
        let node_ports =
            self.node_ports.within.as_deref().map_or_else(|| vec!["primary".to_owned()], text);
        let mut object = json!({
            "mode": self.mode.name(),
            "clusterCIDR": text(&self.cluster_cidrs).join(","),
            "detectLocalMode": detect,
            "nodePortAddresses": node_ports,
            "localhostNodePorts": !self.node_ports.localhost.is_empty(),
            "masqueradeAll": self.masquerade_all,
        });
        if let Some((member, name)) = detail {
            let detail = Map::from_iter([(member.to_owned(), Value::from(name.as_str()))]);
            object["detectLocal"] = Value::Object(detail);
        }
        if let Some(scheduler) = self.scheduler {
            object["scheduler"] = scheduler.to_string().into();
        }
        object.to_string()
    }

    /// What an agent announced in [`Proxy::ANNOTATION`].
    pub(super) fn announced(text: &str) -> Result<Self, FieldError> {
        let path = format!("metadata.annotations[{}]", Proxy::ANNOTATION);
        let parsed = serde_json::from_str::<Value>(text).ok().filter(Value::is_object);
        let Some(value) = parsed else {
            let expected = "the settings of podway agent as a JSON object";
            return Err(FieldError { path, expected, found: format!("{text:?}") });
        };
        let settings = Field::root(&value);
        Proxy::parse(ProxyProgram::Podway, &settings)
            .map_err(|error| FieldError { path: format!("{path}.{}", error.path), ..error })
    }

    /// A `KubeProxyConfiguration` (`kubeproxy.config.k8s.io/v1alpha1`), with kube-proxy's defaults.
    pub fn kube_proxy(configuration: &Value) -> Result<Self, FieldError> {
        Proxy::parse(ProxyProgram::KubeProxy, &Field::root(configuration))
    }

    fn parse(program: ProxyProgram, root: &Field<'_>) -> Result<Self, FieldError> {
        let mode = mode(program, &root.at("mode"))?;
        // kube-proxy keeps what is a matter of rules under the mode's name; ipvs and userspace share iptables'.
        let of_mode = match (program, mode) {
            (ProxyProgram::Podway, _) => root.clone(),
            (ProxyProgram::KubeProxy, ProxyMode::Nft) => root.at("nftables"),
            (ProxyProgram::KubeProxy, _) => root.at("iptables"),
        };
        let schedulers = match program {
            ProxyProgram::Podway => root.clone(),
            ProxyProgram::KubeProxy => root.at("ipvs"),
        };
        let cluster_cidrs = cluster_cidrs(&root.at("clusterCIDR"))?;
        // The one mode in which kube-proxy serves loopback addresses, and does so unless told not to.
        let by_default = program == ProxyProgram::KubeProxy && mode == ProxyMode::Iptables;
        let localhost = of_mode.at("localhostNodePorts").optional_bool()?.unwrap_or(by_default);
        let localhost = localhost && (program == ProxyProgram::Podway || by_default);
        let localhost = program.loopback(localhost);
        let within = node_port_prefixes(program, mode, &root.at("nodePortAddresses"))?;
        Ok(Proxy {
            program,
            mode,
            local_detection: local_detection(root, &cluster_cidrs)?,
            cluster_cidrs,
            masquerade_all: of_mode.at("masqueradeAll").optional_bool()?.unwrap_or(false),
            node_ports: NodePortAddresses { within, localhost },
            scheduler: scheduler(&schedulers.at("scheduler"))?,
        })
    }
}

fn mode(program: ProxyProgram, field: &Field<'_>) -> Result<ProxyMode, FieldError> {
    match (field.optional_text()?, program) {
        (None | Some(""), ProxyProgram::KubeProxy) => Ok(ProxyMode::Iptables),
        (text, _) => {
            let mode = text.and_then(|text| text.parse().ok());
            mode.ok_or_else(|| field.error("nft (or nftables), iptables, ipvs or userspace"))
        }
    }
}

/// Prefixes with commas between.
fn cluster_cidrs(field: &Field<'_>) -> Result<Vec<IpNet>, FieldError> {
    let text = field.optional_text()?.unwrap_or_default();
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let nets: Option<Vec<IpNet>> = parts.map(|part| part.parse().ok()).collect();
    nets.ok_or_else(|| field.error("prefixes like 10.244.0.0/16, with commas between"))
}

fn local_detection(root: &Field<'_>, cidrs: &[IpNet]) -> Result<LocalDetection, FieldError> {
    let (mode, detail) = (root.at("detectLocalMode"), root.at("detectLocal"));
    match mode.optional_text()? {
        None | Some("" | "ClusterCIDR") if cidrs.is_empty() => Ok(LocalDetection::None),
        None | Some("" | "ClusterCIDR") => Ok(LocalDetection::ClusterCidr),
        Some("NodeCIDR") => Ok(LocalDetection::NodeCidr),
        Some("BridgeInterface") => {
            Ok(LocalDetection::BridgeInterface(detail.at("bridgeInterface").text()?.to_owned()))
        }
        Some("InterfaceNamePrefix") => {
            let prefix = detail.at("interfaceNamePrefix").text()?.to_owned();
            Ok(LocalDetection::InterfaceNamePrefix(prefix))
        }
        Some(_) => Err(mode.error("ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix")),
    }
}

/// `None`: the primary addresses, which is what nothing means in mode nftables; elsewhere it means all addresses.
fn node_port_prefixes(
    program: ProxyProgram,
    mode: ProxyMode,
    field: &Field<'_>,
) -> Result<Option<Vec<IpNet>>, FieldError> {
    let expected = "a prefix like 10.1.1.0/24, or \"primary\" alone";
    let items = field.items()?;
    if items.is_empty() {
        let everywhere = program == ProxyProgram::KubeProxy && mode != ProxyMode::Nft;
        let all = EVERYWHERE.map(|net| net.parse().expect("a constant prefix"));
        return Ok(everywhere.then(|| all.to_vec()));
    }
    if let [only] = &items[..]
        && only.optional_text()? == Some("primary")
    {
        return Ok(None);
    }
    let nets = items.iter().map(|item| {
        let net = item.optional_parsed::<IpNet>(expected)?;
        net.map(|net| net.trunc()).ok_or_else(|| item.error(expected))
    });
    nets.collect::<Result<_, _>>().map(Some)
}

fn scheduler(field: &Field<'_>) -> Result<Option<Scheduler>, FieldError> {
    match field.optional_text()? {
        None | Some("") => Ok(None),
        Some(name) => name.parse().map(Some).map_err(|_unknown| {
            field.error("one of random, rr, wrr, lc, wlc, lblc, dh, sh, sed, nq and mh")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn modes_have_names() {
        for mode in ProxyMode::ALL {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert_eq!("nftables".parse(), Ok(ProxyMode::Nft));
        assert!("ebpf".parse::<ProxyMode>().unwrap_err().to_string().contains("there are nft"));
    }

    #[test]
    fn what_is_announced_is_understood() {
        let plain = Proxy::podway(vec![net("10.244.0.0/16"), net("fd00::/48")]);
        let other = Proxy {
            mode: ProxyMode::Ipvs,
            local_detection: LocalDetection::InterfaceNamePrefix("veth".to_owned()),
            masquerade_all: true,
            node_ports: NodePortAddresses {
                within: Some(vec![net("10.1.0.0/16")]),
                localhost: Family::ALL.into(),
            },
            scheduler: Some(Scheduler::WeightedLeastConnection),
            ..plain.clone()
        };
        let bridged = LocalDetection::BridgeInterface("cni0".to_owned());
        let bridged = Proxy { local_detection: bridged, ..plain.clone() };
        let by_node = Proxy { local_detection: LocalDetection::NodeCidr, ..plain.clone() };
        for proxy in [plain, other, bridged, by_node] {
            assert_eq!(Proxy::announced(&proxy.annotation()), Ok(proxy));
        }
    }

    #[test]
    fn an_announcement_that_makes_no_sense_says_where() {
        let rows = [
            ("", "metadata.annotations[podway.io/agent]: expected the settings"),
            ("[]", "as a JSON object"),
            ("{}", "[podway.io/agent].mode: expected nft (or nftables)"),
            (r#"{"mode":"ebpf"}"#, "found \"ebpf\""),
            (r#"{"mode":"nft","clusterCIDR":"10.0.0.0"}"#, ".clusterCIDR: expected prefixes"),
            (r#"{"mode":"nft","clusterCIDR":7}"#, ".clusterCIDR: expected a string, found 7"),
            (
                r#"{"mode":"nft","detectLocalMode":"Guess"}"#,
                ".detectLocalMode: expected ClusterCIDR",
            ),
            (
                r#"{"mode":"nft","detectLocalMode":"BridgeInterface"}"#,
                ".detectLocal.bridgeInterface",
            ),
            (
                r#"{"mode":"nft","nodePortAddresses":["here"]}"#,
                ".nodePortAddresses[0]: expected a prefix",
            ),
            (r#"{"mode":"nft","masqueradeAll":"yes"}"#, ".masqueradeAll: expected true or false"),
            (r#"{"mode":"ipvs","scheduler":"best"}"#, ".scheduler: expected one of"),
        ];
        for (text, expected) in rows {
            let error = Proxy::announced(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn kube_proxys_defaults_depend_on_its_mode() {
        let of = |value: Value| Proxy::kube_proxy(&value).unwrap();
        let plain = of(json!({}));
        assert_eq!(
            (plain.mode, plain.local_detection),
            (ProxyMode::Iptables, LocalDetection::None)
        );
        assert_eq!(plain.node_ports.within, Some(vec![net("0.0.0.0/0"), net("::/0")]));
        assert_eq!(plain.node_ports.localhost, [Family::V4].into());
        assert!(!plain.masquerade_all);
        let nftables = of(json!({
            "mode": "nftables", "clusterCIDR": "10.244.0.0/16", "nodePortAddresses": null,
            "iptables": {"masqueradeAll": false}, "nftables": {"masqueradeAll": true},
        }));
        assert_eq!(nftables.node_ports, NodePortAddresses::default());
        assert_eq!(nftables.local_detection, LocalDetection::ClusterCidr);
        assert!(nftables.masquerade_all);
        let ipvs = of(json!({
            "mode": "ipvs", "nodePortAddresses": ["10.1.1.0/24"], "ipvs": {"scheduler": "wlc"},
            "iptables": {"masqueradeAll": true, "localhostNodePorts": true},
        }));
        assert_eq!(ipvs.scheduler, Some(Scheduler::WeightedLeastConnection));
        assert_eq!(ipvs.node_ports.within, Some(vec![net("10.1.1.0/24")]));
        assert!(ipvs.masquerade_all && ipvs.node_ports.localhost.is_empty());
    }
}
