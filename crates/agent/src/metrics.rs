//! Numbers for Prometheus: kube-proxy's under their own names, and Podway's.

pub(crate) mod carried;
mod frontends;
pub(crate) mod relayed;
mod served;
mod text;

pub(crate) use frontends::Frontends;
pub(crate) use served::Counted;
pub(crate) use text::{Counter, Gauge, Histogram, Text, Type};

use backend::Mode;
use backend::iptables::TableName;
use model::Family;
use std::time::{Duration, SystemTime};

/// What an agent has counted. Nothing here is a cluster's size.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) families: [OfFamily; 2],
    pub(crate) healthz: Codes,
    pub(crate) livez: Codes,
    pub(crate) resets: Counter,
    /// Connections whose end was told, and how often the kernel had to drop such news.
    pub(crate) connection_events: Counter,
    pub(crate) connection_events_lost: Counter,
    pub(crate) repairs: [Counter; Repair::ALL.len()],
    pub(crate) conntrack_entries: Gauge,
    pub(crate) conntrack_limit: Gauge,
    pub(crate) conntrack_dropped: Counter,
    pub(crate) conntrack_forgotten: Counter,
    mode: Mode,
}

/// What is counted for IPv4 and IPv6 apart.
#[derive(Debug)]
pub(crate) struct OfFamily {
    family: Family,
    pub(crate) full: Histogram,
    pub(crate) partial: Histogram,
    pub(crate) all: Histogram,
    pub(crate) programming: Histogram,
    pub(crate) last: Gauge,
    pub(crate) last_queued: Gauge,
    pub(crate) endpoint_changes: Changes,
    pub(crate) service_changes: Changes,
    pub(crate) no_local_internal: Gauge,
    pub(crate) no_local_external: Gauge,
    pub(crate) failures: Counter,
    pub(crate) cleanup_failures: Counter,
    pub(crate) reconciler: Histogram,
    pub(crate) deleted_entries: Counter,
    /// Rules that the last change wrote, by the place in [`TABLES`].
    pub(crate) written: [Gauge; TABLES.len()],
}

/// The tables that proxy mode iptables has rules in.
pub(crate) const TABLES: [TableName; 2] = [TableName::Nat, TableName::Filter];

#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) pending: Gauge,
    pub(crate) total: Counter,
}

/// Answers by status code.
#[derive(Debug, Default)]
pub(crate) struct Codes {
    well: Counter,
    ill: Counter,
}

impl Codes {
    pub(crate) fn count(&self, status: u16) {
        let counter = if status == 200 { &self.well } else { &self.ill };
        counter.add(1);
    }
}

/// What somebody else destroyed and the agent mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Repair {
    Services,
    Links,
}

impl Repair {
    pub(crate) const ALL: [Repair; 2] = [Repair::Services, Repair::Links];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Repair::Services => "services",
            Repair::Links => "links",
        }
    }
}

impl Metrics {
    pub(crate) fn new(mode: Mode) -> Self {
        Metrics {
            families: Family::ALL.map(OfFamily::new),
            healthz: Codes::default(),
            livez: Codes::default(),
            resets: Counter::default(),
            connection_events: Counter::default(),
            connection_events_lost: Counter::default(),
            repairs: Repair::ALL.map(|_| Counter::default()),
            conntrack_entries: Gauge::default(),
            conntrack_limit: Gauge::default(),
            conntrack_dropped: Counter::default(),
            conntrack_forgotten: Counter::default(),
            mode,
        }
    }

    pub(crate) fn of(&self, family: Family) -> &OfFamily {
        &self.families[usize::from(family == Family::V6)]
    }

    pub(crate) fn repaired(&self, what: Repair) {
        self.repairs[what as usize].add(1);
    }

