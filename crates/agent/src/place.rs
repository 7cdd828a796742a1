//! Where connections are addressed to, as this node sees it. Pure.

use ipnet::IpNet;
use kernel::conntrack::{Connection, Tuple};
use model::{Family, Protocol};
use program::{Change, Frontend, Program, Scope};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// Who the node is and where node ports answer.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// Its Services and pods are not kept up to date.
    node: Program,
    /// All of the node's addresses, where they matter.
    local: BTreeSet<IpAddr>,
}

impl Place {
    /// Takes what it needs of a program, which need not be kept for it.
    pub(crate) fn of(program: &Program) -> Self {
        let node = Program {
            addresses: program.addresses.clone(),
            node_ports: program.node_ports.clone(),
            networks: program.networks.clone(),
            ..Program::default()
        };
        Place { node, local: BTreeSet::new() }
    }

    pub(crate) fn change(&mut self, change: &Change) {
        if let Change::Addresses { after, .. } = change {
            self.node.addresses.clone_from(after);
        }
    }

    /// Whether [`Place::learn`] is needed: where node ports answer by prefixes, all of the node's addresses count.
    pub(crate) fn needs_addresses(&self) -> bool {
        self.node.node_ports.within.is_some()
    }

    /// All of the node's addresses, as the kernel has them.
    pub(crate) fn learn(&mut self, addresses: impl Iterator<Item = IpAddr>) {
        self.local = addresses.collect();
    }

    /// The front end that a connection is addressed to, of those that are known.
    pub(crate) fn frontend(
        &self,
        original: &Tuple,
        is_known: impl Fn(&Frontend) -> bool,
    ) -> Option<Frontend> {
        let port = original.destination_port()?;
        let protocol = protocol(original.protocol)?;
        let known = |scope| Some(Frontend { scope, protocol, port }).filter(&is_known);
        let address = original.destination;
        known(Scope::Address(address)).or_else(|| {
            let answers = self.answers_node_ports(address);
            answers.then(|| known(Scope::NodePort(Family::of(address)))).flatten()
        })
    }

    fn answers_node_ports(&self, address: IpAddr) -> bool {
        let within = |nets: &Vec<IpNet>| nets.iter().any(|net| net.contains(&address));
        let is_within = self.node.node_ports.within.as_ref().is_some_and(within);
        self.node.is_node_port_address(address)
            || (is_within && !address.is_loopback() && self.local.contains(&address))
    }
}

/// Who really answers.
pub(crate) fn reply_source(connection: &Connection) -> Option<SocketAddr> {
    let port = connection.reply.source_port()?;
    Some(SocketAddr::new(connection.reply.source, port))
}

fn protocol(number: u8) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|it| it.number() == number)
}
