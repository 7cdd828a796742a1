//! Groups `batch`, `autoscaling`, `policy`, `coordination.k8s.io` and `scheduling.k8s.io`.

use super::columns::{AGE, Column, NAME, column, number, wide};
use super::{CORE, Kind, Resource, StatusRule};
use crate::table::{Cell, cluster, count, workload};

const BATCH: Resource = Resource {
    group: "batch",
    status: StatusRule::Separate,
    generation: true,
    categories: &["all"],
    ..CORE
};

pub(super) const JOB: Resource = Resource {
    kind: Kind::Job,
    name: "Job",
    plural: "jobs",
    singular: "job",
    columns: &[
        NAME,
        column("Status", Cell::Of(workload::job_status)),
        column("Completions", Cell::Of(workload::job_completions)),
        column("Duration", Cell::Timed(workload::job_duration)),
        AGE,
        wide("Containers", Cell::Of(workload::containers)),
        wide("Images", Cell::Of(workload::images)),
        wide("Selector", Cell::Of(workload::selector)),
    ],
    ..BATCH
};

pub(super) const CRON_JOB: Resource = Resource {
    kind: Kind::CronJob,
    name: "CronJob",
    plural: "cronjobs",
    singular: "cronjob",
    short_names: &["cj"],
    columns: &[
        NAME,
        column("Schedule", Cell::At("/spec/schedule")),
        column("Timezone", Cell::At("/spec/timeZone")),
        Column { shape: "boolean", ..column("Suspend", Cell::Of(workload::cron_suspend)) },
        number("Active", Cell::Of(workload::cron_active)),
        column("Last Schedule", Cell::Since("/status/lastScheduleTime")),
        AGE,
        wide("Containers", Cell::Of(workload::cron_containers)),
        wide("Images", Cell::Of(workload::cron_images)),
        wide("Selector", Cell::Of(workload::cron_selector)),
    ],
    ..BATCH
};

pub(super) const HORIZONTAL_POD_AUTOSCALER: Resource = Resource {
    kind: Kind::HorizontalPodAutoscaler,
    group: "autoscaling",
    version: "v2",
    name: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    short_names: &["hpa"],
    generation: false,
    columns: &[
        NAME,
        column("Reference", Cell::Of(count::scale_target)),
        column("Targets", Cell::Of(count::metric_targets)),
        column("MinPods", Cell::Of(count::minimum_pods)),
        column("MaxPods", Cell::Count("/spec/maxReplicas")),
        column("Replicas", Cell::Count("/status/currentReplicas")),
        AGE,
    ],
    ..BATCH
};

pub(super) const POD_DISRUPTION_BUDGET: Resource = Resource {
    kind: Kind::PodDisruptionBudget,
    group: "policy",
    name: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    singular: "poddisruptionbudget",
    short_names: &["pdb"],
    categories: &[],
    columns: &[
        NAME,
        column("Min Available", Cell::Of(count::minimum_available)),
        column("Max Unavailable", Cell::Of(count::maximum_unavailable)),
        number("Allowed Disruptions", Cell::Count("/status/disruptionsAllowed")),
        AGE,
    ],
    ..BATCH
};

pub(super) const LEASE: Resource = Resource {
    kind: Kind::Lease,
    group: "coordination.k8s.io",
    name: "Lease",
    plural: "leases",
    singular: "lease",
    columns: &[NAME, column("Holder", Cell::At("/spec/holderIdentity")), AGE],
    ..CORE
};

pub(super) const PRIORITY_CLASS: Resource = Resource {
    kind: Kind::PriorityClass,
    group: "scheduling.k8s.io",
    name: "PriorityClass",
    plural: "priorityclasses",
    singular: "priorityclass",
    short_names: &["pc"],
    namespaced: false,
    generation: true,
    columns: &[
        NAME,
        number("Value", Cell::Count("/value")),
        column("Global-Default", Cell::Of(cluster::global_default)),
        AGE,
        column("PreemptionPolicy", Cell::At("/preemptionPolicy")),
    ],
    ..CORE
};
