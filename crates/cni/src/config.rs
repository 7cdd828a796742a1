//! The network configuration, as it comes on standard input.

use crate::Error;
use crate::ipam::Pool;
use crate::result::{AddResult, Dns, Version};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;
use std::net::IpAddr;
use std::path::PathBuf;

/// The smallest MTU IPv4 allows (RFC 791) and the largest a veth device takes.
const MTU: std::ops::RangeInclusive<u32> = 68..=65_535;
const DEFAULT_MTU: u32 = 1450;

/// A configuration that can be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub version: Version,
    /// Name of the network.
    pub name: String,
    /// Where addresses come from, one pool for each address a container gets.
    pub pools: Vec<Pool>,
    /// Octets.
    pub mtu: u32,
    /// Where reservations are kept, one file for each address.
    pub data_dir: PathBuf,
    /// `rtm_protocol` of the route to the container.
    pub route_protocol: u8,
    /// Handed on to the runtime.
    pub dns: Option<Dns>,
    /// What the plug-ins before this one in the list made.
    pub previous: Option<AddResult>,
    /// GC only: attachments that the runtime still knows, as container id and interface.
    pub valid: Option<Vec<(String, String)>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    cni_version: Option<String>,
    name: Option<String>,
    subnet: Option<IpNet>,
    #[serde(default)]
    subnets: Vec<IpNet>,
    gateway: Option<IpAddr>,
    mtu: Option<u32>,
    data_dir: Option<PathBuf>,
    route_protocol: Option<u8>,
    dns: Option<Dns>,
    prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid: Option<Vec<RawAttachment>>,
}

#[derive(Deserialize)]
struct RawAttachment {
    #[serde(rename = "containerID")]
    container: String,
    ifname: String,
}

impl Config {
    pub fn parse(bytes: &[u8]) -> Result<Config, Error> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(Error::Decode)?;
        let version = match raw.cni_version {
            None => Version::V0_3_0,
            Some(asked) => Version::parse(&asked).ok_or(Error::Version { asked })?,
        };
        let name = raw.name.filter(|name| !name.is_empty()).ok_or(missing("name"))?;
        let subnets = raw.subnet.into_iter().chain(raw.subnets);
        let pools: Vec<_> =
            subnets.map(|subnet| pool(subnet, raw.gateway)).collect::<Result<_, _>>()?;
        if pools.is_empty() {
            return Err(missing("subnet"));
        }
        let mtu = raw.mtu.unwrap_or(DEFAULT_MTU);
        if !MTU.contains(&mtu) {
            return Err(Error::Config { field: "mtu", problem: "is not from 68 to 65535" });
        }
        let previous = raw.prev_result.filter(|result| !result.is_null());
        let known = |valid: Vec<RawAttachment>| {
            valid.into_iter().map(|it| (it.container, it.ifname)).collect()
        };
        Ok(Config {
            version,
            pools,
            mtu,
            data_dir: raw.data_dir.unwrap_or_else(|| PathBuf::from("/run/podway/ipam").join(&name)),
            route_protocol: raw.route_protocol.unwrap_or(netstate::Route::PODWAY),
            dns: raw.dns,
            previous: previous.map(serde_json::from_value).transpose().map_err(Error::Decode)?,
            valid: raw.valid.map(known),
            name,
        })
    }
}

fn missing(field: &'static str) -> Error {
    Error::Config { field, problem: "is missing" }
}

/// The given gateway counts for the subnet it lies in; else it is the subnet's first host.
fn pool(subnet: IpNet, gateway: Option<IpAddr>) -> Result<Pool, Error> {
    let gateway = gateway.filter(|gateway| subnet.contains(gateway));
    Pool::new(subnet, gateway)
        .ok_or(Error::Config { field: "subnet", problem: "has no room for a gateway and a pod" })
}
