//! What the parts of a lab say to each other: JSON, one message a line.

use crate::image::Images;
use crate::plan::Plan;
use crate::{Class, Manifest, Target};
use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

/// To the new supervisor: what to build.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) name: String,
    pub(crate) plan: Plan,
    pub(crate) manifests: Vec<Manifest>,
    pub(crate) images: Images,
    /// The lab's directory outside, which goes with it.
    pub(crate) directory: PathBuf,
    /// Seconds until a cluster that is not ready counts as failed.
    pub(crate) patience: u64,
    /// Where the cluster's objects are kept; none: in memory.
    pub(crate) data: Option<PathBuf>,
    /// They were kept by a lab before, which this one is to go on with.
    pub(crate) resumes: bool,
}

/// From the supervisor while it builds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Progress {
    Step(String),
    Ready(Box<Summary>),
    Failed { class: Class, text: String },
}

/// A lab that is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub name: String,
    /// URL of its API, as seen from inside.
    pub server: String,
    pub plan: Plan,
    pub pods: usize,
    /// Objects that the lab does without, a sentence each.
    pub left_out: Vec<String>,
    /// What did not become ready in time; empty: all is ready.
    pub missing: Vec<String>,
}

/// To a running supervisor, on its control socket.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Status,
    Kubeconfig,
    Locate(Target),
    Kill {
        node: String,
    },
    Start {
        node: String,
    },
    /// With these arguments after those that every node's agent has.
    Agent {
        node: String,
        arguments: Vec<String>,
    },
}

/// Its answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Status(Status),
    /// The text of a kubeconfig for clients outside.
    Kubeconfig(String),
    Place(Place),
    Done,
    NoTarget(Target),
    Down(Target),
    Up(Target),
    Failed(String),
}

/// Where a target is to be found, as processes inside the lab see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// None: the supervisor's own.
    pub(crate) netns: Option<PathBuf>,
    /// The first process of its node, for the node's mounts and processes; none: the supervisor's.
    pub(crate) init: Option<u32>,
    pub(crate) node: Option<String>,
}

/// What a lab is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub name: String,
    pub server: String,
    pub gateway: Ipv4Addr,
    pub client: Ipv4Addr,
    /// The segment that nodes and client share.
    pub underlay: ipnet::Ipv4Net,
    /// All pods' networks, one of each family.
    pub pod_cidrs: Vec<IpNet>,
    pub service_cidrs: Vec<IpNet>,
    pub nodes: Vec<NodeStatus>,
    pub pods: Vec<PodStatus>,
    pub virtual_ips: Vec<VirtualIpStatus>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub name: String,
    /// Its InternalIPs, the one it is known by first.
    pub addresses: Vec<IpAddr>,
    pub pod_cidrs: Vec<IpNet>,
    /// Its power is on.
    pub up: bool,
    /// It says of itself that it is ready.
    pub ready: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodStatus {
    pub namespace: String,
    pub name: String,
    pub node: Option<String>,
    pub address: Option<String>,
    pub phase: String,
    pub ready: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualIpStatus {
    pub name: String,
    pub addresses: Vec<String>,
    /// The node that says it holds the addresses.
    pub owner: Option<String>,
}

pub(crate) fn send(mut to: impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// The next message; none: the other side has gone.
pub(crate) fn receive<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    match from.read_until(b'\n', &mut line)? {
        0 => Ok(None),
        _ => Ok(Some(serde_json::from_slice(&line)?)),
    }
}
