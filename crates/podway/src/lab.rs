//! `podway lab`: the verbs of crate `lab`, with words around them.

use crate::{manifests, output};
use clap::{Args, Subcommand, ValueEnum};
use lab::image::{Images, StandIn};
use lab::plan::{Families, Wishes};
use lab::{Manifest, Options, Status, Summary, Target};
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::time::{Duration, Instant};

/// Run a cluster network on this machine, in namespaces
#[derive(Debug, Args)]
pub(crate) struct Lab {
    /// Which lab; several can run side by side
    #[arg(long, global = true, default_value = "default", env = "PODWAY_LAB")]
    name: String,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a lab and wait until its nodes and pods are ready; it stays in the background
    Up(Up),
    /// Show nodes and pods
    Status {
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Print a kubeconfig for kubectl and other clients on this machine
    Kubeconfig,
    /// Run a command in a network namespace of the lab
    Exec {
        /// client, node/NAME, pod/[NAMESPACE/]NAME or underlay
        target: Target,
        /// The command and its arguments, after `--`
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Print the logs of the supervisor, a node or a pod
    Logs {
        /// node/NAME or pod/[NAMESPACE/]NAME; none: the supervisor
        target: Option<Target>,
        /// Go on printing what is added
        #[arg(short, long)]
        follow: bool,
    },
    /// Cut the power of a node
    Kill {
        /// node/NAME
        target: Target,
    },
    /// Switch on a node again
    Start {
        /// node/NAME
        target: Target,
    },
    /// Start the agent of a node anew, with other arguments of its own
    Agent {
        /// node/NAME
        target: Target,
        /// The arguments, after `--`: they come after those of every node, and have the place of the annotation's
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// End the lab and everything in it
    Down,
    /// List the labs that run
    List,
}

#[derive(Debug, Args)]
struct Up {
    /// Manifests: a file, a folder, or - for standard input
    #[arg(short, long = "filename", value_name = "PATH")]
    filenames: Vec<PathBuf>,
    /// How many nodes to make where the manifests hold none
    #[arg(long, default_value_t = 3)]
    nodes: u32,
    /// Addresses of pods; each node gets a part
    #[arg(long, default_value_t = Wishes::default().pod_cidr)]
    pod_cidr: ipnet::Ipv4Net,
    /// Addresses of services
    #[arg(long, default_value_t = Wishes::default().service_cidr)]
    service_cidr: ipnet::Ipv4Net,
    /// Of which families pods and Services are: ipv4, ipv6 or dual [default: dual where a manifest speaks of IPv6]
    #[arg(long)]
    ip_family: Option<Families>,
    /// Address of the client [default: a free one of the nodes' subnet]
    #[arg(long)]
    client_ip: Option<Ipv4Addr>,
    /// One more argument for the agent of every node, as --agent-arg=--proxy-mode=ipvs; may be given several times
    #[arg(long = "agent-arg", value_name = "ARG", allow_hyphen_values = true)]
    agent_arguments: Vec<String>,
    /// A program of this machine that stands for an image, as --image='registry.k8s.io/e2e-test-images/agnhost=./agnhost
    /// pause': containers run it as the image's entry point, with their arguments or else those that stand here.
    /// Without =PROGRAM the built-in server stands for the image. The tag may be left out, and HOST/PATH/* means all
    /// images below; the last that fits counts. May be given several times
    #[arg(long = "image", value_name = "IMAGE[=PROGRAM [ARG…]]")]
    images: Vec<StandIn>,
    /// There are no images but those of --image: others cannot be pulled [default: the built-in server stands for them]
    #[arg(long)]
    only_images: bool,
    /// Directory to keep the cluster's objects in: a lab that is started with it goes on where the last one ended
    /// [default: they are in memory and go with the lab]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Seconds to wait for nodes and pods
    #[arg(long, default_value_t = 60)]
    timeout: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Does what the user asked; the exit code of a command that ran in the lab is passed on.
pub(crate) fn run(lab: Lab) -> anyhow::Result<ExitCode> {
    let name = lab.name;
    match lab.verb {
        Verb::Up(options) => up(name, options),
        Verb::Status { output } => {
            let status = lab::status(&name)?;
            print(|out| match output {
                Output::Text => print_status(out, &status),
                Output::Json => Ok(writeln!(out, "{}", serde_json::to_string_pretty(&status)?)?),
            })
        }
        Verb::Kubeconfig => {
            let (text, _) = lab::kubeconfig(&name)?;
            print(|out| Ok(write!(out, "{text}")?))
        }
        Verb::Exec { target, command } => Ok(code_of(lab::exec(&name, &target, &command)?)),
        Verb::Logs { target, follow } => {
            match lab::logs(&name, target.as_ref(), follow, &mut io::stdout().lock()) {
                Err(lab::Error::Printed(error)) => output::forgive(Err(error))?,
                other => other?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Verb::Kill { target } => power(&name, &target, lab::kill, "is down"),
        Verb::Start { target } => power(&name, &target, lab::start, "starts"),
        Verb::Agent { target, arguments } => {
            crate::agent::check(&arguments)?;
            let agent = |name: &str, node: &str| lab::agent(name, node, arguments);
            power(&name, &target, agent, "has its agent started anew")
        }
        Verb::Down => {
            let words = if lab::down(&name)? { "is gone" } else { "was not running" };
            eprintln!("lab {name} {words}");
            Ok(ExitCode::SUCCESS)
        }
        Verb::List => {
            let names = lab::list()?;
            print(|out| Ok(names.iter().try_for_each(|name| writeln!(out, "{name}"))?))
        }
    }
}

fn up(name: String, options: Up) -> anyhow::Result<ExitCode> {
    let begin = Instant::now();
    let documents = manifests::load(&options.filenames)?;
    let manifest = |document: model::manifest::Document| Manifest {
        source: format!("{}:{}", document.source, document.line()),
        value: document.value,
    };
    let options = Options {
        name,
        manifests: documents.into_iter().map(|(document, _)| manifest(document)).collect(),
        wishes: Wishes {
            nodes: options.nodes,
            pod_cidr: options.pod_cidr,
            service_cidr: options.service_cidr,
            families: options.ip_family,
            agent_arguments: options.agent_arguments,
            client_ip: options.client_ip,
        },
        images: Images { stand_ins: options.images, only: options.only_images },
        patience: Duration::from_secs(options.timeout),
        data: options.data_dir,
    };
    let mut line = Line::default();
    let outcome = lab::up(options, |step| line.say(step));
    line.end();
    let summary = outcome?;
    summary.left_out.iter().for_each(|sentence| eprintln!("{sentence}"));
    eprintln!("{}", in_words(&summary, begin.elapsed()));
    let (_, path) = lab::kubeconfig(&summary.name)?;
    eprintln!("kubectl finds it with: export KUBECONFIG={}", path.display());
    Ok(if summary.missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn in_words(summary: &Summary, took: Duration) -> String {
    let Summary { name, pods, missing, plan, .. } = summary;
    let other = if name == "default" { String::new() } else { format!(" --name {name}") };
    let nodes = plan.nodes.len();
    if missing.is_empty() {
        let took = took.as_secs_f64();
        return format!("lab {name} is up: {nodes} nodes and {pods} pods, ready in {took:.2} s");
    }
    format!(
        "lab {name} is up, but not ready: {}\n`podway lab status{other}` and `podway lab logs{other}` tell more, `podway lab down{other}` ends it",
        missing.join(", ")
    )
}

fn power(
    name: &str,
    target: &Target,
    switch: impl FnOnce(&str, &str) -> lab::Result<()>,
    words: &str,
) -> anyhow::Result<ExitCode> {
    let Target::Node(node) = target else {
        return Err(lab::Error::NotANode { target: target.clone() }.into());
    };
    switch(name, node)?;
    eprintln!("{target} {words}");
    Ok(ExitCode::SUCCESS)
}

fn print_status(out: &mut dyn Write, status: &Status) -> anyhow::Result<()> {
    writeln!(out, "lab {}   API {}   client {}", status.name, status.server, status.client)?;
    let nodes = status.nodes.iter().map(|node| {
        let state = match (node.up, node.ready) {
            (false, _) => "down",
            (true, true) => "ready",
            (true, false) => "not ready",
        };
        [node.name.clone(), state.to_owned(), join(&node.addresses), join(&node.pod_cidrs)]
    });
    table(out, ["NODE", "STATE", "ADDRESS", "PODS"], nodes.collect())?;
    let none = || "-".to_owned();
    let virtual_ips = status.virtual_ips.iter().map(|virtual_ip| {
        let state = if virtual_ip.owner.is_some() { "held" } else { "not held" };
        let owner = virtual_ip.owner.clone().unwrap_or_else(none);
        [virtual_ip.name.clone(), state.to_owned(), virtual_ip.addresses.join(" "), owner]
    });
    table(out, ["VIRTUAL IP", "STATE", "ADDRESS", "NODE"], virtual_ips.collect())?;
    let pods = status.pods.iter().map(|pod| {
        let state =
            if pod.ready { "ready".to_owned() } else { format!("{}, not ready", pod.phase) };
        let address = pod.address.clone().unwrap_or_else(none);
        let node = pod.node.clone().unwrap_or_else(none);
        [format!("{}/{}", pod.namespace, pod.name), state, address, node]
    });
    table(out, ["POD", "STATE", "ADDRESS", "NODE"], pods.collect())
}

fn join(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Columns as wide as their widest entry.
fn table(out: &mut dyn Write, head: [&str; 4], rows: Vec<[String; 4]>) -> anyhow::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3].map(|column| width(column).max(head[column].len()));
    writeln!(out)?;
    for [a, b, c, d] in std::iter::once(head.map(str::to_owned)).chain(rows) {
        let [first, second, third, _] = widths;
        writeln!(out, "{a:first$}   {b:second$}   {c:third$}   {d}")?;
    }
    Ok(())
}

fn print(write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    write(&mut text)?;
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// As a shell reports it: 128 and the number of the signal that ended it.
pub(crate) fn code_of(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Progress on standard error: one line that changes where that is a terminal, else one line each.
#[derive(Default)]
struct Line {
    shown: bool,
}

impl Line {
    fn say(&mut self, step: &str) {
        if io::stderr().is_terminal() {
            eprint!("\r\x1b[K{step} …");
            self.shown = true;
        } else {
            eprintln!("{step}");
        }
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprint!("\r\x1b[K");
        }
    }
}

/// Who a node is; given by the lab's supervisor.
#[derive(Debug, Args)]
pub(crate) struct Node {
    #[arg(long)]
    lab: String,
    #[arg(long)]
    node: String,
}

/// Runs as the first process of a lab.
pub(crate) fn supervise() -> anyhow::Result<ExitCode> {
    lab::supervisor::run()?;
    Ok(ExitCode::SUCCESS)
}

/// Runs as the first process of a node.
pub(crate) fn be_node(node: Node) -> anyhow::Result<ExitCode> {
    let Node { lab, node: name } = node;
    match lab::node_init::run(&lab::node_init::Node { lab, name })? {}
}
