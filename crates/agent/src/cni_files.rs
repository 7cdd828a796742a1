//! What the container runtime reads: the network configuration list.

use model::Family;
use program::PodNetwork;
use serde_json::json;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Where the files go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniFiles {
    /// Usually `/etc/cni/net.d/10-podway.conflist`.
    pub conflist: PathBuf,
    /// Where the plug-in keeps its addresses.
    pub data_dir: PathBuf,
}

impl CniFiles {
    /// Writes the list; a runtime that sees it may start pods. Replaced as a whole, never half written.
    pub fn write(&self, networks: &BTreeMap<Family, PodNetwork>, mtu: u32) -> io::Result<()> {
        let mut subnets = networks.values().map(|network| network.subnet.to_string());
        let Some(first) = networks.values().next() else { return Ok(()) };
        let (subnet, more) = (subnets.next(), subnets.collect::<Vec<_>>());
        let list = json!({
            "cniVersion": "1.1.0",
            "name": "podway",
            "plugins": [{
                "type": "podway",
                "subnet": subnet,
                "subnets": more,
                "gateway": first.gateway.to_string(),
                "mtu": mtu,
                "dataDir": self.data_dir,
                "routeProtocol": 77,
            }],
        });
        let text = format!("{list:#}\n");
        if std::fs::read_to_string(&self.conflist).is_ok_and(|old| old == text) {
            return Ok(());
        }
        let directory = self.conflist.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(directory)?;
        let unfinished = self.conflist.with_extension("unfinished");
        std::fs::write(&unfinished, text)?;
        std::fs::rename(&unfinished, &self.conflist)
    }
}