    /// All that this process counts.
    pub(crate) fn write(&self, text: &mut Text) {
        self.write_syncs(text);
        self.write_changes(text);
        self.write_failures(text);
        self.write_written(text);
        for (name, codes) in [("healthz", &self.healthz), ("livez", &self.livez)] {
            let name = format!("kubeproxy_proxy_{name}_total");
            text.family(&name, Type::Counter, "Answers on the health port.");
            text.count(&name, &[("code", "200")], codes.well.value());
            text.count(&name, &[("code", "503")], codes.ill.value());
        }
        self.write_conntrack(text);
        let name = "podway_repairs_total";
        text.family(name, Type::Counter, "What somebody else destroyed and the agent mended.");
        for (what, counter) in Repair::ALL.into_iter().zip(&self.repairs) {
            text.count(name, &[("what", what.name())], counter.value());
        }
    }

    fn each(&self) -> impl Iterator<Item = (String, &OfFamily)> {
        self.families.iter().map(|family| (family.family.to_string(), family))
    }

    fn write_syncs(&self, text: &mut Text) {
        type Row = (&'static str, fn(&OfFamily) -> &Histogram, &'static str);
        let rows: [Row; 4] = [
            ("sync_proxy_rules_duration_seconds", |it| &it.all, "Bringing the kernel up to date."),
            ("sync_full_proxy_rules_duration_seconds", |it| &it.full, "Likewise, with everything."),
            ("sync_partial_proxy_rules_duration_seconds", |it| &it.partial, "Likewise, a change."),
            (
                "network_programming_duration_seconds",
                |it| &it.programming,
                "From the change of a pod or Service to the kernel.",
            ),
        ];
        for (name, histogram, help) in rows {
            let name = format!("kubeproxy_{name}");
            text.family(&name, Type::Histogram, help);
            for (family, of_family) in self.each() {
                histogram(of_family).write(text, &name, &[("ip_family", &family)]);
            }
        }
    }

    fn write_changes(&self, text: &mut Text) {
        type Row = (&'static str, fn(&OfFamily) -> &Gauge, &'static str);
        let rows: [Row; 4] = [
            (
                "last_timestamp_seconds",
                |it| &it.last,
                "When the kernel was last brought up to date.",
            ),
            ("last_queued_timestamp_seconds", |it| &it.last_queued, "When a change last came."),
            ("endpoint_changes_pending", |it| &it.endpoint_changes.pending, "Slices to be told."),
            ("service_changes_pending", |it| &it.service_changes.pending, "Services to be told."),
        ];
        for (name, gauge, help) in rows {
            let name = format!("kubeproxy_sync_proxy_rules_{name}");
            text.family(&name, Type::Gauge, help);
            for (family, of_family) in self.each() {
                text.sample(&name, &[("ip_family", &family)], gauge(of_family).value());
            }
        }
        let name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
        text.family(name, Type::Gauge, "Service ports with policy Local and no endpoint here.");
        for (family, of_family) in self.each() {
            let policies = [
                ("internal", &of_family.no_local_internal),
                ("external", &of_family.no_local_external),
            ];
            for (policy, gauge) in policies {
                let labels = [("ip_family", family.as_str()), ("traffic_policy", policy)];
                text.sample(name, &labels, gauge.value());
            }
        }
    }

    fn write_failures(&self, text: &mut Text) {
        type Row = (&'static str, fn(&OfFamily) -> &Counter, &'static str);
        let rows: [Row; 5] = [
            ("endpoint_changes_total", |it| &it.endpoint_changes.total, "Slices that changed."),
            ("service_changes_total", |it| &it.service_changes.total, "Services that changed."),
            ("iptables_restore_failures_total", |it| &it.failures, "Times the kernel said no."),
            ("nftables_sync_failures_total", |it| &it.failures, "Times the kernel said no."),
            ("nftables_cleanup_failures_total", |it| &it.cleanup_failures, "Leftovers that stay."),
        ];
        for (name, counter, help) in rows {
            let of_mode = [("nftables", Mode::Nft), ("iptables", Mode::Iptables)];
            if of_mode.iter().any(|(it, mode)| name.starts_with(it) && self.mode != *mode) {
                continue;
            }
            let name = format!("kubeproxy_sync_proxy_rules_{name}");
            text.family(&name, Type::Counter, help);
            for (family, of_family) in self.each() {
                text.count(&name, &[("ip_family", &family)], counter(of_family).value());
            }
        }
    }

