//! Whichever back end serves the testbed's Services.

use backend::iptables::{self, Variant};
use backend::{ipvs, nft, userspace};
use program::{Change, Program};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

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
    Userspace(Box<Relays>),
}

/// The back end that needs no rules, and the threads that it lives on.
pub(crate) struct Relays {
    backend: userspace::Backend,
    _threads: Runtime,
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
            Kind::Userspace => Proxy::Userspace(Box::new(Relays::start())),
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
            Proxy::Userspace(relays) => relays.reconcile(program),
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
                relays.backend.change(program, changes).unwrap();
                relays.settle();
            }
        }
    }
}

impl Relays {
    fn start() -> Self {
        // Threads are born into the namespace of the calling one.
        let threads = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let threads = threads.unwrap();
        let backend = userspace::Backend::open(threads.handle().clone()).unwrap();
        Relays { backend, _threads: threads }
    }

    fn settle(&self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.backend.is_settled() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert!(self.backend.is_settled());
    }

    /// All is served but SCTP, which the development kernel has not.
    fn reconcile(&mut self, program: &Program) -> bool {
        let applied = self.backend.reconcile(program).unwrap();
        self.settle();
        let unserved = self.backend.unserved();
        let known = |it: &userspace::Unserved| it.obstacle == userspace::Obstacle::NoSctp;
        assert!(unserved.iter().all(known), "{unserved:?}");
        applied != userspace::Applied::default()
    }
}
