//! How containers end: what they want done before, then SIGTERM, then, when their time is up, SIGKILL.
//! Sidecars go when the containers that they serve are gone.

use super::{Event, Worker};
use crate::kubelet::probe::Probes;
use crate::kubelet::prober::perform;
use crate::kubelet::remark::{Happening, Remark, Why};
use crate::kubelet::spec::Role;
use kernel::process::Signal;
use model::object::lifecycle::Hook;
use std::time::{Duration, Instant};

/// What a container gets at least after its `preStop`, however long that took.
const LEAST: Duration = Duration::from_secs(2);
/// What is to be done after a container's start may take so long.
const POST_START: Duration = Duration::from_secs(60);

/// The pod shall end.
pub(super) struct Stop {
    /// When what still runs is killed.
    pub(super) deadline: Instant,
    pub(super) killed: bool,
    /// The API waits for word that it is done.
    pub(super) report: bool,
}

impl Worker {
    /// Asks all containers to end. Asked again, it can only become quicker.
    pub(super) fn begin_stop(&mut self, grace: Duration, report: bool, now: Instant) {
        let deadline = now + grace;
        if let Some(stop) = &mut self.stop {
            stop.deadline = stop.deadline.min(deadline);
            stop.report = report;
            return;
        }
        self.stop = Some(Stop { deadline, killed: false, report });
        self.end_all(now);
    }

    pub(super) fn advance_stop(&mut self, now: Instant) {
        for index in 0..self.cells.len() {
            self.advance_running(index, now);
        }
        let Some(stop) = self.stop.as_mut().filter(|it| !it.killed && it.deadline <= now) else {
            return;
        };
        stop.killed = true;
        self.signal_all(Signal::SIGKILL);
    }

    /// Asks those to end whose turn it is.
    pub(super) fn end_all(&mut self, now: Instant) {
        let mut cells = self.cells.iter().zip(&self.spec.roles);
        let served = cells.any(|(cell, role)| *role != Role::Sidecar && cell.process.is_some());
        for index in 0..self.cells.len() {
            if self.spec.roles[index] != Role::Sidecar || !served {
                self.end(index, Why::Stop);
            }
        }
        self.advance_stop(now);
    }

    /// Asks a container to end, once. It is probed on for its readiness: it may go on serving for a while.
    pub(super) fn end(&mut self, index: usize, why: Why) {
        let cell = &mut self.cells[index];
        if cell.process.is_none() || std::mem::replace(&mut cell.ending, true) {
            return;
        }
        if let Some(probes) = &mut cell.probes {
            probes.end();
        }
        self.remark(Remark::Container(index, Happening::Killing(why)));
        match self.spec.pod.containers[index].lifecycle.pre_stop.clone() {
            Some(hook) => self.begin_pre_stop(index, hook),
            None => self.terminate(index),
        }
    }

    fn terminate(&self, index: usize) {
        if let Some(process) = &self.cells[index].process {
            self.signal(process, Signal::SIGTERM);
        }
    }

    fn begin_pre_stop(&self, index: usize, hook: Hook) {
        let cell = &self.cells[index];
        let Some(launch) = cell.launch.clone() else { return self.terminate(index) };
        let (target, grace) = (self.target(index, launch), self.spec.grace);
        let (generation, sender) = (cell.generation, self.sender.clone());
        tokio::spawn(async move {
            // Done or not, the container is asked to end now.
            let success = perform(hook, &target, grace).await;
            // Nobody listens any more where the worker has ended.
            sender.send(Event::PreStopped { index, generation, success }).ok();
        });
    }

    pub(super) fn note_pre_stop(
        &mut self,
        index: usize,
        generation: u32,
        success: bool,
        now: Instant,
    ) {
        if self.cells[index].generation != generation {
            return;
        }
        if !success {
            self.remark(Remark::Container(index, Happening::PreStopFailed));
        }
        if let Some(stop) = self.stop.as_mut().filter(|stop| !stop.killed) {
            stop.deadline = stop.deadline.max(now + LEAST);
        }
        self.terminate(index);
    }

    pub(super) fn begin_post_start(&self, index: usize, hook: Hook) {
        let cell = &self.cells[index];
        let Some(launch) = cell.launch.clone() else { return };
        let target = self.target(index, launch);
        let (generation, sender) = (cell.generation, self.sender.clone());
        tokio::spawn(async move {
            let success = perform(hook, &target, POST_START).await;
            // Nobody listens any more where the worker has ended.
            sender.send(Event::PostStarted { index, generation, success }).ok();
        });
    }

    pub(super) fn note_post_start(
        &mut self,
        index: usize,
        generation: u32,
        success: bool,
        now: Instant,
    ) {
        let cell = &mut self.cells[index];
        if cell.generation != generation || cell.process.is_none() || cell.ending {
            return;
        }
        if !success {
            tracing::info!(pod = %self.spec.pod.meta.key, index, "postStart failed");
            cell.kill = Some(now + self.spec.grace);
            self.remark(Remark::Container(index, Happening::PostStartFailed));
            return self.end(index, Why::PostStart);
        }
        let container = &self.spec.pod.containers[index];
        let probes = Probes::new(container, now);
        if let Some(ran) = self.record.containers.get_mut(&container.name) {
            (ran.started, ran.ready) = (probes.is_started(), probes.is_ready());
        }
        cell.probes = Some(probes);
        self.advance_running(index, now);
    }
}
