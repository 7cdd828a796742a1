//! What others learn of what the loop does: health, metrics, and those who act on changes of the program.

use crate::Options;
use crate::accounting::{Accountant, Accounts};
use crate::care::Caretaker;
use crate::events::Teller;
use crate::health::{Health, Status, Versions, note_versions};
use crate::health_ports::HealthPorts;
use crate::http::{self, Answer};
use crate::metrics::{Counted, Frontends, Metrics, TABLES, Text, carried, now, relayed};
use backend::iptables::Written;
use backend::{Mode, userspace};
use client::{Event, Kind};
use jiff::Timestamp;
use model::Family;
use program::{Change, Program};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tracing::debug;

/// When the change began that led to this slice (`metav1.Time`, set by the endpoint slice controller).
const TRIGGER: &str = "endpoints.kubernetes.io/last-change-trigger-time";

pub(crate) struct Report {
    status: watch::Sender<Status>,
    pub(crate) metrics: Arc<Metrics>,
    ports: HealthPorts,
    frontends: Frontends,
    /// None where connections are ended by the back end itself.
    caretaker: Option<Caretaker>,
    accountant: Option<Accountant>,
    /// What has been heard of and may not be in the kernel yet.
    seen: Versions,
    triggers: Vec<(Family, Timestamp)>,
    pending: Pending,
    started: Timestamp,
    servers: Vec<AbortHandle>,
}

/// Events since the kernel was last up to date, by family.
#[derive(Default)]
struct Pending {
    services: [u32; 2],
    slices: [u32; 2],
}

/// Whether everything was compared or a change made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Full,
    Partial,
}

impl Drop for Report {
    fn drop(&mut self) {
        self.servers.iter().for_each(AbortHandle::abort);
    }
}

impl Report {
    pub(crate) fn new(options: &Options, mode: Mode, teller: &Teller) -> Self {
        let (status, follower) = watch::channel(Status::new());
        let metrics = Arc::new(Metrics::new(mode));
        let mut servers = Vec::new();
        let accountant = accountant(options, mode, &metrics);
        let health = Health { status: follower.clone(), metrics: metrics.clone() };
        if let Some(address) = options.healthz {
            servers.push(serve(address, "health", move |path| health.clone().answer(path)));
        }
        if let Some(address) = options.metrics {
            let health = Health { status: follower.clone(), metrics: metrics.clone() };
            let (metrics, accountant) = (metrics.clone(), accountant.clone());
            let scrape = Scrape { metrics, mode, health, accountant };
            servers.push(serve(address, "metrics", move |path| scrape.clone().answer(path)));
        }
        let takes_care = mode != Mode::Userspace;
        let caretaker = takes_care
            .then(|| Caretaker::start(options.care.clone(), metrics.clone(), teller.clone()));
        Report {
            status,
            caretaker,
            accountant,
            metrics,
            ports: HealthPorts::new(follower),
            frontends: Frontends::default(),
            seen: Versions::new(),
            triggers: Vec::new(),
            pending: Pending::default(),
            started: Timestamp::now(),
            servers,
        }
    }

    /// Takes note of an event that is about to be acted on.
    pub(crate) fn heard(&mut self, event: &Event) {
        note_versions(&mut self.seen, event);
        match event {
            Event::Applied { kind, object } | Event::Deleted { kind, object } => {
                self.note(*kind, object);
                let is_news = matches!(event, Event::Applied { .. });
                self.triggers.extend(
                    trigger(*kind, object).filter(|(_, moment)| is_news && *moment >= self.started),
                );
            }
            Event::Restarted { kind, objects } => {
                objects.iter().for_each(|it| self.note(*kind, it))
            }
            Event::Listed { kind, object } => self.note(*kind, object),
            Event::Listing { .. } | Event::Synced => {}
        }
        self.tell_pending();
    }

    fn note(&mut self, kind: Kind, object: &Value) {
        let (families, pending) = match kind {
            Kind::SERVICE => (families_of(object), &mut self.pending.services),
            Kind::ENDPOINT_SLICE => {
                (family_of(object).into_iter().collect(), &mut self.pending.slices)
            }
            _ => return,
        };
        for family in families {
            pending[place(family)] += 1;
            let of = self.metrics.of(family);
            let changes =
                if kind == Kind::SERVICE { &of.service_changes } else { &of.endpoint_changes };
            changes.total.add(1);
            of.last_queued.set(now());
        }
    }

    fn tell_pending(&self) {
        for family in Family::ALL {
            let of = self.metrics.of(family);
            of.service_changes.pending.set(self.pending.services[place(family)].into());
            of.endpoint_changes.pending.set(self.pending.slices[place(family)].into());
        }
    }

    /// Something is about to be brought to the kernel.
    pub(crate) fn queued(&self) {
        let is_first = |status: &mut Status| {
            let first = status.queued.is_none();
            status.queued.get_or_insert_with(Instant::now);
            first
        };
        self.status.send_if_modified(is_first);
    }

    /// The kernel has the whole program.
    pub(crate) fn compared(&mut self, program: &Program) {
        self.ports.follow(program);
        if let Some(caretaker) = &self.caretaker {
            caretaker.compared(program);
        }
        if let Some(accountant) = &self.accountant {
            accountant.compared(program);
        }
        self.frontends.follow(program, &self.metrics);
    }