    fn write_written(&self, text: &mut Text) {
        if self.mode != Mode::Iptables {
            return;
        }
        let name = "kubeproxy_sync_proxy_rules_iptables_last";
        text.family(name, Type::Gauge, "Rules that the last change wrote.");
        for (family, of_family) in self.each() {
            for (table, gauge) in TABLES.iter().zip(&of_family.written) {
                let labels = [("ip_family", family.as_str()), ("table", table.as_str())];
                text.sample(name, &labels, gauge.value());
            }
        }
    }

    fn write_conntrack(&self, text: &mut Text) {
        let name = "kubeproxy_conntrack_reconciler_sync_duration_seconds";
        text.family(name, Type::Histogram, "Looking through connections for stale ones.");
        for (family, of_family) in self.each() {
            of_family.reconciler.write(text, name, &[("ip_family", &family)]);
        }
        let name = "kubeproxy_conntrack_reconciler_deleted_entries_total";
        text.family(name, Type::Counter, "Stale connections that were forgotten.");
        for (family, of_family) in self.each() {
            text.count(name, &[("ip_family", &family)], of_family.deleted_entries.value());
        }
        for (name, counter, help) in [
            (
                "podway_connection_events_total",
                &self.connection_events,
                "Connections whose end was told (with --connection-accounting).",
            ),
            (
                "podway_connection_events_lost_total",
                &self.connection_events_lost,
                "Times that more connections ended than could be told.",
            ),
            (
                "podway_conntrack_dropped_total",
                &self.conntrack_dropped,
                "Packets that were lost because their connection could not be tracked.",
            ),
            (
                "podway_conntrack_forgotten_total",
                &self.conntrack_forgotten,
                "Connections forgotten early to make room for others.",
            ),
            (
                "podway_connections_reset_total",
                &self.resets,
                "TCP connections to endpoints that are gone, reset.",
            ),
        ] {
            text.family(name, Type::Counter, help);
            text.count(name, &[], counter.value());
        }
        for (name, gauge, help) in [
            ("podway_conntrack_entries", &self.conntrack_entries, "Connections that are tracked."),
            ("podway_conntrack_limit", &self.conntrack_limit, "How many there can be."),
        ] {
            text.family(name, Type::Gauge, help);
            text.sample(name, &[], gauge.value());
        }
    }
}

impl OfFamily {
    fn new(family: Family) -> Self {
        let syncs = || Histogram::new(exponential(0.001, 2.0, 15));
        OfFamily {
            family,
            full: syncs(),
            partial: syncs(),
            all: syncs(),
            programming: Histogram::new(programming_bounds()),
            last: Gauge::default(),
            last_queued: Gauge::default(),
            endpoint_changes: Changes::default(),
            service_changes: Changes::default(),
            no_local_internal: Gauge::default(),
            no_local_external: Gauge::default(),
            failures: Counter::default(),
            cleanup_failures: Counter::default(),
            reconciler: syncs(),
            deleted_entries: Counter::default(),
            written: TABLES.map(|_| Gauge::default()),
        }
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs_f64()
}

fn exponential(first: f64, factor: f64, count: i32) -> Vec<f64> {
    (0..count).map(|power| first * factor.powi(power)).collect()
}

/// kube-proxy's: quarters, seconds to a minute, fives to two minutes, halves to five.
fn programming_bounds() -> Vec<f64> {
    let steps = |from: u32, step: u32, count: u32| (0..count).map(move |n| from + n * step);
    let seconds = steps(1, 1, 59).chain(steps(60, 5, 12)).chain(steps(120, 30, 7));
    [0.25, 0.5].into_iter().chain(seconds.map(f64::from)).collect()
}
