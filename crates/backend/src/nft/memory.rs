//! Clients and the endpoints they keep: numbers of Service ports, and what must be forgotten.

use super::layout::{Memory, address_key};
use model::Family;
use netstate::nft::Key;
use program::{Binding, Change, Endpoint, Frontend, Program, ServicePortName, slots};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// A Service port of one protocol: all its front ends share one memory.
type ServicePort = (ServicePortName, model::Protocol);

/// A number for each Service port whose clients keep their endpoints: the same after a restart, but for the few whose
/// hashes are the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    by_port: BTreeMap<ServicePort, (u32, usize)>,
    taken: BTreeSet<u32>,
}

impl Numbers {
    pub(super) fn take(&mut self, frontend: &Frontend, binding: &Binding) {
        let port = service_port(frontend, binding);
        if let Some((_, uses)) = self.by_port.get_mut(&port) {
            *uses += 1;
            return;
        }
        let name = format!("{}/{}", port.0, port.1);
        let [a, b, c, d, ..] = slots::fnv1a(name.bytes()).to_be_bytes();
        let mut number = u32::from_be_bytes([a, b, c, d]);
        while !self.taken.insert(number) {
            number = number.wrapping_add(1);
        }
        self.by_port.insert(port, (number, 1));
    }

    pub(super) fn release(&mut self, frontend: &Frontend, binding: &Binding) {
        let port = service_port(frontend, binding);
        let Some((number, uses)) = self.by_port.get_mut(&port) else { return };
        *uses -= 1;
        if *uses == 0 {
            self.taken.remove(number);
            self.by_port.remove(&port);
        }
    }

    pub(super) fn of(&self, frontend: &Frontend, binding: &Binding) -> Option<u32> {
        self.by_port.get(&service_port(frontend, binding)).map(|(number, _)| *number)
    }
}

fn service_port(frontend: &Frontend, binding: &Binding) -> ServicePort {
    (binding.port.clone(), frontend.protocol)
}

/// Who may be remembered with whom, in each memory of one family.
#[derive(Debug, Default)]
pub(super) struct Members(BTreeSet<(Memory, u32, SocketAddr)>);

impl Members {
    /// All of a program's.
    pub(super) fn of(program: &Program, family: Family, numbers: &Numbers) -> Self {
        let mut members = Members::default();
        let of_family = program.services.iter().filter(|(it, _)| it.scope.family() == family);
        for (frontend, binding) in of_family {
            members.add(frontend, binding, numbers);
        }
        members
    }

    fn add(&mut self, frontend: &Frontend, binding: &Binding, numbers: &Numbers) {
        let Some(number) = numbers.of(frontend, binding).filter(|_| binding.affinity.is_some())
        else {
            return;
        };
        for pool in binding.action.pools() {
            let addresses = pool.endpoints.iter().map(Endpoint::address);
            for address in addresses {
                self.0.insert((Memory::Cluster, number, address));
                if Memory::of(pool) == Memory::Local {
                    self.0.insert((Memory::Local, number, address));
                }
            }
        }
    }

    /// Whether what a memory holds may stay.
    pub(super) fn holds(&self, memory: Memory, family: Family, key: &Key, data: &Key) -> bool {
        let parsed = number(key).zip(endpoint(family, data));
        parsed.is_some_and(|(number, address)| self.0.contains(&(memory, number, address)))
    }
}

/// Whether changes take an endpoint, or all of them, from clients that may be remembered with it.
pub(super) fn take_members(changes: &[Change], family: Family) -> bool {
    changes.iter().any(|change| match change {
        Change::Frontend { frontend, before: Some(before), after } => {
            frontend.scope.family() == family
                && before.affinity.is_some()
                && !after.as_ref().is_some_and(|after| keeps_all(before, after))
        }
        _ => false,
    })
}

fn keeps_all(before: &Binding, after: &Binding) -> bool {
    let members = |binding: &Binding| -> BTreeSet<_> {
        let pools = binding.action.pools();
        let members = pools.flat_map(|pool| {
            pool.endpoints.iter().map(|endpoint| (Memory::of(pool), endpoint.address()))
        });
        members.collect()
    };
    after.affinity.is_some() && members(before).is_subset(&members(after))
}

fn number(key: &Key) -> Option<u32> {
    Some(u32::from_ne_bytes(key.as_bytes().get(..4)?.try_into().ok()?))
}

fn endpoint(family: Family, data: &Key) -> Option<SocketAddr> {
    let width = address_key(family.unspecified()).as_bytes().len();
    let (address, port) = data.as_bytes().split_at_checked(width)?;
    let port = u16::from_be_bytes([*port.first()?, *port.get(1)?]);
    let ip = match family {
        Family::V4 => <[u8; 4]>::try_from(address).ok()?.into(),
        Family::V6 => <[u8; 16]>::try_from(address).ok()?.into(),
    };
    Some(SocketAddr::new(ip, port))
}
