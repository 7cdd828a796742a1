//! One pod, from its first sight to its end: a task of its own.
//!
//! ```text
//!            ┌──────── an order, an end of a process, an answer of a probe, a time that has come ────────┐
//!            ▼                                                                                           │
//!   note it ──► advance: sandbox? containers? probes? killing? ──► record on disk, status to the API ────┘
//! ```

mod adopt;
mod advance;
mod pull;
mod stop;

use super::container::{Launch, kill_group};
use super::environment::{Services, Sources};
use super::plugins::Network;
use super::probe::{Probes, Purpose, Verdict};
use super::prober::Outcome;
use super::record::{Ended, Record, Shelf};
use super::remark::{Happening, Remark, Why, event, identity};
use super::restart::Backoff;
use super::spec::{Role, Spec, SpecError, Surroundings};
use super::status::{ContainerView, Trouble, View, is_foreign};
use super::{Config, clock, farewell, marks, publish, sandbox, volumes};
use crate::console;
use client::Client;
use kernel::process::{Process, Signal};
use publish::Publisher;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stop::Stop;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// How long a pod that vanished from the API has to end.
const GONE_GRACE: Duration = Duration::from_secs(1);
/// How long what a container said may be on its way to its log.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long to wait before a network is asked for again that could not be had.
const SANDBOX_RETRY: Duration = Duration::from_millis(500);

/// What all pods of a node share.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) client: Client,
    pub(super) shelf: Shelf,
    /// The network plug-ins, once the agent has configured them.
    pub(super) network: Network,
    /// As the API has them now.
    pub(super) services: watch::Receiver<Arc<Services>>,
    /// What people shall hear. Nobody waits for it.
    pub(super) remarks: mpsc::UnboundedSender<client::event::Event>,
}

pub(super) enum Event {
    /// The pod as the API has it now.
    Updated(Value),
    /// The API no longer has it.
    Gone,
    Ended {
        index: usize,
        generation: u32,
        code: Option<i32>,
    },
    Probed {
        index: usize,
        generation: u32,
        purpose: Purpose,
        outcome: Outcome,
    },
    /// What was to be done after the start of a container is done, or failed.
    PostStarted {
        index: usize,
        generation: u32,
        success: bool,
    },
    /// What was to be done before the end of a container is done.
    PreStopped {
        index: usize,
        generation: u32,
        success: bool,
    },
}

pub(super) struct Worker {
    shared: Arc<Shared>,
    uid: String,
    spec: Spec,
    surroundings: Surroundings,
    record: Record,
    saved: Option<Record>,
    cells: Vec<Cell>,
    network: Network,
    sender: mpsc::UnboundedSender<Event>,
    events: mpsc::UnboundedReceiver<Event>,
    status: Publisher,
    /// When a network may be asked for again.
    retry: Option<Instant>,
    trouble: Option<String>,
    stop: Option<Stop>,
}

/// One container's life here; what must survive the kubelet is in its record.
#[derive(Default)]
struct Cell {
    process: Option<Arc<Process>>,
    probes: Option<Probes>,
    launch: Option<Launch>,
    /// Who holds its input.
    holder: Option<Arc<Process>>,
    /// Counts processes, so that late news of an earlier one are known as such.
    generation: u32,
    since: Option<Instant>,
    backoff: Backoff,
    restart: Option<Instant>,
    /// How long the container waits for its restart.
    waits: Option<Duration>,
    /// When a container that failed its probes and was asked to end is killed.
    kill: Option<Instant>,
    /// It was asked to end, or what is to be done before that has begun.
    ending: bool,
    trouble: Option<Trouble>,
}

