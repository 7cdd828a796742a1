//! `podway explain`: where the objects come from, the question, the answer in the form asked for.

mod kube_proxy;
mod probe;
mod source;

use crate::agent::{DetectLocalMode, NodePorts, interface, node_ports};
use crate::output;
use ::explain::render::{Style, json, svg, tree};
use ::explain::{Environment, Explanation, ProxyWishes, Question, QuestionError, Verdict, verify};
use clap::{Args, ValueEnum};
use ipnet::{IpNet, Ipv4Net};
use lab::plan::Wishes;
use model::{Protocol, ProxyMode};
use std::io::{self, IsTerminal};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;

/// Explain the way of a connection, there and back
///
/// Exit code 0: delivered; 1: refused or dropped; 2: the question makes no sense; 3: with --verify, the kernel
/// does something else; 4: unknown.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// client, node/NAME, pod/[NAMESPACE/]NAME or an IP address
    #[arg(long, value_name = "WHO")]
    from: String,
    /// IP:PORT, svc/[NAMESPACE/]NAME:PORT, pod/[NAMESPACE/]NAME:PORT or node/NAME:PORT
    #[arg(long, value_name = "WHAT")]
    to: String,
    #[arg(long, value_enum, default_value = "tcp", ignore_case = true)]
    protocol: ProtocolName,
    #[arg(short, long, value_enum, default_value = "tree")]
    output: Output,
    /// Send a real connection in the lab and compare it with the explanation
    #[arg(long, conflicts_with_all = ["filenames", "server", "kubeconfig"])]
    verify: bool,
    /// Which lab; several can run side by side
    #[arg(long, default_value = "default", env = "PODWAY_LAB")]
    name: String,
    /// Manifests instead of a lab: a file, a folder, or - for standard input
    #[arg(short, long = "filename", value_name = "PATH", conflicts_with_all = ["server", "kubeconfig"])]
    filenames: Vec<PathBuf>,
    /// A cluster instead of a lab: URL of its API server
    #[arg(long)]
    server: Option<String>,
    /// A cluster instead of a lab: path of a kubeconfig file
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Of manifests without Node objects: how many nodes
    #[arg(long, default_value_t = Wishes::default().nodes)]
    nodes: u32,
    /// Of manifests and clusters: addresses of pods [default: as service proxies are told, else 10.244.0.0/16]
    #[arg(long)]
    pod_cidr: Option<Ipv4Net>,
    /// Of manifests and clusters: addresses of Services
    #[arg(long, default_value_t = Wishes::default().service_cidr)]
    service_cidr: Ipv4Net,
    /// Of manifests and clusters: the host that `client` stands for
    #[arg(long)]
    client_ip: Option<Ipv4Addr>,
    #[command(flatten)]
    proxy: Proxy,
}

/// How nodes serve Services, where it is to be otherwise than they say
#[derive(Debug, Args)]
#[command(next_help_heading = "What if all nodes served Services with these settings")]
struct Proxy {
    /// nft, iptables, ipvs or userspace
    #[arg(long, conflicts_with = "verify")]
    proxy_mode: Option<ProxyMode>,
    /// Where node ports answer: prefixes with commas between, or "primary"
    #[arg(long, conflicts_with = "verify", value_parser = node_ports)]
    nodeport_addresses: Option<NodePorts>,
    /// Node ports answer on loopback addresses too
    #[arg(long, conflicts_with = "verify", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    localhost_nodeports: Option<bool>,
    /// By what connections of pods are recognised
    #[arg(long, value_enum, conflicts_with = "verify")]
    detect_local_mode: Option<DetectLocalMode>,
    /// With --detect-local-mode BridgeInterface
    #[arg(long, required_if_eq("detect_local_mode", "BridgeInterface"), value_parser = interface)]
    pod_bridge_interface: Option<String>,
    /// With --detect-local-mode InterfaceNamePrefix
    #[arg(long, required_if_eq("detect_local_mode", "InterfaceNamePrefix"), value_parser = interface)]
    pod_interface_name_prefix: Option<String>,
    /// Connections to cluster IPs get the node's address as source
    #[arg(long, conflicts_with = "verify", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    masquerade_all: Option<bool>,
}

