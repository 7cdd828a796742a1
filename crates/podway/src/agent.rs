//! `podway agent`: its options, which are kube-proxy's where kube-proxy has them.

use crate::daemon::{Connection, block_on, told_to_end};
use ::agent::{Care, CniFiles, Conntrack, Options};
use backend::{Mode, userspace};
use clap::{Args, ValueEnum};
use compile::{LocalDetection, Settings};
use ipnet::IpNet;
use model::{Proxy, ProxyProgram, Scheduler};
use program::NodePortAddresses;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Keep this node's pod network and service table as the cluster wants them
/// Of an option that is given several times the last one counts.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct Agent {
    /// Name of the Node object that this machine is
    #[arg(long, env = "PODWAY_NODE", alias = "hostname-override")]
    node: String,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    proxy: Serving,
    #[command(flatten)]
    conntrack: ConntrackOptions,
    /// Where /healthz, /livez and /programmed are answered; "off": nowhere
    #[arg(long, default_value = "0.0.0.0:10256", value_parser = listen)]
    healthz_bind_address: Listen,
    /// Where /metrics is answered; "off": nowhere
    #[arg(long, default_value = "127.0.0.1:10249", value_parser = listen)]
    metrics_bind_address: Listen,
    /// Write 10-podway.conflist into this directory, for the container runtime
    #[arg(long)]
    cni_conf_dir: Option<PathBuf>,
    /// Where the CNI plug-in keeps the addresses it gave out
    #[arg(long, default_value = "/var/lib/cni/podway")]
    cni_data_dir: PathBuf,
}

/// How this cluster's pods are told from others
#[derive(Debug, Args)]
struct Sources {
    /// The addresses of all pods; several prefixes with commas between
    #[arg(
        long,
        env = "PODWAY_CLUSTER_CIDR",
        default_value = "10.244.0.0/16",
        value_delimiter = ','
    )]
    cluster_cidr: Vec<IpNet>,
    /// By what connections of pods are recognised
    #[arg(long, value_enum, default_value_t = DetectLocalMode::ClusterCIDR)]
    detect_local_mode: DetectLocalMode,
    /// The bridge that pods' packets come in through, with --detect-local-mode BridgeInterface
    #[arg(long, required_if_eq("detect_local_mode", "BridgeInterface"), value_parser = interface)]
    pod_bridge_interface: Option<String>,
    /// How the names of pods' interfaces begin, with --detect-local-mode InterfaceNamePrefix
    #[arg(long, required_if_eq("detect_local_mode", "InterfaceNamePrefix"), value_parser = interface)]
    pod_interface_name_prefix: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "verbatim")]
pub(crate) enum DetectLocalMode {
    ClusterCIDR,
    NodeCIDR,
    BridgeInterface,
    InterfaceNamePrefix,
}

/// Whose place is taken
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TakeOver {
    KubeProxy,
}

/// How Services are served
#[derive(Debug, Args)]
struct Serving {
    /// nft, iptables, ipvs or userspace; nft, where this kernel lacks another one
    #[arg(long, default_value_t)]
    proxy_mode: Mode,
    /// Remove what this program left on the node, in any of its modes, once Services are served
    #[arg(long, value_enum)]
    take_over: Option<TakeOver>,
    /// The scheduler of Services that do not name one, in proxy mode ipvs
    #[arg(long, default_value = "rr")]
    ipvs_scheduler: Scheduler,
    /// Connections to cluster IPs get the node's address as source even if they are of pods
    #[arg(long, num_args = 0..=1, default_value_t, default_missing_value = "true", require_equals = true)]
    masquerade_all: bool,
    /// Where node ports answer: prefixes with commas between, or "primary", the node's first address of each family
    #[arg(long, default_value = "primary", value_parser = node_ports)]
    nodeport_addresses: NodePorts,
    /// Node ports answer on 127.0.0.0/8 and ::1 too (sets route_localnet; ::1 gets a local route on each device)
    #[arg(
        long,
        alias = "iptables-localhost-nodeports",
        num_args = 0..=1,
        default_value_t,
        default_missing_value = "true",
        require_equals = true
    )]
    localhost_nodeports: bool,
}

