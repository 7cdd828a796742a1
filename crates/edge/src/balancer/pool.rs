//! The back ends of a listener and the choice among them.

use super::backend::{Backend, Lease};
use super::health;
use crate::config::{self, Algorithm, Dial};
use crate::status;
use crate::task::Task;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::sync::Notify;

/// An immutable set of back ends; a change of configuration makes another.
#[derive(Debug)]
pub(super) struct Pool {
    algorithm: Algorithm,
    pub(super) dial: Dial,
    health_check: Option<wire::machine::health::Config>,
    members: Vec<Arc<Member>>,
    /// Whose turn it is.
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Member {
    backend: Arc<Backend>,
    _check: Option<Task>,
}

impl Pool {
    /// Back ends that `old` has too are kept with their health and counters.
    pub(super) fn new(
        config: &config::Listener,
        old: Option<&Pool>,
        changed: &Arc<Notify>,
    ) -> Self {
        let kept = old.filter(|old| old.health_check == config.health_check);
        let member = |backend: &config::Backend| {
            kept.and_then(|pool| pool.member(backend))
                .unwrap_or_else(|| Member::new(backend, config.health_check, changed))
        };
        Pool {
            algorithm: config.algorithm,
            dial: config.dial,
            health_check: config.health_check,
            members: config.backends.iter().map(member).collect(),
            turn: AtomicUsize::new(0),
        }
    }

    fn member(&self, backend: &config::Backend) -> Option<Arc<Member>> {
        self.members.iter().find(|member| member.backend.config == *backend).cloned()
    }

    /// A back end that is not among `tried`, which it is added to: a healthy one, and only where no such
    /// is left one that failed its check, which may be well again before the next check says so.
    pub(super) fn choose(&self, tried: &mut Vec<usize>) -> Option<Lease> {
        self.choose_among(true, tried).or_else(|| self.choose_among(false, tried))
    }

    fn choose_among(&self, up: bool, tried: &mut Vec<usize>) -> Option<Lease> {
        let open = |&index: &usize| self.backend(index).is_up() == up && !tried.contains(&index);
        let candidates = || (0..self.members.len()).filter(open);
        let count = candidates().count();
        if count == 0 {
            return None;
        }
        let turn = self.turn.fetch_add(1, Relaxed) % count;
        let mut in_turn = candidates().cycle().skip(turn).take(count);
        let chosen = match self.algorithm {
            Algorithm::RoundRobin => in_turn.next(),
            Algorithm::LeastConnections => {
                in_turn.min_by_key(|&index| self.backend(index).active())
            }
        }?;
        tried.push(chosen);
        Some(Lease::new(self.backend(chosen)))
    }

    pub(super) fn status(&self) -> Vec<status::Backend> {
        self.members.iter().map(|member| member.backend.status()).collect()
    }

    fn backend(&self, index: usize) -> &Arc<Backend> {
        &self.members[index].backend
    }
}

impl Member {
    fn new(
        backend: &config::Backend,
        check: Option<wire::machine::health::Config>,
        changed: &Arc<Notify>,
    ) -> Arc<Self> {
        let (backend, news) = Backend::new(backend.clone());
        let backend = Arc::new(backend);
        let checked = |check| {
            Task::spawn(health::watch(Arc::clone(&backend), check, news, Arc::clone(changed)))
        };
        let check = check.map(checked);
        Arc::new(Member { backend, _check: check })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn pool(algorithm: Algorithm) -> Pool {
        let backend = |port| config::Backend {
            name: format!("b{port}"),
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        };
        let config = config::Listener {
            name: "web".into(),
            port: 80,
            algorithm,
            backends: (0..3).map(backend).collect(),
            health_check: None,
            dial: Dial::default(),
        };
        Pool::new(&config, None, &Arc::new(Notify::new()))
    }

    fn name(lease: &Lease) -> String {
        lease.config.name.clone()
    }

    #[test]
    fn each_in_turn_and_the_sick_left_out() {
        let pool = pool(Algorithm::RoundRobin);
        let take = |count: usize| -> Vec<String> {
            (0..count).map(|_| name(&pool.choose(&mut Vec::new()).unwrap())).collect()
        };
        assert_eq!(take(4), ["b0", "b1", "b2", "b0"]);
        pool.backend(1).set_up(false);
        let mut shares = take(4);
        shares.sort();
        assert_eq!(shares, ["b0", "b0", "b2", "b2"]);
    }

    #[test]
    fn the_sick_are_the_last_resort() {
        let pool = pool(Algorithm::RoundRobin);
        pool.backend(0).set_up(false);
        pool.backend(2).set_up(false);
        let mut tried = Vec::new();
        assert_eq!(name(&pool.choose(&mut tried).unwrap()), "b1");
        let mut rest = [0, 0].map(|_| name(&pool.choose(&mut tried).unwrap()));
        rest.sort();
        assert_eq!(rest, ["b0", "b2"]);
        assert!(pool.choose(&mut tried).is_none());
    }

    #[test]
    fn the_least_loaded_first() {
        let pool = pool(Algorithm::LeastConnections);
        let mut held: Vec<Lease> = (0..6).filter_map(|_| pool.choose(&mut Vec::new())).collect();
        assert!((0..3).all(|index| pool.backend(index).active() == 2));
        let freed = name(&held.swap_remove(4));
        assert_eq!(name(&pool.choose(&mut Vec::new()).unwrap()), freed);
    }

    #[test]
    fn nobody_twice() {
        for algorithm in [Algorithm::RoundRobin, Algorithm::LeastConnections] {
            let pool = pool(algorithm);
            let mut tried = Vec::new();
            let names: std::collections::BTreeSet<String> =
                (0..3).map(|_| name(&pool.choose(&mut tried).unwrap())).collect();
            assert_eq!(names.len(), 3, "{algorithm:?}");
            assert!(pool.choose(&mut tried).is_none());
        }
    }
}
