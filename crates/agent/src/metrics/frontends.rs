//! Service ports that this node has no endpoint for, counted as changes come.

use super::Metrics;
use model::Family;
use program::{Action, Binding, Change, Frontend, FrontendKind, Program, ServicePortName};
use std::collections::BTreeMap;

/// How many front ends of a Service port drop connections because only endpoints elsewhere are left.
#[derive(Debug, Default)]
pub(crate) struct Frontends(BTreeMap<(Family, Policy, ServicePortName), usize>);

/// Which traffic policy it is that leaves connections without an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Policy {
    Internal,
    External,
}

impl Frontends {
    /// Counts a program from the beginning.
    pub(crate) fn follow(&mut self, program: &Program, metrics: &Metrics) {
        self.0.clear();
        for (frontend, binding) in program.services.iter() {
            self.take(frontend, binding);
        }
        self.tell(metrics);
    }

    pub(crate) fn change(&mut self, changes: &[Change], metrics: &Metrics) {
        let mut touched = false;
        for change in changes {
            let Change::Frontend { frontend, before, after } = change else { continue };
            touched |= [before, after].into_iter().flatten().any(|it| policy(it).is_some());
            if let Some(binding) = before {
                self.release(frontend, binding);
            }
            if let Some(binding) = after {
                self.take(frontend, binding);
            }
        }
        if touched {
            self.tell(metrics);
        }
    }

    fn take(&mut self, frontend: &Frontend, binding: &Binding) {
        if let Some(policy) = policy(binding) {
            let key = (frontend.scope.family(), policy, binding.port.clone());
            *self.0.entry(key).or_default() += 1;
        }
    }

    fn release(&mut self, frontend: &Frontend, binding: &Binding) {
        let Some(policy) = policy(binding) else { return };
        let key = (frontend.scope.family(), policy, binding.port.clone());
        let left = self.0.get_mut(&key).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            self.0.remove(&key);
        }
    }

    fn tell(&self, metrics: &Metrics) {
        for family in Family::ALL {
            let count = |policy| {
                let number = self.0.keys().filter(|(of, is, _)| (*of, *is) == (family, policy));
                u32::try_from(number.count()).unwrap_or(u32::MAX).into()
            };
            metrics.of(family).no_local_internal.set(count(Policy::Internal));
            metrics.of(family).no_local_external.set(count(Policy::External));
        }
    }
}

fn policy(binding: &Binding) -> Option<Policy> {
    let without = match &binding.action {
        Action::Drop => true,
        Action::BySource { outside, .. } => outside.is_none(),
        Action::Balance { .. } | Action::Reject => false,
    };
    let policy = match binding.kind {
        FrontendKind::ClusterIp => Policy::Internal,
        _ => Policy::External,
    };
    without.then_some(policy)
}