/// The kernel's table of connections
#[derive(Debug, Args)]
struct ConntrackOptions {
    /// How many connections there can be, for each core; 0: as it is
    #[arg(long, default_value_t = 32 << 10)]
    conntrack_max_per_core: u32,
    /// How many at least
    #[arg(long, default_value_t = 128 << 10)]
    conntrack_min: u32,
    /// When an idle TCP connection is forgotten; 0: as it is
    #[arg(long, default_value = "24h", value_parser = duration)]
    conntrack_tcp_timeout_established: Duration,
    /// When one is that only one side has closed; 0: as it is
    #[arg(long, default_value = "1h", value_parser = duration)]
    conntrack_tcp_timeout_close_wait: Duration,
    /// When an unanswered UDP flow is forgotten; 0: as it is
    #[arg(long, default_value = "0s", value_parser = duration)]
    conntrack_udp_timeout: Duration,
    /// When an answered UDP flow is forgotten; 0: as it is
    #[arg(long, default_value = "0s", value_parser = duration)]
    conntrack_udp_timeout_stream: Duration,
    /// Packets outside of the window do not make a connection invalid
    #[arg(long, num_args = 0..=1, default_value_t, default_missing_value = "true", require_equals = true)]
    conntrack_tcp_be_liberal: bool,
    /// How long TCP connections to endpoints that are gone are let be before they are reset; 0: for ever
    #[arg(long, default_value = "5s", value_parser = duration)]
    gone_endpoint_reset: Duration,
    /// Sum up what connections to Services carry, by front end and endpoint (sets nf_conntrack_acct)
    #[arg(long, num_args = 0..=1, default_value_t, default_missing_value = "true", require_equals = true)]
    connection_accounting: bool,
    /// Forget stale SCTP associations, as stale UDP flows always are
    #[arg(long, num_args = 0..=1, default_value_t, default_missing_value = "true", require_equals = true)]
    forget_stale_sctp: bool,
}

/// An address to listen on, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listen(pub(crate) Option<SocketAddr>);

/// `None`: the primary addresses.
#[derive(Debug, Clone)]
pub(crate) struct NodePorts(pub(crate) Option<Vec<IpNet>>);

