//! What may need to be looked at again.

use crate::settings::Controller;
use model::ObjectKey;
use std::sync::Arc;

/// One thing to reconcile. The order is that of urgency: traffic first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Task {
    /// The slices of a Service.
    Slices(ObjectKey),
    /// The slices of Endpoints written by hand.
    Mirror(ObjectKey),
    /// The Endpoints of a Service.
    Endpoints(ObjectKey),
    /// Whether a node is alive.
    NodeLife(Arc<str>),
    /// Pods that a node's taints drive away.
    TaintEviction(Arc<str>),
    NodeCidr(Arc<str>),
    /// A pod that waits for a node.
    Schedule(ObjectKey),
    ReplicaSet(ObjectKey),
    ReplicationController(ObjectKey),
    Deployment(ObjectKey),
    StatefulSet(ObjectKey),
    DaemonSet(ObjectKey),
    Job(ObjectKey),
    CronJob(ObjectKey),
}

impl Task {
    /// Whose work it is.
    pub(crate) fn controller(&self) -> Controller {
        match self {
            Task::Slices(_) => Controller::EndpointSlice,
            Task::Mirror(_) => Controller::EndpointSliceMirroring,
            Task::Endpoints(_) => Controller::Endpoints,
            Task::NodeLife(_) => Controller::NodeLifecycle,
            Task::TaintEviction(_) => Controller::TaintEviction,
            Task::NodeCidr(_) => Controller::NodeIpam,
            Task::Schedule(_) => Controller::Scheduler,
            Task::ReplicaSet(_) => Controller::ReplicaSet,
            Task::ReplicationController(_) => Controller::ReplicationController,
            Task::Deployment(_) => Controller::Deployment,
            Task::StatefulSet(_) => Controller::StatefulSet,
            Task::DaemonSet(_) => Controller::DaemonSet,
            Task::Job(_) => Controller::Job,
            Task::CronJob(_) => Controller::CronJob,
        }
    }
}
