//! Images of containers: what stands for them, or why nothing does.

use super::Worker;
use crate::image::{Found, Program};
use crate::kubelet::remark::{Happening, Remark};
use crate::kubelet::status::Trouble;
use std::time::{Duration, Instant};

impl Worker {
    /// What stands for the container's image, where that is a program.
    pub(super) fn program(&self, index: usize) -> Option<Program> {
        self.found(index).program().cloned()
    }

    /// Whether the container has its image. One that has none waits, and asks again.
    pub(super) fn pull(&mut self, index: usize) -> bool {
        let container = &self.spec.pod.containers[index];
        let image = container.image.clone();
        let never = self.spec.written(container).is_some_and(|it| it["imagePullPolicy"] == "Never");
        let told = match self.found(index) {
            Found::Program(_) | Found::BuiltIn => return true,
            Found::Malformed => Happening::Malformed(image),
            Found::Absent if never => Happening::NeverPull(image),
            Found::Absent if self.is_refused(index) => Happening::PullBackOff(image),
            Found::Absent => {
                self.remark(Remark::Container(index, Happening::Pulling));
                Happening::NotPulled(image)
            }
        };
        let (reason, message) = told.waiting().expect("each of these says why a container waits");
        let cell = &mut self.cells[index];
        cell.restart = Some(Instant::now() + cell.backoff.after(Duration::ZERO));
        cell.trouble = Some(Trouble::Image { reason, message });
        self.remark(Remark::Container(index, told));
        self.remark(Remark::Container(index, Happening::Failed(reason.to_owned())));
        false
    }

    /// Containers that wait for their image may be given another one.
    pub(super) fn note_images(&mut self, now: Instant) {
        for index in 0..self.cells.len() {
            if self.is_refused(index) && self.found(index) != Found::Absent {
                self.cells[index].restart = Some(now);
            }
        }
    }

    fn is_refused(&self, index: usize) -> bool {
        matches!(self.cells[index].trouble, Some(Trouble::Image { .. }))
    }

    fn found(&self, index: usize) -> Found<'_> {
        match &*self.spec.pod.containers[index].image {
            // An object that the API did not check.
            "" => Found::BuiltIn,
            image => self.shared.config.images.find(image),
        }
    }
}
