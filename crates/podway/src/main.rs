//! Podway: arguments, wiring, printing and exit codes; everything else is in the crates behind it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the binary is what prints")]

mod agent;
mod apiserver;
mod clean;
mod controllers;
mod daemon;
mod explain;
mod get;
mod lab;
mod manifests;
mod node;
mod output;
mod relay;
mod show;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The whole Kubernetes network path in one binary
#[derive(Debug, Parser)]
#[command(name = "podway", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Lab(lab::Lab),
    Explain(explain::Explain),
    Show(show::Show),
    Clean(clean::Clean),
    Agent(Box<agent::Agent>),
    Edge(daemon::Edge),
    #[command(name = backend::userspace::SUBCOMMAND)]
    Relay(relay::Relay),
    Controllers(controllers::Controllers),
    Apiserver(apiserver::Apiserver),
    Get(get::Get),
    #[command(hide = true, name = ::lab::supervisor::SUBCOMMAND)]
    LabSupervisor,
    #[command(hide = true, name = ::lab::node_init::SUBCOMMAND)]
    LabNode(lab::Node),
    #[command(hide = true)]
    Kubelet(node::Kubelet),
    #[command(hide = true, name = ::lab::kubelet::ECHO)]
    LabEcho(node::Echo),
    #[command(hide = true, name = ::lab::console::SUBCOMMAND)]
    LabConsole(node::Console),
}

fn main() -> ExitCode {
    let outcome = if node::is_plug_in() { node::plug_in() } else { run(Arguments::parse()) };
    outcome.unwrap_or_else(|error| {
        match error.downcast_ref::<clap::Error>() {
            // Its causes are part of its text.
            Some(usage) => eprint!("{usage}"),
            None => eprintln!("podway: {error:#}"),
        }
        ExitCode::from(exit_code(&error))
    })
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    start_log();
    match arguments.command {
        Command::Lab(lab) => lab::run(lab),
        Command::Explain(question) => explain::run(&question),
        Command::Show(show) => show::run(show),
        Command::Clean(clean) => clean::run(&clean),
        Command::Agent(agent) => agent::run(*agent),
        Command::Edge(edge) => daemon::edge(edge),
        Command::Relay(relay) => relay::run(&relay),
        Command::Controllers(controllers) => controllers::run(controllers),
        Command::Apiserver(apiserver) => apiserver::run(&apiserver),
        Command::Get(get) => get::run(&get),
        Command::LabSupervisor => lab::supervise(),
        Command::LabNode(node) => lab::be_node(node),
        Command::Kubelet(kubelet) => node::kubelet(kubelet),
        Command::LabEcho(ports) => node::echo(ports),
        Command::LabConsole(console) => Ok(node::console(&console)),
    }
}

/// Talk goes to standard error, as much of it as `RUST_LOG` says.
fn start_log() {
    use std::io::IsTerminal;
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_unset| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.with_ansi(std::io::stderr().is_terminal()).init();
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<manifests::Faults>() || error.is::<clap::Error>() || explain::is_usage(error) {
        return 2;
    }
    if let Some(error) = error.downcast_ref::<::apiserver::DiskError>() {
        return apiserver::exit_code(error);
    }
    error.downcast_ref::<::lab::Error>().map_or(1, ::lab::Error::exit_code)
}