impl Explain {
    fn wishes(&self) -> ProxyWishes {
        let proxy = &self.proxy;
        let (bridge, prefix) = (&proxy.pod_bridge_interface, &proxy.pod_interface_name_prefix);
        let detection = |mode: DetectLocalMode| mode.with(bridge.as_deref(), prefix.as_deref());
        ProxyWishes {
            mode: proxy.proxy_mode,
            cluster_cidrs: self.pod_cidr.map(|cidr| vec![IpNet::V4(cidr)]),
            local_detection: proxy.detect_local_mode.map(detection),
            masquerade_all: proxy.masquerade_all,
            node_ports: proxy.nodeport_addresses.clone().map(|NodePorts(within)| within),
            localhost: proxy.localhost_nodeports,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Tree,
    Json,
    Svg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProtocolName {
    Tcp,
    Udp,
    Sctp,
}

impl From<ProtocolName> for Protocol {
    fn from(name: ProtocolName) -> Protocol {
        match name {
            ProtocolName::Tcp => Protocol::Tcp,
            ProtocolName::Udp => Protocol::Udp,
            ProtocolName::Sctp => Protocol::Sctp,
        }
    }
}

/// The question is fine, but not here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Misuse {
    #[error(
        "--verify: {host} is not in the lab or has no power, so nothing can be sent from there"
    )]
    NoSuchPlace { host: String },
    #[error("Node {node}: what its annotation says for its agent: {error}")]
    AgentArguments { node: String, error: clap::Error },
    #[error("--verify: SCTP cannot be sent from here; ask for TCP or UDP")]
    Sctp,
}

/// A question that is a matter of usage: exit code 2.
pub(crate) fn is_usage(error: &anyhow::Error) -> bool {
    error.is::<QuestionError>() || error.is::<Misuse>() || error.is::<kube_proxy::Error>()
}

pub(crate) fn run(arguments: &Explain) -> anyhow::Result<ExitCode> {
    let elsewhere = arguments.server.is_some() || arguments.kubeconfig.is_some();
    let in_lab = !elsewhere && arguments.filenames.is_empty();
    if in_lab && !lab::is_inside(&arguments.name) {
        // The lab's API and its kernels can be seen from inside only.
        return Ok(crate::lab::code_of(lab::reenter(&arguments.name)?));
    }
    let mut scene = if in_lab {
        source::lab(&arguments.name)?
    } else if elsewhere {
        source::cluster(arguments)?
    } else {
        source::manifests(arguments)?
    };
    scene.settings.wishes = arguments.wishes();
    let question = Question {
        from: arguments.from.clone(),
        to: arguments.to.clone(),
        protocol: arguments.protocol.into(),
    };
    let mut explanation = ::explain::explain(&scene.world, &scene.settings, &question)?;
    if arguments.verify {
        let observation = probe::observe(&scene.world, &explanation)?;
        let compared = verify::compare(&explanation, &observation);
        explanation = match &compared.verified {
            // The objects may have changed, or caught up with the kernels, meanwhile.
            Some(agreement) if !agreement.agrees() => {
                let now = source::lab(&arguments.name)?;
                let now = ::explain::explain(&now.world, &now.settings, &question)?;
                verify::compare(&now, &observation)
            }
            _ => compared,
        };
    }
    explanation.findings.extend(scene.findings);
    print(&explanation, arguments.output)?;
    Ok(ExitCode::from(exit_code(&explanation)))
}

fn print(explanation: &Explanation, output: Output) -> anyhow::Result<()> {
    let text = match output {
        Output::Tree => tree(explanation, style()),
        Output::Json => json(explanation) + "\n",
        Output::Svg => svg(explanation),
    };
    output::print(text.as_bytes())
}

fn style() -> Style {
    let width = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour = io::stdout().is_terminal() && !plain;
    Style { width: width.unwrap_or(Style::default().width), colour }
}

fn exit_code(explanation: &Explanation) -> u8 {
    if explanation.verified.as_ref().is_some_and(|agreement| !agreement.agrees()) {
        return 3;
    }
    match explanation.verdict() {
        Verdict::Delivered => 0,
        Verdict::Refused | Verdict::Dropped => 1,
        Verdict::Unknown => 4,
    }
}

/// A world with what is around it.
struct Scene {
    world: model::World,
    settings: ::explain::Settings,
    /// On what the answer rests.
    findings: Vec<::explain::Finding>,
}

impl Scene {
    fn new(world: model::World, environment: Environment) -> Self {
        let settings = ::explain::Settings::of(&world, environment);
        Scene { world, settings, findings: Vec::new() }
    }
}
