//! The verbs, each in the order that leaves nothing behind when it fails half-way.

use crate::Error;
use crate::config::Config;
use crate::ipam::{Pool, everywhere, host};
use crate::request::Attachment;
use crate::result::{AddResult, Interface, Ip, Route};
use crate::store::{Owner, Store, exhausted};
use crate::wiring::{self, Cable, link_name};
use kernel::namespace::{Kind, Namespace};
use serde_json::Value;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Reserves addresses, lays the cable, tells what it made.
pub(crate) fn add(config: &Config, attachment: &Attachment) -> Result<Value, Error> {
    let netns = attachment.netns()?;
    let pod = namespace(netns)?;
    let owner = Owner {
        container: attachment.container.clone(),
        interface: attachment.interface.clone(),
        netns: Some(netns.to_owned()),
    };
    let addresses = Store::open(&config.data_dir)?.reserve(&config.pools, &owner, is_gone)?;
    let cable = cable(config, attachment, &addresses);
    if let Err(error) = cable.connect(&pod) {
        // The error that matters is the one at hand; garbage is collected later.
        Store::open(&config.data_dir).and_then(|store| store.release(&addresses)).ok();
        return Err(error);
    }
    let own = describe(config, &cable, netns);
    let before = config.previous.clone().unwrap_or_default();
    Ok(before.followed_by(own).write(config.version))
}

/// Takes away what ADD made, as far as it is still there.
pub(crate) fn del(config: &Config, attachment: &Attachment) -> Result<(), Error> {
    let addresses = Store::open(&config.data_dir)?.of(attachment)?;
    // An attachment of which nothing is known has no cable: one of that name is somebody else's.
    if addresses.is_empty() && config.previous.is_none() {
        return Ok(());
    }
    detach(config, &attachment.container, &attachment.interface, &addresses)
}

/// The cable goes first: its address must not be somebody else's while it is there.
fn detach(
    config: &Config,
    container: &str,
    interface: &str,
    addresses: &[IpAddr],
) -> Result<(), Error> {
    wiring::disconnect(&link_name(container, interface))?;
    Store::open(&config.data_dir)?.release(addresses)
}

/// Verifies that what ADD told is still so.
pub(crate) fn check(config: &Config, attachment: &Attachment) -> Result<(), Error> {
    let netns = attachment.netns()?;
    let previous = config.previous.as_ref();
    let previous = previous.ok_or(Error::Config { field: "prevResult", problem: "is missing" })?;
    let addresses: Vec<_> = own_addresses(previous, attachment).collect();
    if addresses.len() != config.pools.len() {
        return Err(Error::Config { field: "prevResult", problem: "lacks an address" });
    }
    let store = Store::open(&config.data_dir)?;
    for address in &addresses {
        let owner = store.owner(*address)?;
        if !owner.is_some_and(|owner| owner.is(attachment)) {
            return Err(Error::NotReserved { address: *address });
        }
    }
    drop(store);
    cable(config, attachment, &addresses).verify(&namespace(netns)?)
}

/// The addresses of the attachment's interface in a result.
fn own_addresses(result: &AddResult, attachment: &Attachment) -> impl Iterator<Item = IpAddr> {
    let own = result.interfaces.iter().position(|interface| {
        interface.name == attachment.interface && !interface.sandbox.is_empty()
    });
    let of_own = move |ip: &&Ip| own.is_some() && ip.interface == own;
    result.ips.iter().filter(of_own).map(|ip| ip.address.addr())
}

/// Whether an ADD would find an address.
pub(crate) fn status(config: &Config) -> Result<(), Error> {
    let ready = || {
        let store = Store::open(&config.data_dir)?;
        let mut taken = store.taken()?;
        for pool in &config.pools {
            if pool.choose(store.last(pool), &taken).is_none() {
                taken = store.collect(is_gone)?;
            }
            pool.choose(store.last(pool), &taken).ok_or_else(|| exhausted(pool, &taken))?;
        }
        Ok(())
    };
    ready().map_err(|error| Error::Unavailable(Box::new(error)))
}

/// Takes away what belongs to attachments that the runtime no longer knows; an error does not keep it from the others.
pub(crate) fn gc(config: &Config) -> Result<(), Error> {
    let valid = config.valid.as_ref();
    let valid =
        valid.ok_or(Error::Config { field: "cni.dev/valid-attachments", problem: "is missing" })?;
    let reservations = Store::open(&config.data_dir)?.reservations()?;
    let mut outcome = Ok(());
    for (address, owner) in reservations {
        let collected = match owner {
            None => Store::open(&config.data_dir)?.release(&[address]),
            Some(owner) if is_valid(valid, &owner) => Ok(()),
            Some(owner) => detach(config, &owner.container, &owner.interface, &[address]),
        };
        outcome = outcome.and(collected);
    }
    outcome
}

fn is_valid(valid: &[(String, String)], owner: &Owner) -> bool {
    valid.iter().any(|(id, name)| *id == owner.container && *name == owner.interface)
}

/// Neither a namespace nor a cable is left of it. Where that cannot be told, it counts as alive.
fn is_gone(owner: &Owner) -> bool {
    let netns_is_gone = owner.netns.as_deref().is_none_or(|path| !is_namespace(path));
    let link = link_name(&owner.container, &owner.interface);
    netns_is_gone && wiring::exists(&link).is_ok_and(|exists| !exists)
}

fn namespace(path: &Path) -> Result<Namespace, Error> {
    let problem = "names no network namespace";
    if !is_namespace(path) {
        return Err(Error::Environment { name: "CNI_NETNS", problem });
    }
    Ok(Namespace::open(Kind::Net, path)?)
}

/// A name whose mount is gone is an ordinary file.
fn is_namespace(path: &Path) -> bool {
    let file_system = |path: &Path| std::fs::metadata(path).map(|file| file.dev()).ok();
    file_system(path)
        .is_some_and(|there| file_system(Path::new("/proc/self/ns/net")) == Some(there))
}

fn cable(config: &Config, attachment: &Attachment, addresses: &[IpAddr]) -> Cable {
    let addresses = addresses.iter().copied().zip(config.pools.iter().copied()).collect();
    let attachment = (attachment.container.as_str(), attachment.interface.as_str());
    Cable::new(attachment, addresses, config.mtu, config.route_protocol)
}

fn describe(config: &Config, cable: &Cable, netns: &Path) -> AddResult {
    let interface = |link: &netstate::Link, sandbox: String| Interface {
        name: link.name.clone(),
        mac: link.mac.map(|mac| mac.to_string()),
        mtu: link.mtu,
        sandbox,
        ..Interface::default()
    };
    let ip = |(address, pool): &(IpAddr, Pool)| Ip {
        address: host(*address),
        gateway: Some(pool.gateway()),
        interface: Some(1),
    };
    let default_route = |(_, pool): &(IpAddr, Pool)| Route {
        gw: Some(pool.gateway()),
        ..Route::to(everywhere(pool.gateway()))
    };
    let sandbox = netns.display().to_string();
    AddResult {
        interfaces: vec![
            interface(&cable.host_end, String::new()),
            interface(&cable.pod_end, sandbox),
        ],
        ips: cable.addresses.iter().map(ip).collect(),
        routes: cable.addresses.iter().map(default_route).collect(),
        dns: config.dns.clone().unwrap_or_default(),
    }
}