    /// The kernel has these changes.
    pub(crate) fn changed(&mut self, changes: &[Change]) {
        changes.iter().for_each(|change| self.ports.change(change));
        self.frontends.change(changes, &self.metrics);
        if let Some(caretaker) = &self.caretaker {
            caretaker.changed(changes);
        }
        if let Some(accountant) = &self.accountant {
            accountant.changed(changes);
        }
    }

    /// The kernel is as the cluster wants it, as far as it has been heard of.
    pub(crate) fn is_up_to_date(&mut self, leaving: bool) {
        self.pending = Pending::default();
        self.tell_pending();
        let now = Timestamp::now();
        for (family, moment) in self.triggers.drain(..) {
            let delay = Duration::try_from(now.duration_since(moment)).unwrap_or(Duration::ZERO);
            self.metrics.of(family).programming.observe(delay);
        }
        self.status.send_modify(|status| {
            status.queued = None;
            status.updated = Some(now);
            status.leaving = leaving;
            status.applied.clone_from(&self.seen);
        });
    }

    /// How many rules the kernel's part took, where it is rules. A comparison that finds everything right, which
    /// follows on every change, is none.
    pub(crate) fn wrote(&self, written: &Written) {
        if written.values().all(|number| *number == 0) {
            return;
        }
        for ((family, table), number) in written {
            let place = TABLES.iter().position(|it| it == table);
            let Some(gauge) = place.map(|place| &self.metrics.of(*family).written[place]) else {
                continue;
            };
            gauge.set(u32::try_from(*number).unwrap_or(u32::MAX).into());
        }
    }

    /// How long the kernel's part took.
    pub(crate) fn took(&self, extent: Extent, families: &BTreeSet<Family>, time: Duration) {
        for of in families.iter().map(|family| self.metrics.of(*family)) {
            of.all.observe(time);
            match extent {
                Extent::Full => of.full.observe(time),
                Extent::Partial => of.partial.observe(time),
            }
            of.last.set(now());
        }
    }
}

/// Relays of mode userspace count by themselves.
fn accountant(options: &Options, mode: Mode, metrics: &Arc<Metrics>) -> Option<Accountant> {
    let accounts = options.connection_accounting && mode != Mode::Userspace;
    accounts.then(|| Accountant::start(metrics.clone()))
}

fn serve<A, F>(address: SocketAddr, what: &'static str, answer: A) -> AbortHandle
where
    A: Fn(String) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    tokio::spawn(async move { http::serve(address, what, answer).await }).abort_handle()
}

/// Answers on the metrics port.
#[derive(Clone)]
struct Scrape {
    metrics: Arc<Metrics>,
    mode: Mode,
    health: Health,
    accountant: Option<Accountant>,
}

impl Scrape {
    async fn accounts(&self) -> Option<Accounts> {
        if self.mode == Mode::Userspace {
            let counts = tokio::task::spawn_blocking(userspace::counts).await;
            return Some(relayed::accounts(&counts.ok()?.ok()??));
        }
        self.accountant.as_ref()?.accounts().await
    }

    async fn answer(self, path: String) -> Answer {
        match path.split('?').next().unwrap_or_default() {
            "/metrics" => {
                let mut text = Text::default();
                // Reading the kernel's tables may take a while, which the loop need not wait for.
                let mode = self.mode;
                let counted = tokio::task::spawn_blocking(move || Counted::read(mode)).await;
                if let Ok(Ok(Counted { relayed: Some(counts), .. })) = &counted {
                    self.metrics.resets.set(counts.process.reset);
                }
                self.metrics.write(&mut text);
                match counted {
                    Ok(Ok(counted)) => counted.write(&mut text),
                    outcome => debug!(?outcome, "no counts of front ends"),
                }
                if let Some(accounts) = self.accounts().await {
                    carried::write(&mut text, &accounts);
                }
                let body = text.finish();
                let content_type = "text/plain; version=0.0.4; charset=utf-8";
                Answer { content_type, ..Answer::text(200, body) }
            }
            "/accounting" => match self.accounts().await {
                Some(accounts) => Answer::json(200, &carried::json(&accounts)),
                None => {
                    Answer::text(404, "the agent runs without --connection-accounting\n".to_owned())
                }
            },
            // kube-proxy's word for it.
            "/proxyMode" if self.mode == Mode::Nft => Answer::text(200, "nftables".to_owned()),
            "/proxyMode" => Answer::text(200, self.mode.to_string()),
            "/healthz" => self.health.answer(path).await,
            _ => Answer::not_found(),
        }
    }
}

fn trigger(kind: Kind, slice: &Value) -> Option<(Family, Timestamp)> {
    let annotations =
        slice.pointer("/metadata/annotations").filter(|_| kind == Kind::ENDPOINT_SLICE)?;
    let moment = annotations.get(TRIGGER)?.as_str()?.parse().ok()?;
    Some((family_of(slice)?, moment))
}

fn family_of(slice: &Value) -> Option<Family> {
    match slice["addressType"].as_str()? {
        "IPv4" => Some(Family::V4),
        "IPv6" => Some(Family::V6),
        _ => None,
    }
}

fn families_of(service: &Value) -> BTreeSet<Family> {
    let spec = &service["spec"];
    let listed = spec["clusterIPs"].as_array().into_iter().flatten().chain([&spec["clusterIP"]]);
    let addresses = listed.filter_map(|it| it.as_str()?.parse::<IpAddr>().ok());
    addresses.map(Family::of).collect()
}

fn place(family: Family) -> usize {
    usize::from(family == Family::V6)
}
