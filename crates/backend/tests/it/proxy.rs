//! Whichever back end serves the testbed's Services.

use backend::{ipvs, nft};
use program::{Change, Program};
use std::net::IpAddr;
use std::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Nft,
    Ipvs,
}

pub(crate) enum Proxy {
    Nft(Box<nft::Backend>),
    Ipvs(Box<ipvs::Backend>),
}

impl Proxy {
    pub(crate) fn open(kind: Kind) -> Self {
        match kind {
            Kind::Nft => Proxy::Nft(Box::new(nft::Backend::open().unwrap())),
            Kind::Ipvs => {
                let settings = ipvs::Settings::default();
                Proxy::Ipvs(Box::new(ipvs::Backend::open(settings).unwrap()))
            }
        }
    }

    pub(crate) fn ipvs(&mut self) -> &mut ipvs::Backend {
        match self {
            Proxy::Ipvs(services) => services,
            Proxy::Nft(_) => panic!("the testbed is served by nft"),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Proxy::Nft(_) => Kind::Nft,
            Proxy::Ipvs(_) => Kind::Ipvs,
        }
    }

    /// Whether the node got this address for the sake of Services.
    pub(crate) fn owns(&self, address: IpAddr) -> bool {
        match self {
            Proxy::Nft(_) => false,
            Proxy::Ipvs(services) => services.owned().contains(&address),
        }
    }

    /// As an agent does that starts; false where there was nothing to do.
    pub(crate) fn reconcile(&mut self, program: &Program) -> bool {
        match self {
            Proxy::Nft(rules) => rules.reconcile(program).unwrap() != nft::Applied::default(),
            Proxy::Ipvs(services) => {
                services.reconcile(program, Instant::now()).unwrap() != ipvs::Applied::default()
            }
        }
    }

    pub(crate) fn change(&mut self, program: &Program, changes: &[Change]) {
        match self {
            Proxy::Nft(rules) => {
                rules.change(program, changes).unwrap();
            }
            Proxy::Ipvs(services) => {
                services.change(program, changes, Instant::now()).unwrap();
            }
        }
    }
}