impl Worker {
    /// For a pod that is new, or that a kubelet before this one noted down.
    pub(super) fn new(
        shared: &Arc<Shared>,
        record: Record,
    ) -> Result<(Worker, mpsc::UnboundedSender<Event>), SpecError> {
        let spec = Spec::parse(&record.object)?;
        let (sender, events) = mpsc::unbounded_channel();
        let status = Publisher::start(&shared.client, &spec.pod.meta);
        let surroundings = Surroundings {
            node: shared.config.node.clone(),
            host_ips: record.host_ips.clone(),
            pod_ips: Vec::new(),
            services: BTreeMap::new(),
            sources: Sources::default(),
        };
        let worker = Worker {
            uid: spec.pod.meta.uid.clone(),
            cells: spec.pod.containers.iter().map(|_| Cell::default()).collect(),
            spec,
            surroundings,
            record,
            saved: None,
            network: shared.network.clone(),
            shared: Arc::clone(shared),
            sender: sender.clone(),
            events,
            status,
            retry: None,
            trouble: None,
            stop: None,
        };
        Ok((worker, sender))
    }

    /// Returns when nothing of the pod is left.
    pub(super) async fn run(mut self) {
        let _kept = self.keep();
        self.note_deletion(Instant::now());
        self.adopt().await;
        loop {
            self.advance().await;
            self.tell();
            if self.is_done() {
                break;
            }
            self.wait().await;
        }
        self.remove().await;
    }

    /// Logs have times and volumes are as the API has them for as long as the result lives.
    fn keep(&self) -> JoinSet<()> {
        let mut kept = JoinSet::new();
        kept.spawn(marks::keep(self.logs()));
        for volume in self.spec.volumes().filter(|volume| volumes::is_changing(volume)) {
            let Shared { client, config, .. } = &*self.shared;
            let (spec, volume) = (self.spec.clone(), volume.clone());
            kept.spawn(volumes::keep(client.clone(), config.root.clone(), spec, volume));
        }
        kept
    }

    /// The directory of the containers' logs.
    fn logs(&self) -> PathBuf {
        let key = &self.spec.pod.meta.key;
        self.shared.config.pod_logs.join(format!("{}_{}", key.namespace, key.name))
    }

