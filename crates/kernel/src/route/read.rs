//! What is there.

use super::abi::{IFLA_EXT_MASK, IFLA_IFNAME, RTEXT_FILTER_SKIP_STATS};
use super::entry::{
    UnknownDevice, read_address, read_fdb, read_local, read_neighbour, read_routes,
    read_unreachable, write_route_query,
};
use super::link::{FoundLink, RawLink, write_header};
use super::names::Names;
use crate::netlink::{Batch, Message, Socket, flags};
use crate::{Error, Result};
use netstate::{Address, FdbEntry, Local, Neighbour, NetState, Route, Unreachable};
use nix::errno::Errno;
use std::collections::BTreeSet;
use std::net::IpAddr;

const AF_BRIDGE: u8 = 7;
/// How often entries are read anew because they name a device younger than the names.
const ATTEMPTS: usize = 8;

/// All links, by index.
pub fn links(socket: &mut Socket) -> Result<Vec<FoundLink>> {
    let raw = raw_links(socket)?;
    let names = names_of(&raw);
    Ok(raw.into_iter().map(|link| link.resolve(&names)).collect())
}

/// The link of this name.
pub fn link(socket: &mut Socket, name: &str) -> Result<Option<FoundLink>> {
    one_link(socket, 0, Some(name))
}

/// Lets a link that has just come up, because its other end did, pass packets from here on.
///
/// The kernel puts the queue of such a link in place later, on a worker, and until then drops what is sent:
/// a lost ARP request costs a second. Asking for one link makes it do so at once (`linkwatch_sync_dev` in
/// `rtnl_getlink`, Linux 6.8; older kernels stay late).
pub fn settle(socket: &mut Socket, name: &str) -> Result<()> {
    link(socket, name).map(drop)
}

/// The link of this index.
pub fn link_by_index(socket: &mut Socket, index: u32) -> Result<Option<FoundLink>> {
    one_link(socket, index, None)
}

/// All addresses.
pub fn addresses(socket: &mut Socket) -> Result<BTreeSet<Address>> {
    entries(socket, "read addresses", libc::RTM_GETADDR, &[0; 8], |message, names, into| {
        into.extend(read_address(message, names)?);
        Ok(())
    })
}

/// The unicast routes of the main table, a multipath route as one for each hop.
pub fn routes(socket: &mut Socket) -> Result<BTreeSet<Route>> {
    entries(socket, "read routes", libc::RTM_GETROUTE, &[0; 12], read_routes)
}

/// The unreachable destinations of the main table.
pub fn unreachable(socket: &mut Socket) -> Result<BTreeSet<Unreachable>> {
    let operation = "read unreachable routes";
    entries(socket, operation, libc::RTM_GETROUTE, &[0; 12], |message, _names, into| {
        into.extend(read_unreachable(message));
        Ok(())
    })
}

/// The addresses that are local though no interface has them, whoever made them so.
pub fn locals(socket: &mut Socket) -> Result<BTreeSet<Local>> {
    let operation = "read local addresses";
    entries(socket, operation, libc::RTM_GETROUTE, &[0; 12], |message, names, into| {
        into.extend(read_local(message, names)?);
        Ok(())
    })
}

/// Whether packets to this address end on the machine, as its routes are.
pub fn is_local(socket: &mut Socket, address: IpAddr) -> Result<bool> {
    let mut batch = Batch::default();
    write_route_query(&mut batch, address);
    let operation = "ask for the route to";
    let kind = socket.ask(operation, &address.to_string(), &mut batch, |kind, message| {
        *kind = message.split::<12>().map(|(header, _)| header[7]);
        Ok(())
    });
    match kind {
        Ok(kind) => Ok(kind == Some(libc::RTN_LOCAL)),
        // There is no way to it, or one that says so.
        Err(Error::Refused { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The permanent neighbours.
pub fn neighbours(socket: &mut Socket) -> Result<BTreeSet<Neighbour>> {
    entries(socket, "read neighbours", libc::RTM_GETNEIGH, &[0; 12], |message, names, into| {
        into.extend(read_neighbour(message, names)?);
        Ok(())
    })
}

/// The permanent forwarding entries of VXLAN devices.
pub fn fdb(socket: &mut Socket) -> Result<BTreeSet<FdbEntry>> {
    let header = [AF_BRIDGE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    entries(
        socket,
        "read forwarding entries",
        libc::RTM_GETNEIGH,
        &header,
        |message, names, into| {
            into.extend(read_fdb(message, names)?);
            Ok(())
        },
    )
}

/// Links and all that hangs on them; rule sets and sysctls stay empty.
pub fn read(socket: &mut Socket) -> Result<NetState> {
    let links =
        links(socket)?.into_iter().map(|found| (found.link.name.clone(), found.link)).collect();
    Ok(NetState {
        links,
        addresses: addresses(socket)?,
        routes: routes(socket)?,
        unreachable: unreachable(socket)?,
        neighbours: neighbours(socket)?,
        fdb: fdb(socket)?,
        ..NetState::default()
    })
}

pub(super) fn read_names(socket: &mut Socket) -> Result<Names> {
    raw_links(socket).map(|links| names_of(&links))
}

fn names_of(links: &[RawLink]) -> Names {
    let mut names = Names::default();
    links.iter().for_each(|link| names.insert(link.index(), link.name().to_owned()));
    names
}

fn raw_links(socket: &mut Socket) -> Result<Vec<RawLink>> {
    let mut batch = Batch::default();
    batch.request(libc::RTM_GETLINK, flags(libc::NLM_F_DUMP), |body| {
        write_header(body, 0, 0, 0);
        body.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    });
    socket.dump("read links", "", &mut batch, |links: &mut Vec<RawLink>, message| {
        links.extend(RawLink::read(message));
        Ok(())
    })
}

fn one_link(socket: &mut Socket, index: u32, name: Option<&str>) -> Result<Option<FoundLink>> {
    let mut batch = Batch::default();
    batch.request(libc::RTM_GETLINK, 0, |body| {
        write_header(body, index, 0, 0);
        body.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        if let Some(name) = name {
            body.text(IFLA_IFNAME, name);
        }
    });
    let object = name.map_or_else(|| index.to_string(), str::to_owned);
    let raw =
        socket.ask("read link", &object, &mut batch, |link: &mut Option<RawLink>, message| {
            *link = RawLink::read(message);
            Ok(())
        });
    let raw = match raw {
        Ok(raw) => raw,
        Err(error) if error.errno() == Some(Errno::ENODEV) => None,
        Err(error) => return Err(error),
    };
    match raw {
        Some(raw) if raw.refers() => {
            let names = read_names(socket)?;
            Ok(Some(raw.resolve(&names)))
        }
        raw => Ok(raw.map(|raw| raw.resolve(&Names::default()))),
    }
}

fn entries<T: Ord>(
    socket: &mut Socket,
    operation: &'static str,
    kind: u16,
    header: &[u8],
    read: impl Fn(Message<'_>, &Names, &mut Vec<T>) -> Result<(), UnknownDevice>,
) -> Result<BTreeSet<T>> {
    for _attempt in 0..ATTEMPTS {
        let names = read_names(socket)?;
        let mut batch = Batch::default();
        batch.request(kind, flags(libc::NLM_F_DUMP), |body| body.fixed(header));
        let (found, unknown) =
            socket.dump(operation, "", &mut batch, |value: &mut (Vec<T>, bool), message| {
                value.1 |= read(message, &names, &mut value.0).is_err();
                Ok(())
            })?;
        if !unknown {
            return Ok(found.into_iter().collect());
        }
    }
    Err(Error::Unsettled { operation, object: String::new() })
}
