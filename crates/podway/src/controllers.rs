//! `podway controllers`: chosen controllers against a real API, one process of several at a time.

use crate::daemon::{Connection, Probes, block_on, told_to_end};
use ::controllers::{Controller, Election, Settings, run_elected};
use clap::Args;
use ipnet::IpNet;
use std::process::ExitCode;

/// Run controllers in the place of kube-controller-manager's, one process of several at a time
#[derive(Debug, Args)]
pub(crate) struct Controllers {
    #[command(flatten)]
    connection: Connection,
    /// Which, by the names that kube-controller-manager has for them, commas between, or "all";
    /// it must then run without them: --controllers=*,-endpointslice-controller
    #[arg(long, required = true, value_delimiter = ',', value_parser = chosen)]
    controllers: Vec<Chosen>,
    /// The addresses of all pods, one prefix of a family; node-ipam-controller cuts them into subnets
    #[arg(long, default_value = "10.244.0.0/16", value_delimiter = ',')]
    cluster_cidr: Vec<IpNet>,
    /// Prefix length of a node's subnet of IPv4
    #[arg(long, default_value_t = Settings::default().node_mask)]
    node_cidr_mask_size_ipv4: u8,
    /// Prefix length of a node's subnet of IPv6
    #[arg(long, default_value_t = Settings::default().node_mask_v6)]
    node_cidr_mask_size_ipv6: u8,
    /// Namespace of the Lease by which one process is elected
    #[arg(long, default_value = "kube-system")]
    leader_elect_resource_namespace: String,
    /// Who this is in the election: nobody else
    #[arg(long, env = "POD_NAME", default_value_t = host_and_process())]
    identity: String,
    #[command(flatten)]
    probes: Probes,
}

#[derive(Debug, Clone, Copy)]
enum Chosen {
    All,
    One(Controller),
}

fn chosen(text: &str) -> Result<Chosen, String> {
    match text {
        "all" => Ok(Chosen::All),
        name => name.parse().map(Chosen::One).map_err(|_unknown| {
            let names = Controller::ALL.map(Controller::name).join(", ");
            format!("none of {names}, all")
        }),
    }
}

fn host_and_process() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{}", host.trim(), std::process::id())
}

pub(crate) fn run(arguments: Controllers) -> anyhow::Result<ExitCode> {
    let all = arguments.controllers.iter().flat_map(|chosen| match chosen {
        Chosen::All => Controller::ALL.to_vec(),
        Chosen::One(controller) => vec![*controller],
    });
    let settings = Settings {
        controllers: all.collect(),
        cluster_cidrs: arguments.cluster_cidr,
        node_mask: arguments.node_cidr_mask_size_ipv4,
        node_mask_v6: arguments.node_cidr_mask_size_ipv6,
        seed: u64::from(std::process::id()),
        ..Settings::default()
    };
    let namespace = &arguments.leader_elect_resource_namespace;
    let election = Election::new(namespace, "podway-controllers", &arguments.identity);
    block_on(async {
        // One that waits for its turn is as healthy as the one that leads.
        arguments.probes.serve().send_replace(true);
        let client = arguments.connection.connect().await?;
        run_elected(client, settings, election, told_to_end()?).await?;
        Ok(ExitCode::SUCCESS)
    })
}
