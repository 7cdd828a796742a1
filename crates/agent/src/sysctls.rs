//! Kernel parameters that serving Services needs, set where they are not right already.

use compile::Settings;
use kernel::{Errno, sysctl};
use model::Family;
use std::time::Duration;
use tracing::{info, warn};

/// More entries than this are never asked for.
const MOST_ENTRIES: u32 = 1 << 20;
/// Counting what connections carry.
pub(crate) const ACCOUNTING: &str = "net/netfilter/nf_conntrack_acct";
/// Whether packets to loopback addresses may leave the loopback device, which they do once translated.
const ROUTE_LOCALNET: &str = "net/ipv4/conf/all/route_localnet";

/// The connection table, by kube-proxy's options; `None` and 0: as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conntrack {
    pub max_per_core: u32,
    /// At least as many entries, however few cores there are.
    pub min: u32,
    pub established: Option<Duration>,
    pub close_wait: Option<Duration>,
    pub udp: Option<Duration>,
    pub udp_stream: Option<Duration>,
    /// Packets outside of the window are no reason to call a connection invalid.
    pub be_liberal: bool,
}

impl Default for Conntrack {
    /// As kube-proxy.
    fn default() -> Self {
        Conntrack {
            max_per_core: 32 << 10,
            min: 128 << 10,
            established: Some(Duration::from_secs(24 * 3600)),
            close_wait: Some(Duration::from_secs(3600)),
            udp: None,
            udp_stream: None,
            be_liberal: false,
        }
    }
}

/// A parameter and what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    path: &'static str,
    value: u64,
    /// A greater value is right, too.
    at_least: bool,
}

/// Sets what is not as wanted. What this node's owner alone may set is told and left.
pub(crate) fn set(settings: &Settings, conntrack: &Conntrack, accounting: bool) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut denied = Vec::new();
    for wanted in wanted(cores, settings, conntrack, accounting) {
        let Wanted { path, value, at_least } = wanted;
        // Without IPv6, or before the first connection is tracked, some are not there.
        let Some(have) = sysctl::read(path).ok().and_then(|have| have.parse::<u64>().ok()) else {
            warn!(path, "the kernel has no such parameter");
            continue;
        };
        if have == value || (at_least && have >= value) {
            continue;
        }
        match sysctl::write(path, &value.to_string()) {
            Ok(()) => info!(path, have, value, "kernel parameter set"),
            Err(error) if may_not(&error) => denied.push(format!("{path} = {value} (is {have})")),
            Err(error) => warn!(path, %error, "kernel parameter cannot be set"),
        }
    }
    if !denied.is_empty() {
        warn!(wanted = denied.join(", "), "only the machine's owner can set these, they stay");
    }
}

fn may_not(error: &kernel::Error) -> bool {
    matches!(error.errno(), Some(Errno::EACCES | Errno::EPERM | Errno::EROFS))
}

fn wanted(
    cores: usize,
    settings: &Settings,
    conntrack: &Conntrack,
    accounting: bool,
) -> Vec<Wanted> {
    let exactly = |path, value| Wanted { path, value, at_least: false };
    let mut wanted = Vec::new();
    if conntrack.max_per_core > 0 {
        let by_cores = conntrack.max_per_core.saturating_mul(u32::try_from(cores).unwrap_or(1));
        let value = by_cores.max(conntrack.min).min(MOST_ENTRIES).into();
        let path = "net/netfilter/nf_conntrack_max";
        wanted.push(Wanted { path, value, at_least: true });
    }
    let timeouts = [
        ("net/netfilter/nf_conntrack_tcp_timeout_established", conntrack.established),
        ("net/netfilter/nf_conntrack_tcp_timeout_close_wait", conntrack.close_wait),
        ("net/netfilter/nf_conntrack_udp_timeout", conntrack.udp),
        ("net/netfilter/nf_conntrack_udp_timeout_stream", conntrack.udp_stream),
    ];
    for (path, time) in timeouts {
        let seconds = time.map(|time| time.as_secs()).filter(|seconds| *seconds > 0);
        wanted.extend(seconds.map(|value| exactly(path, value)));
    }
    let switches = [
        ("net/netfilter/nf_conntrack_tcp_be_liberal", conntrack.be_liberal),
        (ROUTE_LOCALNET, settings.node_ports.localhost.contains(&Family::V4)),
        (ACCOUNTING, accounting),
    ];
    wanted.extend(switches.into_iter().filter(|(_, on)| *on).map(|(path, _)| exactly(path, 1)));
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_parameters() {
        let plain = Settings::new(Vec::new());
        let value = |cores, conntrack: &Conntrack, path: &str| {
            let wanted = wanted(cores, &plain, conntrack, false);
            wanted.into_iter().find(|it| it.path.ends_with(path)).map(|it| it.value)
        };
        let usual = Conntrack::default();
        for (cores, max) in [(1, 131_072), (4, 131_072), (8, 262_144), (64, 1_048_576)] {
            assert_eq!(value(cores, &usual, "nf_conntrack_max"), Some(max), "{cores} cores");
        }
        assert_eq!(value(1, &usual, "established"), Some(86_400));
        assert_eq!(value(1, &usual, "close_wait"), Some(3600));
        assert_eq!(value(1, &usual, "be_liberal"), None);
        let none = Conntrack { max_per_core: 0, established: None, ..Conntrack::default() };
        assert_eq!(value(1, &none, "nf_conntrack_max"), None);
        assert_eq!(value(1, &none, "established"), None);
        let mut localhost = plain.clone();
        localhost.node_ports.localhost = [Family::V4].into();
        let on: Vec<_> = wanted(1, &localhost, &none, true).into_iter().map(|it| it.path).collect();
        assert!(on.contains(&ROUTE_LOCALNET) && on.contains(&ACCOUNTING), "{on:?}");
    }
}
