//! The power switch of a node.

use super::underlay::{self, Machine};
use crate::node_init;
use crate::plan::{Plan, PlannedNode};
use crate::{Error, Result, layout};
use kernel::namespace::{Kind, Namespace};
use kernel::process::{Process, Signal};
use kernel::spawn::{Place, spawn};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A node of the lab, its power on or off.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) planned: PlannedNode,
    /// The bridge's end of its wire.
    port: String,
    netns: PathBuf,
    /// Its first process; none: its power is off.
    init: Option<Process>,
}

/// What every node is told.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    pub(super) lab: String,
    /// All pods' addresses; the agent finds it in its environment.
    pub(super) cluster_cidr: String,
    pub(super) agent_arguments: Vec<String>,
}

impl Node {
    pub(super) fn new(index: usize, planned: PlannedNode) -> Node {
        let (port, netns) =
            (underlay::port(index, &planned.name), layout::node_netns(&planned.name));
        Node { planned, port, netns, init: None }
    }

    /// The number of its first process, if its power is on.
    pub(super) fn init(&self) -> Option<u32> {
        self.init.as_ref().map(Process::pid)
    }

    /// Makes its network namespace and plugs it in; nothing runs there yet.
    pub(super) fn plug(&self, plan: &Plan) -> Result<()> {
        let (netns, port, address) = (&*self.netns, &*self.port, self.planned.address);
        let address_v6 = self.planned.v6.as_ref().map(|v6| v6.address);
        underlay::plug(plan, &Machine { netns, port, address, address_v6, forwards: true })
    }

    /// Starts its first process, which starts the rest.
    pub(super) fn switch_on(&mut self, cluster: &Cluster) -> Result<()> {
        let name = &self.planned.name;
        let logs = layout::node_logs(name);
        fs::create_dir_all(&logs).map_err(Error::file("create", &logs))?;
        self.write_agent_arguments(cluster)?;
        let log = logs.join("init.log");
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(Error::file("open", &log))?;
        let errors = output.try_clone().map_err(Error::file("open", &log))?;
        let mut command = Command::new(super::own_program());
        command.arg0("podway").arg(node_init::SUBCOMMAND);
        command.args(["--lab", &cluster.lab, "--node", name]);
        command.env("PODWAY_CLUSTER_CIDR", &cluster.cluster_cidr);
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let place = Place {
            enter: vec![Namespace::open(Kind::Net, &self.netns)?],
            make: vec![Kind::Mount, Kind::Pid, Kind::Uts, Kind::Ipc],
            ..Place::default()
        };
        self.init = Some(spawn(command, place)?);
        Ok(())
    }

    /// Starts its agent anew, with these arguments after those that every node's has.
    pub(super) fn restart_agent(
        &mut self,
        cluster: &Cluster,
        arguments: Vec<String>,
    ) -> Result<()> {
        self.planned.agent_arguments = arguments;
        self.write_agent_arguments(cluster)?;
        match &self.init {
            Some(init) => Ok(init.signal(Signal::SIGHUP)?),
            None => Ok(()),
        }
    }

    /// Where its first process looks for them whenever it starts the agent.
    fn write_agent_arguments(&self, cluster: &Cluster) -> Result<()> {
        let name = &self.planned.name;
        let (root, path) = (layout::node_root(name), layout::agent_arguments(name));
        fs::create_dir_all(&root).map_err(Error::file("create", &root))?;
        let all = cluster.agent_arguments.iter().chain(&self.planned.agent_arguments);
        let list: serde_json::Value = all.map(String::as_str).collect();
        fs::write(&path, list.to_string()).map_err(Error::file("write", &path))
    }

    /// As by a power cut: the wire first, so that nothing it says at its end is heard, then all its processes.
    ///
    /// They are gone when this returns; the network namespaces of its pods are the caller's to unmount.
    pub(super) fn cut_power(&mut self) -> Result<()> {
        underlay::pull(&self.port)?;
        if let Some(init) = self.init.take() {
            init.signal(Signal::SIGKILL)?;
            init.wait(None)?;
        }
        underlay::unplug(&self.netns, &self.port)
    }
}

pub(super) fn all(plan: &Plan) -> Vec<Node> {
    plan.nodes.iter().enumerate().map(|(index, node)| Node::new(index, node.clone())).collect()
}