    async fn wait(&mut self) {
        let due = self.due();
        let timer = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            event = self.events.recv() => event,
            // Its sender lives as long as the kubelet.
            _ = self.network.changed() => None,
            () = timer => None,
        };
        let mut next = event;
        while let Some(event) = next {
            self.note(event).await;
            next = self.events.try_recv().ok();
        }
    }

    /// The next time at which there is something to do.
    fn due(&self) -> Option<Instant> {
        if let Some(stop) = &self.stop {
            let probes = self.cells.iter().filter_map(|cell| cell.probes.as_ref()?.due());
            return (!stop.killed).then_some(stop.deadline).into_iter().chain(probes).min();
        }
        let mut first = self.retry;
        let mut note = |times: [Option<Instant>; 2]| {
            first = first.into_iter().chain(times.into_iter().flatten()).min();
        };
        let mut may_start = !self.is_over();
        for (index, cell) in self.cells.iter().enumerate() {
            note([cell.probes.as_ref().and_then(Probes::due), cell.kill]);
            let joins = self.spec.roles[index] == Role::Ephemeral;
            note([cell.restart.filter(|_| may_start || joins), None]);
            may_start &= !self.must_wait_for(index);
        }
        first
    }

    async fn note(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Updated(object) => match Spec::parse(&object) {
                Ok(mut spec) => {
                    // They never change but in their image and what they need; others may have joined them.
                    spec.keep(&self.spec, |index| self.cells[index].process.is_some());
                    let restarting = spec.restarted_since(&self.spec);
                    self.cells.resize_with(spec.pod.containers.len(), Cell::default);
                    (self.record.object, self.spec) = (object, spec);
                    self.note_images(now);
                    for index in restarting {
                        self.cells[index].kill.get_or_insert(now + self.spec.grace);
                        self.end(index, Why::Resize);
                    }
                    self.note_deletion(now);
                    if is_foreign(self.record.object.get("status")) {
                        self.status.forget();
                    }
                }
                Err(error) => {
                    tracing::warn!(pod = %self.spec.pod.meta.key, %error, "update ignored")
                }
            },
            Event::Gone => self.begin_stop(GONE_GRACE.min(self.spec.grace), false, now),
            Event::Ended { index, generation, code } => {
                self.note_end(index, generation, code, now).await
            }
            Event::Probed { index, generation, purpose, outcome } => {
                self.note_probe(index, generation, purpose, outcome, now);
            }
            Event::PostStarted { index, generation, success } => {
                self.note_post_start(index, generation, success, now);
            }
            Event::PreStopped { index, generation, success } => {
                self.note_pre_stop(index, generation, success, now);
            }
        }
    }

    fn note_deletion(&mut self, now: Instant) {
        if let Some(grace) = self.spec.deletion_grace() {
            self.begin_stop(grace, true, now);
        }
    }

    fn signal_all(&self, signal: Signal) {
        for process in self.cells.iter().filter_map(|cell| cell.process.as_ref()) {
            self.signal(process, signal);
        }
    }

    fn signal(&self, process: &Process, signal: Signal) {
        if let Err(error) = process.signal(signal) {
            tracing::warn!(pod = %self.spec.pod.meta.key, %error, "cannot end a container");
        }
    }

    async fn note_end(&mut self, index: usize, generation: u32, code: Option<i32>, now: Instant) {
        let name = self.spec.pod.containers[index].name.clone();
        let cell = &mut self.cells[index];
        if cell.generation != generation {
            return;
        }
        if let Some(process) = cell.process.take() {
            let leader = process.pid();
            tokio::task::spawn_blocking(move || kill_group(leader)).await.ok();
        }
        if let Some(holder) = cell.holder.take() {
            // All that it said is in its log when its end is told.
            tokio::time::timeout(LAST_WORDS, super::container::ended(holder)).await.ok();
        }
        (cell.probes, cell.kill, cell.ending) = (None, None, false);
        let message = self.last_words(index, code);
        let cell = &mut self.cells[index];
        let ran = self.record.containers.entry(name.clone()).or_default();
        let since = ran.running.take().map(|running| running.since).unwrap_or_default();
        let ended = Ended { exit_code: code, since, until: clock::now(), message };
        tracing::info!(pod = %self.spec.pod.meta.key, container = name, code = ended.code(), "ended");
        if self.spec.policy_of(index).restarts(ended.code()) {
            let lifetime = cell.since.map_or(Duration::MAX, |since| now - since);
            let wait = cell.backoff.after(lifetime);
            cell.restart = Some(now + wait);
            cell.waits = Some(wait).filter(|wait| !wait.is_zero());
        }
        ran.last = Some(ended);
        if self.stop.is_some() {
            self.end_all(now);
        } else if self.cells[index].waits.is_some() {
            self.remark(Remark::Container(index, Happening::BackOff));
        }
    }

    /// For its status, where it failed and asks for the end of its log.
    fn last_words(&self, index: usize, code: Option<i32>) -> Option<String> {
        let container = &self.spec.pod.containers[index];
        let policy = &self.spec.written(container)?["terminationMessagePolicy"];
        let asked = policy == "FallbackToLogsOnError" && code != Some(0);
        let log = self.logs().join(format!("{}.log", container.name));
        asked.then(|| farewell::last_words(&log).ok().flatten()).flatten()
    }

    fn note_probe(
        &mut self,
        index: usize,
        generation: u32,
        purpose: Purpose,
        outcome: Outcome,
        now: Instant,
    ) {
        let cell = &mut self.cells[index];
        let Some(probes) = cell.probes.as_mut().filter(|_| cell.generation == generation) else {
            return;
        };
        let counts = !outcome.has_passed() && !probes.is_eager(purpose, now);
        let verdict = probes.conclude(purpose, outcome.has_passed(), now);
        let name = &self.spec.pod.containers[index].name;
        if let Some(ran) = self.record.containers.get_mut(name) {
            (ran.started, ran.ready) = (probes.is_started(), probes.is_ready());
        }
        let dies = verdict == Verdict::Dead && cell.kill.is_none();
        if counts {
            self.remark(Remark::Container(index, Happening::Unhealthy(purpose, outcome)));
        }
        if dies {
            tracing::info!(pod = %self.spec.pod.meta.key, container = name, ?purpose, "failed its probe");
            self.cells[index].kill = Some(now + self.spec.grace);
            self.end(index, Why::Probe(purpose));
        }
    }

    fn remark(&self, remark: Remark) {
        // The kubelet ends where nobody listens.
        self.shared.remarks.send(event(&self.spec, &remark)).ok();
    }

    /// Every container has ended and none will run again.
    fn is_over(&self) -> bool {
        matches!(self.view().phase(), "Succeeded" | "Failed")
    }

    fn is_done(&self) -> bool {
        self.stop.is_some() && self.cells.iter().all(|cell| cell.process.is_none())
    }

    fn view(&self) -> View<'_> {
        let mut containers = Vec::new();
        for (index, (container, cell)) in
            self.spec.pod.containers.iter().zip(&self.cells).enumerate()
        {
            let program = self.program(index);
            let image_id = program.map(|it| it.path.to_string_lossy().into_owned());
            containers.push(ContainerView {
                name: &container.name,
                image: &container.image,
                image_id: image_id.unwrap_or_default(),
                role: self.spec.roles[index],
                policy: self.spec.policy_of(index),
                resources: self.spec.resources_of(index),
                ran: self.record.containers.get(&container.name),
                trouble: cell.trouble.as_ref(),
                waits: cell.waits,
            });
        }
        View {
            surroundings: &self.surroundings,
            started: &self.record.started,
            containers,
            identity: identity(&self.spec),
            generation: self.spec.generation(),
            has_sandbox: self.record.sandbox.is_some() || self.spec.pod.host_network,
            gates: self.spec.gates(),
            terminating: self.stop.is_some(),
            trouble: self.trouble.as_deref(),
        }
    }

    /// Notes down and publishes what changed.
    fn tell(&mut self) {
        let mut conditions = self.record.conditions.clone();
        let status = self.view().write(&mut conditions, &clock::now());
        self.record.conditions = conditions;
        self.save();
        self.status.put(status);
    }

    fn save(&mut self) {
        if self.saved.as_ref() == Some(&self.record) {
            return;
        }
        match self.shared.shelf.write(&self.uid, &self.record) {
            Ok(()) => self.saved = Some(self.record.clone()),
            Err(error) => tracing::error!(pod = %self.spec.pod.meta.key, %error, "not noted down"),
        }
    }

    async fn remove_sandbox(&mut self) {
        let Some(old) = self.record.sandbox.take() else { return };
        let network = self.network.borrow().clone();
        if let Err(error) = sandbox::remove(network.as_deref(), &self.spec, &old).await {
            tracing::warn!(pod = %self.spec.pod.meta.key, %error, "network not wholly removed");
        }
    }

    async fn remove(mut self) {
        self.remove_sandbox().await;
        let report = self.stop.as_ref().is_some_and(|stop| stop.report);
        let key = self.spec.pod.meta.key.clone();
        if report {
            // How its containers ended is known before it is gone.
            self.status.finish().await;
            publish::delete(&self.shared.client, &self.spec.pod.meta).await;
        }
        if let Err(error) = self.shared.shelf.remove(&self.uid) {
            tracing::warn!(pod = %key, %error, "record not removed");
        }
        // What was never made needs no removal.
        let root = &self.shared.config.root;
        for left in [volumes::directory(root, &self.uid), console::directory(root, &self.uid)] {
            std::fs::remove_dir_all(left).ok();
        }
        tracing::info!(pod = %key, "gone");
    }
}
