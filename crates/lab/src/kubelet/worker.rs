//! One pod, from its first sight to its end: a task of its own.
//!
//! ```text
//!            ┌──────── an order, an end of a process, an answer of a probe, a time that has come ────────┐
//!            ▼                                                                                           │
//!   note it ──► advance: sandbox? containers? probes? killing? ──► record on disk, status to the API ────┘
//! ```

use super::container::{Launch, ended, kill_group};
use super::plugins::Network;
use super::probe::{Probes, Purpose, Verdict};
use super::prober::{Target, probe};
use super::record::{Ended, Ran, Record, Running, Shelf};
use super::restart::Backoff;
use super::spec::{Role, Spec, SpecError, Surroundings};
use super::status::{ContainerView, View, is_foreign};
use super::{Config, clock, publish, sandbox};
use client::Client;
use kernel::process::{Process, Signal};
use model::{Container, Probe};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// How long a pod that vanished from the API has to end.
const GONE_GRACE: Duration = Duration::from_secs(1);
/// How long to wait before a network is asked for again that could not be had.
const SANDBOX_RETRY: Duration = Duration::from_millis(500);

/// What all pods of a node share.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) client: Client,
    pub(super) shelf: Shelf,
    /// The network plug-ins, once the agent has configured them.
    pub(super) network: Network,
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
    status: watch::Sender<Value>,
    /// When a network may be asked for again.
    retry: Option<Instant>,
    trouble: Option<String>,
    stop: Option<Stop>,
}

/// The pod shall end.
struct Stop {
    /// When what still runs is killed.
    deadline: Instant,
    killed: bool,
    /// The API waits for word that it is done.
    report: bool,
}

/// One container's life here; what must survive the kubelet is in its [`Ran`].
#[derive(Default)]
struct Cell {
    process: Option<Arc<Process>>,
    probes: Option<Probes>,
    launch: Option<Launch>,
    /// Counts processes, so that late news of an earlier one are known as such.
    generation: u32,
    since: Option<Instant>,
    backoff: Backoff,
    restart: Option<Instant>,
    /// When a container that failed its probes and was asked to end is killed.
    kill: Option<Instant>,
    trouble: Option<String>,
}

impl Worker {
    /// For a pod that is new, or that a kubelet before this one noted down.
    pub(super) fn new(
        shared: &Arc<Shared>,
        record: Record,
    ) -> Result<(Worker, mpsc::UnboundedSender<Event>), SpecError> {
        let spec = Spec::parse(&record.object)?;
        let (sender, events) = mpsc::unbounded_channel();
        let key = &spec.pod.meta.key;
        let status = publish::start(&shared.client, &key.namespace, &key.name);
        let surroundings = Surroundings {
            node: shared.config.node.clone(),
            host_ip: record.host_ip,
            pod_ips: Vec::new(),
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
            return (!stop.killed).then_some(stop.deadline);
        }
        let mut all: Vec<_> = self.retry.into_iter().collect();
        let mut may_start = !self.is_over();
        for (index, cell) in self.cells.iter().enumerate() {
            all.extend(cell.probes.as_ref().and_then(Probes::due));
            all.extend(cell.kill);
            all.extend(cell.restart.filter(|_| may_start));
            may_start &= !self.must_wait_for(index);
        }
        all.into_iter().min()
    }