pub(crate) fn run(agent: Agent) -> anyhow::Result<ExitCode> {
    let connection = agent.connection.clone();
    let options = agent.options();
    block_on(async {
        let client = connection.connect().await?;
        ::agent::run(client, options, told_to_end()?).await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// How the agent of a node serves Services with these arguments, where the kernel has the mode.
pub(crate) fn proxy(
    node: &str,
    arguments: &[String],
    cidrs: &[IpNet],
) -> Result<Proxy, clap::Error> {
    let cidrs = cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut line = vec!["agent", "--node", node];
    // What a lab tells its agents in their environment.
    if !arguments.iter().any(|argument| argument.starts_with("--cluster-cidr")) {
        line.extend(["--cluster-cidr", &cidrs]);
    }
    line.extend(arguments.iter().map(String::as_str));
    Ok(parsed(line)?.options().proxy())
}

/// Whether an agent would take these arguments.
pub(crate) fn check(arguments: &[String]) -> Result<(), clap::Error> {
    let line = ["agent", "--node", "node"].into_iter();
    parsed(line.chain(arguments.iter().map(String::as_str))).map(drop)
}

fn parsed<'a>(line: impl IntoIterator<Item = &'a str>) -> Result<Agent, clap::Error> {
    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        agent: Agent,
    }
    <Line as clap::Parser>::try_parse_from(line.into_iter().map(str::to_owned))
        .map(|line| line.agent)
}

impl Agent {
    fn options(self) -> Options {
        let cni = self.cni_conf_dir.map(|directory| CniFiles {
            conflist: directory.join("10-podway.conflist"),
            data_dir: self.cni_data_dir,
        });
        let (sources, proxy) = (self.sources, self.proxy);
        let settings = Settings {
            local_detection: sources.detection(),
            masquerade_all: proxy.masquerade_all,
            node_ports: NodePortAddresses {
                within: proxy.nodeport_addresses.0,
                localhost: ProxyProgram::Podway.loopback(proxy.localhost_nodeports),
            },
            ..Settings::new(sources.cluster_cidr)
        };
        Options {
            mode: proxy.proxy_mode,
            take_over_kube_proxy: proxy.take_over == Some(TakeOver::KubeProxy),
            services: backend::services::Settings {
                scheduler: Some(proxy.ipvs_scheduler),
                userspace: userspace::Settings {
                    carrier: userspace::Carrier::Process,
                    ..userspace::Settings::default()
                },
            },
            cni,
            conntrack: self.conntrack.parameters(),
            care: self.conntrack.care(),
            connection_accounting: self.conntrack.connection_accounting,
            healthz: self.healthz_bind_address.0,
            metrics: self.metrics_bind_address.0,
            ..Options::new(&self.node, settings)
        }
    }
}

impl Sources {
    fn detection(&self) -> LocalDetection {
        let (bridge, prefix) = (&self.pod_bridge_interface, &self.pod_interface_name_prefix);
        self.detect_local_mode.with(bridge.as_deref(), prefix.as_deref())
    }
}

impl DetectLocalMode {
    /// With the bridge or the prefix of interfaces' names that two of the modes go by.
    pub(crate) fn with(self, bridge: Option<&str>, prefix: Option<&str>) -> LocalDetection {
        let name = |name: Option<&str>| name.unwrap_or_default().to_owned();
        match self {
            DetectLocalMode::ClusterCIDR => LocalDetection::ClusterCidr,
            DetectLocalMode::NodeCIDR => LocalDetection::NodeCidr,
            DetectLocalMode::BridgeInterface => LocalDetection::BridgeInterface(name(bridge)),
            DetectLocalMode::InterfaceNamePrefix => {
                LocalDetection::InterfaceNamePrefix(name(prefix))
            }
        }
    }
}

impl ConntrackOptions {
    fn care(&self) -> Care {
        let grace = self.gone_endpoint_reset;
        let reset_gone_after = (!grace.is_zero()).then_some(grace);
        Care { sctp: self.forget_stale_sctp, reset_gone_after }
    }

    fn parameters(&self) -> Conntrack {
        let unless_zero = |time: Duration| (!time.is_zero()).then_some(time);
        Conntrack {
            max_per_core: self.conntrack_max_per_core,
            min: self.conntrack_min,
            established: unless_zero(self.conntrack_tcp_timeout_established),
            close_wait: unless_zero(self.conntrack_tcp_timeout_close_wait),
            udp: unless_zero(self.conntrack_udp_timeout),
            udp_stream: unless_zero(self.conntrack_udp_timeout_stream),
            be_liberal: self.conntrack_tcp_be_liberal,
        }
    }
}

pub(crate) fn listen(text: &str) -> Result<Listen, String> {
    if text.is_empty() || text == "off" {
        return Ok(Listen(None));
    }
    let address = text.parse().map_err(|_not_an_address: std::net::AddrParseError| {
        "an address with a port like 0.0.0.0:10256 is expected, or off".to_owned()
    })?;
    Ok(Listen(Some(address)))
}

pub(crate) fn node_ports(text: &str) -> Result<NodePorts, String> {
    if text == "primary" {
        return Ok(NodePorts(None));
    }
    let net = |part: &str| {
        let net = part.trim().parse::<IpNet>();
        net.map(|net| net.trunc()).map_err(|_no_prefix| {
            format!("{part:?} is no prefix like 10.1.1.0/24; several have commas between, or it is \"primary\"")
        })
    };
    Ok(NodePorts(Some(text.split(',').map(net).collect::<Result<_, _>>()?)))
}

/// `IFNAMSIZ`, with its final zero.
const LONGEST_NAME: usize = 15;

pub(crate) fn interface(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > LONGEST_NAME || text.contains(['/', ' ']) {
        return Err(format!("an interface's name has 1 to {LONGEST_NAME} octets"));
    }
    Ok(text.to_owned())
}

/// As Go writes durations: `24h0m0s`, `90s`, `1h30m`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time like 24h, 90s or 1h30m");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let time: jiff::SignedDuration = text.parse().map_err(|_error: jiff::Error| wrong())?;
    Duration::try_from(time).map_err(|_negative| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        agent: Agent,
    }

    fn options(arguments: &[&str]) -> Result<Options, String> {
        let line = ["agent", "--node", "n"].iter().chain(arguments);
        let line = Line::try_parse_from(line).map_err(|error| error.to_string())?;
        Ok(line.agent.options())
    }

    #[test]
    fn without_options_it_is_as_kube_proxy() {
        let plain = options(&["--cluster-cidr", "10.244.0.0/16"]).unwrap();
        assert_eq!(plain.settings, Settings::new(vec!["10.244.0.0/16".parse().unwrap()]));
        assert_eq!(plain.conntrack, Conntrack::default());
        assert_eq!(plain.care, Care::default());
        assert_eq!(plain.healthz, Some(([0, 0, 0, 0], 10256).into()));
        assert_eq!(plain.metrics, Some(([127, 0, 0, 1], 10249).into()));
        assert_eq!(plain.mode, Mode::Nft);
    }

    #[test]
    fn kube_proxys_command_line_is_understood() {
        let line = "--hostname-override=m --cluster-cidr=10.1.0.0/16,fd00::/48 --detect-local-mode=InterfaceNamePrefix \
            --pod-interface-name-prefix=veth --masquerade-all=true --nodeport-addresses=10.1.1.0/24,fd01::/64 \
            --iptables-localhost-nodeports=true --proxy-mode=nftables --take-over=kube-proxy --conntrack-max-per-core=0 \
            --conntrack-tcp-timeout-established=12h30m0s --conntrack-tcp-be-liberal --connection-accounting --healthz-bind-address=[::]:1 \
            --metrics-bind-address=off";
        let line: Vec<_> = line.split_whitespace().collect();
        let line = Line::try_parse_from(["agent"].iter().chain(&line)).unwrap();
        let options = line.agent.options();
        assert_eq!(options.node, "m");
        assert!(options.take_over_kube_proxy);
        let settings = &options.settings;
        assert_eq!(settings.cluster_cidrs.len(), 2);
        let by_prefix = LocalDetection::InterfaceNamePrefix("veth".to_owned());
        assert_eq!(settings.local_detection, by_prefix);
        assert!(settings.masquerade_all && !settings.node_ports.localhost.is_empty());
        assert_eq!(settings.node_ports.within.as_ref().map(Vec::len), Some(2));
        assert_eq!(options.conntrack.max_per_core, 0);
        assert_eq!(options.conntrack.established, Some(Duration::from_secs(45_000)));
        assert!(options.conntrack.be_liberal && options.connection_accounting);
        assert_eq!((options.healthz, options.metrics), (Some("[::]:1".parse().unwrap()), None));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let rows = [
            (&["--proxy-mode=ebpf"][..], "there are nft, iptables, ipvs and userspace"),
            (&["--cluster-cidr=10.1.0.0"], "invalid IP address"),
            (&["--detect-local-mode=Guess"], "ClusterCIDR, NodeCIDR"),
            (&["--detect-local-mode=BridgeInterface"], "--pod-bridge-interface"),
            (&["--pod-bridge-interface=a-name-much-too-long"], "1 to 15 octets"),
            (&["--nodeport-addresses=here"], "is no prefix like 10.1.1.0/24"),
            (&["--healthz-bind-address=10256"], "an address with a port"),
            (&["--conntrack-tcp-timeout-established=soon"], "is no time like 24h"),
            (&["--conntrack-min=-1"], "-1 is not in"),
            (&["--ipvs-scheduler=best"], "wlc"),
        ];
        for (arguments, expected) in rows {
            let message = options(arguments).unwrap_err();
            assert!(message.contains(expected), "{arguments:?}: {message}");
        }
    }
}
