//! A worker's beginning: taking over what a kubelet before this one left.

use super::Worker;
use crate::kubelet::probe::Probes;
use crate::kubelet::record::Ended;
use crate::kubelet::remark::Remark;
use crate::kubelet::sandbox;
use kernel::process::{Process, Signal};
use std::time::{Duration, Instant};

/// How long the API may take to say what a container is told.
const PATIENCE: Duration = Duration::from_secs(2);

impl Worker {
    /// Takes over what a kubelet before this one left running.
    pub(super) async fn adopt(&mut self) {
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
                    // Its probes do without what cannot be read now.
                    tokio::time::timeout(PATIENCE, self.learn(index)).await.ok();
                    self.plan(index);
                    self.attend(index, process, Some(probes));
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
            self.end_all(Instant::now());
        }
    }

    /// A damaged one is taken away.
    async fn has_intact_sandbox(&mut self) -> bool {
        if self.spec.pod.host_network {
            self.surroundings.pod_ips = self.surroundings.host_ips.clone();
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
        self.remark(Remark::SandboxChanged);
        self.remove_sandbox().await;
        false
    }
}