    async fn note(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Updated(object) => match Spec::parse(&object) {
                Ok(mut spec) => {
                    // They never change but in their image, which means nothing here.
                    spec.pod.containers.clone_from(&self.spec.pod.containers);
                    (self.record.object, self.spec) = (object, spec);
                    self.note_deletion(now);
                    if is_foreign(self.record.object.get("status")) {
                        // Forgotten, it will be told anew.
                        self.status.send_if_modified(|last| {
                            *last = Value::Null;
                            false
                        });
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
            Event::Probed { index, generation, purpose, success } => {
                self.note_probe(index, generation, purpose, success, now);
            }
        }
    }

    fn note_deletion(&mut self, now: Instant) {
        if let Some(grace) = self.spec.deletion_grace() {
            self.begin_stop(grace, true, now);
        }
    }

    /// Asks all containers to end. Asked again, it can only become quicker.
    fn begin_stop(&mut self, grace: Duration, report: bool, now: Instant) {
        let deadline = now + grace;
        if let Some(stop) = &mut self.stop {
            stop.deadline = stop.deadline.min(deadline);
            stop.report = report;
            return;
        }
        self.stop = Some(Stop { deadline, killed: false, report });
        self.signal_all(Signal::SIGTERM);
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
        (cell.probes, cell.kill) = (None, None);
        let ran = self.record.containers.entry(name.clone()).or_default();
        let since = ran.running.take().map(|running| running.since).unwrap_or_default();
        let ended = Ended { exit_code: code, since, until: clock::now() };
        tracing::info!(pod = %self.spec.pod.meta.key, container = name, code = ended.code(), "ended");
        if self.spec.policy_of(index).restarts(ended.code()) {
            let lifetime = cell.since.map_or(Duration::MAX, |since| now - since);
            cell.restart = Some(now + cell.backoff.after(lifetime));
        }
        ran.last = Some(ended);
    }

    fn note_probe(
        &mut self,
        index: usize,
        generation: u32,
        purpose: Purpose,
        success: bool,
        now: Instant,
    ) {
        let cell = &mut self.cells[index];
        let Some(probes) = cell.probes.as_mut().filter(|_| cell.generation == generation) else {
            return;
        };
        let verdict = probes.conclude(purpose, success, now);
        let name = &self.spec.pod.containers[index].name;
        if let Some(ran) = self.record.containers.get_mut(name) {
            (ran.started, ran.ready) = (probes.is_started(), probes.is_ready());
        }
        if verdict == Verdict::Dead && cell.kill.is_none() {
            tracing::info!(pod = %self.spec.pod.meta.key, container = name, ?purpose, "failed its probe");
            cell.kill = Some(now + self.spec.grace);
            cell.probes = None;
            let process = cell.process.clone();
            if let Some(process) = process {
                self.signal(&process, Signal::SIGTERM);
            }
        }
    }

    /// Takes over what a kubelet before this one left running.
    async fn adopt(&mut self) {
        let intact = self.has_intact_sandbox().await;
        let now = Instant::now();
        for index in 0..self.cells.len() {
            let container = self.spec.pod.containers[index].clone();
            let Some(ran) = self.record.containers.get(&container.name).cloned() else { continue };
            let Some(running) = &ran.running else {
                let policy = self.spec.policy_of(index);
                let restarts = |ended: &Ended| policy.restarts(ended.code());
                self.cells[index].restart = ran.last.as_ref().is_some_and(restarts).then_some(now);
                continue;
            };
            // A kernel that cannot be asked counts as one that has no such process.
            match Process::recall(&running.identity()).ok().flatten() {
                Some(process) if intact => {
                    let probes = Probes::resumed(&container, ran.started, ran.ready, now);
                    self.plan(index);
                    self.attend(index, process, probes);
                }
                stranded => {
                    if let Some(process) = stranded {
                        self.signal(&process, Signal::SIGKILL);
                    }
                    let generation = self.cells[index].generation;
                    self.note_end(index, generation, None, now).await;
                }
            }
        }
        if self.stop.is_some() {
            self.signal_all(Signal::SIGTERM);
        }
    }

    /// A damaged one is taken away.
    async fn has_intact_sandbox(&mut self) -> bool {
        if self.spec.pod.host_network {
            self.surroundings.pod_ips = self.surroundings.host_ip.into_iter().collect();
            return true;
        }
        let Some(found) = self.record.sandbox.clone() else { return false };
        let network = self.network.borrow().clone();
        let intact = match &network {
            Some(network) => sandbox::is_intact(network, &self.spec, &found).await,
            None => found.netns.exists(),
        };
        if intact {
            self.surroundings.pod_ips = found.addresses;
            return true;
        }
        // Without the plug-ins its address would never be given back. Their sender lives as long as the kubelet.
        self.network.wait_for(Option::is_some).await.ok();
        self.remove_sandbox().await;
        false
    }

    async fn advance(&mut self) {
        let now = Instant::now();
        if self.stop.is_some() {
            return self.advance_stop(now);
        }
        if self.is_over() {
            return self.finish(now).await;
        }
        if !self.has_network(now).await {
            return;
        }
        let mut may_start = true;
        for index in 0..self.cells.len() {
            if self.cells[index].process.is_some() {
                self.advance_running(index, now);
            } else if may_start && self.is_due(index, now) {
                self.start(index).await;
            }
            may_start &= !self.must_wait_for(index);
        }
    }

    /// Of a pod that is over only sidecars can still run.
    async fn finish(&mut self, now: Instant) {
        for index in 0..self.cells.len() {
            let cell = &mut self.cells[index];
            if let Some(process) = cell.process.clone().filter(|_| cell.kill.is_none()) {
                cell.kill = Some(now + self.spec.grace);
                cell.probes = None;
                self.signal(&process, Signal::SIGTERM);
            }
            self.advance_running(index, now);
        }
        if self.cells.iter().all(|cell| cell.process.is_none()) {
            self.remove_sandbox().await;
        }
    }

    /// Later containers start only when this one has done its part.
    fn must_wait_for(&self, index: usize) -> bool {
        let ran = self.record.containers.get(&self.spec.pod.containers[index].name);
        match self.spec.roles[index] {
            Role::Main => false,
            Role::Sidecar => !ran.is_some_and(|ran| ran.running.is_some() && ran.started),
            Role::Init => !ran.is_some_and(Ran::has_succeeded),
        }
    }

    fn advance_stop(&mut self, now: Instant) {
        let Some(stop) = self.stop.as_mut().filter(|it| !it.killed && it.deadline <= now) else {
            return;
        };
        stop.killed = true;
        self.signal_all(Signal::SIGKILL);
    }

    /// Makes the sandbox where it is missing and can be made.
    async fn has_network(&mut self, now: Instant) -> bool {
        if self.spec.pod.host_network || self.record.sandbox.is_some() {
            return true;
        }
        let network = self.network.borrow_and_update().clone();
        let Some(network) = network.filter(|_| self.retry.is_none_or(|retry| retry <= now)) else {
            self.trouble.get_or_insert_with(|| "waiting for the pod network".to_owned());
            return false;
        };
        match sandbox::make(&network, &self.spec).await {
            Ok(made) => {
                self.surroundings.pod_ips.clone_from(&made.addresses);
                self.record.sandbox = Some(made);
                (self.retry, self.trouble) = (None, None);
                // An address that is forgotten is never given back.
                self.save();
                true
            }
            Err(error) => {
                let error = crate::error::chain(&error);
                tracing::warn!(pod = %self.spec.pod.meta.key, error, "no network");
                self.retry = Some(now + SANDBOX_RETRY);
                self.trouble = Some(error);
                false
            }
        }
    }

    /// Whether a container that does not run shall be started now.
    fn is_due(&self, index: usize, now: Instant) -> bool {
        let ran = self.record.containers.get(&self.spec.pod.containers[index].name);
        let is_new = ran.is_none_or(|ran| ran.last.is_none());
        self.cells[index].restart.map_or(is_new, |restart| restart <= now)
    }

    fn advance_running(&mut self, index: usize, now: Instant) {
        let cell = &mut self.cells[index];
        let Some(process) = cell.process.clone() else { return };
        if cell.kill.is_some_and(|kill| kill <= now) {
            cell.kill = None;
            self.signal(&process, Signal::SIGKILL);
        }
        let purposes = self.cells[index].probes.as_mut().map(|probes| probes.begin(now));
        for purpose in purposes.unwrap_or_default() {
            self.probe(index, purpose);
        }
    }

    fn plan(&mut self, index: usize) -> Launch {
        let container = &self.spec.pod.containers[index];
        let key = &self.spec.pod.meta.key;
        let config = &self.shared.config;
        let log = config.pod_logs.join(format!("{}_{}", key.namespace, key.name));
        let netns = self.record.sandbox.as_ref().map(|sandbox| sandbox.netns.as_path());
        let log = log.join(format!("{}.log", container.name));
        let launch = Launch::plan(&self.spec, index, &self.surroundings, netns, log);
        self.cells[index].launch.insert(launch).clone()
    }

    async fn start(&mut self, index: usize) {
        let launch = self.plan(index);
        let started = tokio::task::spawn_blocking(move || launch.start()).await;
        let now = Instant::now();
        let cell = &mut self.cells[index];
        cell.restart = None;
        match started {
            Ok(Ok(process)) => {
                let container = &self.spec.pod.containers[index];
                let probes = Probes::new(container, now);
                let running = Running::new(process.identity(), clock::now());
                let ran = self.record.containers.entry(container.name.clone()).or_default();
                ran.restarts += u32::from(ran.last.is_some());
                ran.running = Some(running);
                (ran.started, ran.ready) = (probes.is_started(), probes.is_ready());
                cell.trouble = None;
                // A process that is forgotten would be started twice.
                self.save();
                self.attend(index, process, probes);
            }
            Ok(Err(error)) => {
                cell.trouble = Some(crate::error::chain(&error));
                cell.restart = Some(now + cell.backoff.after(Duration::ZERO));
            }
            // Only a runtime that ends cancels blocking work.
            Err(_) => {}
        }
    }

    /// From now on the process is heard of when it ends, and probed.
    fn attend(&mut self, index: usize, process: Process, probes: Probes) {
        let process = Arc::new(process);
        let cell = &mut self.cells[index];
        cell.generation += 1;
        cell.since = Some(Instant::now());
        cell.probes = Some(probes);
        cell.process = Some(Arc::clone(&process));
        let (generation, sender) = (cell.generation, self.sender.clone());
        tokio::spawn(async move {
            let code = ended(process).await;
            // Nobody listens any more where the worker has ended.
            sender.send(Event::Ended { index, generation, code }).ok();
        });
        self.advance_running(index, Instant::now());
    }

    fn probe(&self, index: usize, purpose: Purpose) {
        let container = &self.spec.pod.containers[index];
        let cell = &self.cells[index];
        let (Some(spec), Some(launch)) = (probe_of(container, purpose), cell.launch.clone()) else {
            return;
        };
        let target = Target {
            address: self.surroundings.pod_ips.first().copied(),
            container: container.clone(),
            launch,
        };
        let (generation, sender) = (cell.generation, self.sender.clone());
        let Probe { action, timeout, .. } = spec.clone();
        tokio::spawn(async move {
            let success = probe(action, &target, timeout).await;
            // Nobody listens any more where the worker has ended.
            sender.send(Event::Probed { index, generation, purpose, success }).ok();
        });
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
            containers.push(ContainerView {
                name: &container.name,
                image: &container.image,
                role: self.spec.roles[index],
                policy: self.spec.policy_of(index),
                ran: self.record.containers.get(&container.name),
                trouble: cell.trouble.as_deref(),
            });
        }
        View {
            surroundings: &self.surroundings,
            started: &self.record.started,
            containers,
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
        self.status.send_if_modified(|last| {
            let is_new = *last != status;
            *last = status;
            is_new
        });
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
            publish::delete(&self.shared.client, &key.namespace, &key.name).await;
        }
        if let Err(error) = self.shared.shelf.remove(&self.uid) {
            tracing::warn!(pod = %key, %error, "record not removed");
        }
        tracing::info!(pod = %key, "gone");
    }
}

fn probe_of(container: &Container, purpose: Purpose) -> Option<&Probe> {
    match purpose {
        Purpose::Startup => container.startup.as_ref(),
        Purpose::Readiness => container.readiness.as_ref(),
        Purpose::Liveness => container.liveness.as_ref(),
    }
}
