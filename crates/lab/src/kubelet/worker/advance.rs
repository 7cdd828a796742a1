//! A worker's every step: from how the pod is to how it should be.

use super::{Event, SANDBOX_RETRY, Worker};
use crate::console::socket;
use crate::kubelet::console::{self, Console};
use crate::kubelet::container::{Launch, Setting, Started, ended};
use crate::kubelet::environment::{self, SourceError, Sources};
use crate::kubelet::probe::{Probes, Purpose};
use crate::kubelet::prober::{Target, probe};
use crate::kubelet::record::{Ran, Running};
use crate::kubelet::remark::{Happening, Remark, Why};
use crate::kubelet::spec::Role;
use crate::kubelet::status::Trouble;
use crate::kubelet::volumes::{Surface, Volumes};
use crate::kubelet::{clock, marks, sandbox};
use kernel::process::{Process, Signal};
use model::{Container, Probe};
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Worker {
    pub(super) async fn advance(&mut self) {
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
            } else if (may_start || self.spec.roles[index] == Role::Ephemeral)
                && self.is_due(index, now)
            {
                self.start(index).await;
            }
            may_start &= !self.must_wait_for(index);
        }
    }

    /// Of a pod that is over only sidecars can still run.
    async fn finish(&mut self, now: Instant) {
        for index in 0..self.cells.len() {
            let cell = &mut self.cells[index];
            if cell.process.is_some() && cell.kill.is_none() {
                cell.kill = Some(now + self.spec.grace);
                self.end(index, Why::Stop);
            }
            self.advance_running(index, now);
        }
        if self.cells.iter().all(|cell| cell.process.is_none()) {
            self.remove_sandbox().await;
        }
    }

    /// Later containers start only when this one has done its part.
    pub(super) fn must_wait_for(&self, index: usize) -> bool {
        let ran = self.record.containers.get(&self.spec.pod.containers[index].name);
        match self.spec.roles[index] {
            Role::Main | Role::Ephemeral => false,
            Role::Sidecar => !ran.is_some_and(|ran| ran.running.is_some() && ran.started),
            Role::Init => !ran.is_some_and(Ran::has_succeeded),
        }
    }

    /// Makes the sandbox where it is missing and can be made.
    async fn has_network(&mut self, now: Instant) -> bool {
        if self.spec.pod.host_network || self.record.sandbox.is_some() {
            return true;
        }
        let network = self.network.borrow_and_update().clone();
        let Some(network) = network.filter(|_| self.retry.is_none_or(|retry| retry <= now)) else {
            if self.trouble.is_none() {
                let why = "waiting for the pod network".to_owned();
                self.trouble = Some(why.clone());
                self.remark(Remark::NetworkNotReady(why));
            }
            return false;
        };
        // That it has none yet is a state of its own.
        self.tell();
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
                self.remark(Remark::NoSandbox(error.clone()));
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

    pub(super) fn advance_running(&mut self, index: usize, now: Instant) {
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

    pub(super) fn plan(&mut self, index: usize) -> Launch {
        let container = &self.spec.pod.containers[index];
        let netns = self.record.sandbox.as_ref().map(|sandbox| sandbox.netns.clone());
        let log = self.logs().join(format!("{}.log", container.name));
        let mounts = self.spec.written(container).map(|it| self.volumes().mounts(it));
        let mounts = mounts.unwrap_or_default();
        let setting = Setting { program: self.program(index), netns, log, mounts };
        let mut launch = Launch::plan(&self.spec, index, &self.surroundings, setting);
        let manner = self.spec.written(container).and_then(console::manner);
        launch.console = manner.map(|manner| Console {
            manner,
            socket: socket(&self.shared.config.root, &self.uid, &container.name),
        });
        self.cells[index].launch.insert(launch).clone()
    }

    /// Reads what the container is to be told: Services, and the contents of ConfigMaps and Secrets.
    pub(super) async fn learn(&mut self, index: usize) -> Result<(), SourceError> {
        let (container, namespace) =
            (&self.spec.pod.containers[index], self.spec.pod.meta.key.namespace.clone());
        let services = self.shared.services.borrow().clone();
        self.surroundings.services =
            environment::of_services(&services, &namespace, self.spec.wants_links());
        self.surroundings.sources = match self.spec.written(container) {
            Some(written) => Sources::fetch(&self.shared.client, &namespace, written).await?,
            None => Sources::default(),
        };
        self.volumes().name(&services, &self.surroundings)?;
        if let Some(written) = self.spec.written(container) {
            self.volumes().fill(&self.shared.client, written, &self.surroundings).await?;
        }
        Ok(())
    }

    /// The log of an earlier run makes room.
    fn turn_log(&self, index: usize, launch: &Launch) {
        let name = &self.spec.pod.containers[index].name;
        let has_run = self.record.containers.get(name).is_some_and(|ran| ran.last.is_some());
        if has_run && let Err(error) = marks::turn(&launch.log) {
            tracing::warn!(pod = %self.spec.pod.meta.key, %error, "two runs share a log");
        }
    }

    /// Commands from outside do without what could not be noted.
    fn note_surface(&self, index: usize, launch: &Launch) {
        let Launch { environment, directory, mounts, program, .. } = launch.clone();
        let (root, name) = (&self.shared.config.root, &self.spec.pod.containers[index].name);
        if let Err(error) =
            (Surface { environment, directory, mounts, program }).note(root, &self.uid, name)
        {
            tracing::warn!(pod = %self.spec.pod.meta.key, %error, "not noted down");
        }
    }

    fn volumes(&self) -> Volumes<'_> {
        Volumes::new(&self.spec, &self.shared.config.root)
    }

    async fn start(&mut self, index: usize) {
        if !self.pull(index) {
            return;
        }
        if let Err(error) = self.learn(index).await {
            return self.note_ignorance(index, &error);
        }
        self.remark(Remark::Container(index, Happening::Pulled));
        let launch = self.plan(index);
        self.note_surface(index, &launch);
        self.turn_log(index, &launch);
        let started = tokio::task::spawn_blocking(move || launch.start()).await;
        let now = Instant::now();
        let cell = &mut self.cells[index];
        (cell.restart, cell.waits) = (None, None);
        match started {
            Ok(Ok(Started { process, holder })) => {
                cell.holder = holder.map(Arc::new);
                let container = &self.spec.pod.containers[index];
                // What is to be done first holds up the probes, and with them what waits for the container.
                let hook = container.lifecycle.post_start.clone();
                let probes = hook.is_none().then(|| Probes::new(container, now));
                let running = Running::new(process.identity(), clock::now());
                let ran = self.record.containers.entry(container.name.clone()).or_default();
                ran.restarts += u32::from(ran.last.is_some());
                ran.running = Some(running);
                (ran.started, ran.ready) = match &probes {
                    Some(probes) => (probes.is_started(), probes.is_ready()),
                    None => (false, false),
                };
                cell.trouble = None;
                // A process that is forgotten would be started twice.
                self.save();
                self.remark(Remark::Container(index, Happening::Created));
                self.remark(Remark::Container(index, Happening::Started));
                self.attend(index, process, probes);
                if let Some(hook) = hook {
                    self.begin_post_start(index, hook);
                }
            }
            Ok(Err(error)) => {
                let why = crate::error::chain(&error);
                cell.trouble = Some(Trouble::Start(why.clone()));
                cell.restart = Some(now + cell.backoff.after(Duration::ZERO));
                self.remark(Remark::Container(index, Happening::Failed(why)));
            }
            // Only a runtime that ends cancels blocking work.
            Err(_) => {}
        }
    }

    /// It cannot be told what it is to be told, and waits for that.
    fn note_ignorance(&mut self, index: usize, error: &SourceError) {
        let why = error.to_string();
        let cell = &mut self.cells[index];
        cell.restart = Some(Instant::now() + cell.backoff.after(Duration::ZERO));
        if matches!(error, SourceError::Mount { .. }) {
            cell.trouble = Some(Trouble::Mount);
            return self.remark(Remark::NotMounted(why));
        }
        cell.trouble = Some(Trouble::Configuration(why.clone()));
        self.remark(Remark::Container(index, Happening::Failed(why)));
    }

    /// From now on the process is heard of when it ends, and probed.
    pub(super) fn attend(&mut self, index: usize, process: Process, probes: Option<Probes>) {
        let process = Arc::new(process);
        let cell = &mut self.cells[index];
        cell.generation += 1;
        cell.since = Some(Instant::now());
        (cell.probes, cell.ending) = (probes, false);
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
        let target = self.target(index, launch);
        let (generation, sender) = (cell.generation, self.sender.clone());
        let Probe { action, timeout, .. } = spec.clone();
        tokio::spawn(async move {
            let outcome = probe(action, &target, timeout).await;
            // Nobody listens any more where the worker has ended.
            sender.send(Event::Probed { index, generation, purpose, outcome }).ok();
        });
    }

    pub(super) fn target(&self, index: usize, launch: Launch) -> Target {
        Target {
            address: self.surroundings.pod_ips.first().copied(),
            container: self.spec.pod.containers[index].clone(),
            launch,
        }
    }
}

fn probe_of(container: &Container, purpose: Purpose) -> Option<&Probe> {
    match purpose {
        Purpose::Startup => container.startup.as_ref(),
        Purpose::Readiness => container.readiness.as_ref(),
        Purpose::Liveness => container.liveness.as_ref(),
    }
}
