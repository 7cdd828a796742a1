//! Sets of `ip_set` over netlink, as far as it takes to remove those that somebody left.
//!
//! Sources: linux/netfilter/ipset/ip_set.h.

use crate::Result;
use crate::netlink::{Attributes, Batch, Body, Message, Socket, flags};
use std::path::Path;

const SUBSYSTEM: u16 = 6 << 8;
const DESTROY: u16 = SUBSYSTEM | 3;
const LIST: u16 = SUBSYSTEM | 7;
/// The protocol of 2010, which every kernel since speaks.
const PROTOCOL: u8 = 6;
const AF_INET: u8 = 2;
/// Octets of `struct nfgenmsg`.
const GENERIC: usize = 4;

const ATTR_PROTOCOL: u16 = 1;
const ATTR_SETNAME: u16 = 2;
const ATTR_FLAGS: u16 = 6;
const ATTR_DATA: u16 = 7;
const ATTR_ADT: u16 = 8;
/// Of an element.
const ATTR_PORT: u16 = 4;
const FLAG_LIST_SETNAME: u32 = 1 << 1;

/// The names of all sets of the network namespace; none where the kernel's module is not even loaded.
pub fn names(socket: &mut Socket) -> Result<Vec<String>> {
    // Asking would load it.
    if !Path::new("/sys/module/ip_set").exists() {
        return Ok(Vec::new());
    }
    let mut batch = Batch::default();
    batch.request(LIST, flags(libc::NLM_F_DUMP), |body| {
        write_head(body);
        body.be32(ATTR_FLAGS, FLAG_LIST_SETNAME);
    });
    socket.dump("list sets", "", &mut batch, |names: &mut Vec<String>, message| {
        names.extend(read_name(message));
        Ok(())
    })
}

/// The ports of the elements of a set (types `bitmap:port`, `hash:ip,port` and the like).
pub fn ports(socket: &mut Socket, name: &str) -> Result<Vec<u16>> {
    let mut batch = Batch::default();
    batch.request(LIST, flags(libc::NLM_F_DUMP), |body| {
        write_head(body);
        body.text(ATTR_SETNAME, name);
    });
    socket.dump("list set", name, &mut batch, |ports: &mut Vec<u16>, message| {
        ports.extend(read_ports(message));
        Ok(())
    })
}

/// Removes a set, if there is one. One that a rule refers to is refused.
pub fn destroy(socket: &mut Socket, name: &str) -> Result<()> {
    let operation = "destroy set";
    let mut batch = Batch::default();
    batch.request(DESTROY, 0, |body| {
        write_head(body);
        body.text(ATTR_SETNAME, name);
    });
    match socket.execute(operation, &mut batch)?.into_iter().next() {
        None => Ok(()),
        Some(refusal) => Err(refusal.into_error(operation, name.to_owned())),
    }
}

fn write_head(body: &mut Body<'_>) {
    body.fixed(&[AF_INET, 0, 0, 0]);
    body.u8(ATTR_PROTOCOL, PROTOCOL);
}

fn read_name(message: Message<'_>) -> Option<String> {
    let (_, attributes) = message.split::<GENERIC>()?;
    Some(attributes.find(ATTR_SETNAME)?.text()?.to_owned())
}

fn read_ports(message: Message<'_>) -> Vec<u16> {
    let elements = message.split::<GENERIC>().and_then(|(_, attributes)| attributes.find(ATTR_ADT));
    let elements = elements.map_or(Attributes::new(&[]), |elements| elements.nested());
    let data = elements.filter(|element| element.kind == ATTR_DATA);
    data.filter_map(|element| element.nested().find(ATTR_PORT)?.be16()).collect()
}
