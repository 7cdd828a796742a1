//! Group `events.k8s.io`: the core group's events with newer names for their fields.

use super::form::Renamed;
use super::{Resource, core};

const fn renamed(stored: &'static str, here: &'static str) -> Renamed {
    Renamed { stored, here }
}

/// <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>
pub(super) const EVENT: Resource = Resource {
    group: "events.k8s.io",
    renamed: &[
        renamed("involvedObject", "regarding"),
        renamed("message", "note"),
        renamed("reportingComponent", "reportingController"),
        renamed("source", "deprecatedSource"),
        renamed("firstTimestamp", "deprecatedFirstTimestamp"),
        renamed("lastTimestamp", "deprecatedLastTimestamp"),
        renamed("count", "deprecatedCount"),
    ],
    ..core::EVENT
};
