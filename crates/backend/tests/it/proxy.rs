//! Whichever back end serves the testbed's Services.

use crate::space::ip;
use backend::iptables::{self, Variant};
use backend::{ipvs, nft, userspace};
use program::{Change, Program};
use std::net::IpAddr;
use std::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Nft,
    Iptables(Variant),
    Ipvs,
    Userspace,
}

pub(crate) enum Proxy {
    Nft(Box<nft::Backend>),
    Iptables(iptables::Backend),
    Ipvs(Box<ipvs::Backend>),
    Userspace(Box<userspace::Backend>),
}

impl Proxy {
    pub(crate) fn open(kind: Kind) -> Self {
        match kind {
            Kind::Nft => Proxy::Nft(Box::new(nft::Backend::open().unwrap())),
            Kind::Iptables(variant) => Proxy::Iptables(iptables::Backend::of(variant)),
            Kind::Ipvs => {
                let settings = ipvs::Settings::default();
                Proxy::Ipvs(Box::new(ipvs::Backend::open(settings).unwrap()))
            }
            Kind::Userspace => {
                let settings = userspace::Settings::default();
                Proxy::Userspace(Box::new(userspace::Backend::open(settings).unwrap()))
            }
        }
    }

    pub(crate) fn ipvs(&mut self) -> &mut ipvs::Backend {
        match self {
            Proxy::Ipvs(services) => services,
            Proxy::Nft(_) | Proxy::Iptables(_) | Proxy::Userspace(_) => {
                panic!("the testbed is not served by ipvs")
            }
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Proxy::Nft(_) => Kind::Nft,
            Proxy::Iptables(rules) => Kind::Iptables(rules.variant()),
            Proxy::Ipvs(_) => Kind::Ipvs,
            Proxy::Userspace(_) => Kind::Userspace,
        }
    }

    /// Whether the node got this address for the sake of Services.
    pub(crate) fn owns(&self, address: IpAddr) -> bool {
        match self {
            Proxy::Nft(_) | Proxy::Iptables(_) | Proxy::Userspace(_) => false,
            Proxy::Ipvs(services) => services.owned().contains(&address),
        }
    }

    /// As an agent does that starts; false where there was nothing to do.
    pub(crate) fn reconcile(&mut self, program: &Program) -> bool {
        match self {
            Proxy::Nft(rules) => rules.reconcile(program).unwrap() != nft::Applied::default(),
            Proxy::Iptables(rules) => {
                rules.reconcile(program).unwrap() != iptables::Applied::default()
            }
            Proxy::Ipvs(services) => {
                services.reconcile(program, Instant::now()).unwrap() != ipvs::Applied::default()
            }
            Proxy::Userspace(relays) => serve_all(relays, program),
        }
    }

    pub(crate) fn change(&mut self, program: &Program, changes: &[Change]) {
        match self {
            Proxy::Nft(rules) => {
                rules.change(program, changes).unwrap();
            }
            Proxy::Iptables(rules) => {
                rules.change(program, changes).unwrap();
            }
            Proxy::Ipvs(services) => {
                services.change(program, changes, Instant::now()).unwrap();
            }
            Proxy::Userspace(relays) => {
                relays.change(program, changes).unwrap();
            }
        }
    }
}

/// All is served but SCTP, which the development kernel has not. False: there was nothing to do.
fn serve_all(relays: &mut userspace::Backend, program: &Program) -> bool {
    let applied = relays.reconcile(program).unwrap();
    let unserved = relays.unserved();
    // Nor has the node the IPv6 address that a tunnel would have.
    let known = |it: &userspace::Unserved| {
        it.obstacle == userspace::Obstacle::NoSctp || it.example.address.ip() == ip("fd00:244:1::")
    };
    assert!(unserved.iter().all(known), "{unserved:?}");
    applied != userspace::Applied::default()
}
