//! From the table that is there to the one that is wanted, without cutting connections. Pure.

use super::lower::{Wanted, has_connections};
use netstate::ipvs::{Change, RealServer, Scheduler, Table, VirtualAddress, changes};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a real server that gets nothing new may keep its connections.
pub(super) const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Real servers of weight 0 that go when their connections have gone, with the time when they go anyway.
pub(super) type Draining = BTreeMap<(VirtualAddress, SocketAddr), Instant>;

/// The steps from `observed` to `wanted` for these virtual servers.
///
/// A real server that is not wanted and still exists gets weight 0 and is noted in `draining`.
pub(super) fn settle(
    observed: &Table,
    wanted: &BTreeMap<VirtualAddress, Wanted>,
    which: &BTreeSet<VirtualAddress>,
    draining: &mut Draining,
    now: Instant,
) -> Vec<Change> {
    let before = Table {
        virtual_servers: which
            .iter()
            .filter_map(|at| Some((*at, observed.virtual_servers.get(at)?.clone())))
            .collect(),
    };
    let after = Table {
        virtual_servers: which
            .iter()
            .filter_map(|at| Some((*at, wanted.get(at)?.server.clone())))
            .collect(),
    };
    let steps = changes(&before, &after);
    steps.into_iter().filter_map(|step| eased(step, &before, wanted, draining, now)).collect()
}

/// The step as it is to be made; `None` where it is made already.
fn eased(
    step: Change,
    observed: &Table,
    wanted: &BTreeMap<VirtualAddress, Wanted>,
    draining: &mut Draining,
    now: Instant,
) -> Option<Change> {
    match &step {
        Change::SetVirtual { .. } => {}
        Change::DeleteVirtual { virtual_address } => {
            draining.retain(|(of, _), _| of != virtual_address);
        }
        Change::SetReal { virtual_address, address, .. } => {
            draining.remove(&(*virtual_address, *address));
        }
        Change::DeleteReal { virtual_address, address } => {
            let key = (*virtual_address, *address);
            if !is_drained_slowly(virtual_address, address, wanted) {
                draining.remove(&key);
                return Some(step);
            }
            draining.entry(key).or_insert(now + PATIENCE);
            let server = observed.virtual_servers.get(virtual_address)?;
            let real = server.real_servers.get(address)?;
            return (real.weight > 0).then_some(Change::SetReal {
                virtual_address: *virtual_address,
                address: *address,
                server: RealServer { weight: 0, ..*real },
            });
        }
    }
    Some(step)
}

/// Only where connections have an end, where there is somebody to end them, and where weight 0 does not make a hole:
/// `dh` goes on sending those that hash there.
fn is_drained_slowly(
    virtual_address: &VirtualAddress,
    real: &SocketAddr,
    wanted: &BTreeMap<VirtualAddress, Wanted>,
) -> bool {
    let Some(wanted) = wanted.get(virtual_address) else { return false };
    has_connections(virtual_address)
        && wanted.server.settings.scheduler != Scheduler::DestinationHash
        && wanted.standing.iter().any(|standing| standing.address() == *real)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netstate::ipvs::dump::parse;
    use program::Standing;

    fn table(text: &str) -> Table {
        let import = parse(text);
        assert_eq!(import.unknown, []);
        import.table
    }

    fn wanted(text: &str, standing: &[&str]) -> BTreeMap<VirtualAddress, Wanted> {
        let standing = standing
            .iter()
            .map(|address| address.parse::<SocketAddr>().unwrap())
            .map(|at| Standing { ip: at.ip(), port: at.port(), serving: true });
        let standing: std::sync::Arc<[_]> = standing.collect();
        let servers = table(text).virtual_servers.into_iter();
        servers.map(|(at, server)| (at, Wanted { server, standing: standing.clone() })).collect()
    }

    /// Where an endpoint `10.1.1.2` leaves: what becomes of the table, and who is drained.
    fn check(before: &str, after: &str, standing: &[&str], becomes: &str, drained: usize) {
        let (mut then, wanted) = (table(before), wanted(after, standing));
        let which = then.virtual_servers.keys().chain(wanted.keys()).copied().collect();
        let mut draining = Draining::new();
        for round in 0..2 {
            let steps = settle(&then, &wanted, &which, &mut draining, Instant::now());
            assert!(round == 0 || steps.is_empty(), "{steps:?}");
            steps.iter().for_each(|step| then.apply(step));
            assert_eq!(then, table(becomes), "{before}");
            assert_eq!(draining.len(), drained, "{before}");
        }
    }

    #[test]
    fn a_real_server_that_leaves_is_drained_where_that_helps() {
        let of = |option: &str, scheduler: &str, weights: [Option<u32>; 2]| {
            let mut text = format!("-A {option} 10.0.0.1:80 -s {scheduler}\n");
            for (host, weight) in (1..).zip(weights) {
                if let Some(weight) = weight {
                    text +=
                        &format!("-a {option} 10.0.0.1:80 -r 10.1.1.{host}:80 -m -w {weight}\n");
                }
            }
            text
        };
        let (both, one) = ([Some(1), Some(1)], [Some(1), None]);
        let quiet = [Some(1), Some(0)];
        let stands = ["10.1.1.1:80", "10.1.1.2:80"];
        for (option, scheduler, standing, then, drained) in [
            ("-t", "rr", &stands[..], quiet, 1),
            ("-t", "rr", &stands[..1], one, 0),
            ("-t", "dh", &stands[..], one, 0),
            ("-u", "rr", &stands[..], one, 0),
            ("--sctp-service", "rr", &stands[..], one, 0),
        ] {
            let text = |weights| of(option, scheduler, weights);
            check(&text(both), &text(one), standing, &text(then), drained);
        }
        check(&of("-t", "rr", quiet), &of("-t", "rr", both), &stands, &of("-t", "rr", both), 0);
        check(&of("-t", "rr", quiet), "", &stands, "", 0);
    }
}
