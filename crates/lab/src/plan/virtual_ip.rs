//! Virtual IPs: their addresses, and what two of them, or one and a node, cannot both have.

use super::node::Declared;
use super::{PlanError, Problem};
use crate::Manifest;
use model::{Field, FieldError};
use std::net::{IpAddr, Ipv4Addr};

struct VirtualIp<'a> {
    manifest: &'a Manifest,
    addresses: Vec<Ipv4Addr>,
    /// VRRP's name for the election: one segment can hold only one of each.
    router_id: i64,
}

/// All addresses of the manifests' virtual IPs, each in one place only.
pub(super) fn addresses(
    manifests: &[Manifest],
    nodes: &[Declared],
) -> Result<Vec<Ipv4Addr>, PlanError> {
    let mut known: Vec<VirtualIp<'_>> = Vec::new();
    for manifest in manifests.iter().filter(|it| it.is("VirtualIP")) {
        let new = parse(manifest).map_err(|error| manifest.field_error(error))?;
        known.iter().try_for_each(|other| new.beside(other))?;
        nodes.iter().try_for_each(|node| new.beside_node(node))?;
        known.push(new);
    }
    Ok(known.into_iter().flat_map(|it| it.addresses).collect())
}

fn parse(manifest: &Manifest) -> Result<VirtualIp<'_>, FieldError> {
    const USUAL_ROUTER_ID: i64 = 51;
    let spec = Field::root(&manifest.value).at("spec");
    let address = |entry: &Field<'_>| match entry.ip()? {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(_) => Err(entry.error("an IPv4 address, as all of a lab has")),
    };
    let addresses = spec.at("addresses").items()?.iter().map(address).collect::<Result<_, _>>()?;
    let router_id = spec.at("vrrp").at("virtualRouterId").optional_number("a number")?;
    Ok(VirtualIp { manifest, addresses, router_id: router_id.unwrap_or(USUAL_ROUTER_ID) })
}

impl VirtualIp<'_> {
    fn beside(&self, other: &VirtualIp<'_>) -> Result<(), PlanError> {
        let whose = || other.manifest.object();
        if let Some(address) = self.addresses.iter().find(|it| other.addresses.contains(it)) {
            return Err(self.taken("spec.addresses", address, format!("in {}", whose())));
        }
        if self.router_id == other.router_id {
            let whose = format!("that of {}", whose());
            return Err(self.taken("spec.vrrp.virtualRouterId", &self.router_id, whose));
        }
        Ok(())
    }

    fn beside_node(&self, node: &Declared) -> Result<(), PlanError> {
        match self.addresses.iter().find(|it| Some(**it) == node.address) {
            Some(address) => {
                let whose = format!("the InternalIP of node {}", node.name);
                Err(self.taken("spec.addresses", address, whose))
            }
            None => Ok(()),
        }
    }

    fn taken(&self, field: &'static str, value: &dyn ToString, whose: String) -> PlanError {
        PlanError::Conflict {
            source_name: self.manifest.source.clone(),
            object: self.manifest.object(),
            field,
            value: value.to_string(),
            problem: Problem::Taken(whose),
        }
    }
}
