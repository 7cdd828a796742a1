//! A pod's `status`, from what is known of it. Pure.

mod condition;

use super::prober::spelled;
use super::record::{Ended, Ran};
use super::restart::Policy;
use super::spec::{Role, Surroundings};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const NOT_READY: &str = "ContainersNotReady";
/// The reasons for not being ready that a kubelet gives, and nobody else.
const OWN_REASONS: [&str; 4] = [NOT_READY, COMPLETED, FAILED, GATED];
const COMPLETED: &str = "PodCompleted";
const FAILED: &str = "PodFailed";
const GATED: &str = "ReadinessGatesNotReady";

/// What a pod's status depends on.
pub(super) struct View<'a> {
    pub(super) surroundings: &'a Surroundings,
    pub(super) started: &'a str,
    /// The pod, as messages name it.
    pub(super) identity: String,
    /// Of the pod as it was seen last.
    pub(super) generation: Option<i64>,
    pub(super) has_sandbox: bool,
    /// Conditions of others that must be true, and what they are.
    pub(super) gates: Vec<(&'a str, Option<&'a str>)>,
    pub(super) containers: Vec<ContainerView<'a>>,
    pub(super) terminating: bool,
    /// Why it does not run yet.
    pub(super) trouble: Option<&'a str>,
}

pub(super) struct ContainerView<'a> {
    pub(super) name: &'a str,
    pub(super) image: &'a str,
    /// What stands for it here, where that is a program.
    pub(super) image_id: String,
    pub(super) role: Role,
    pub(super) policy: Policy,
    /// What it is given, as its spec says it; nothing is enforced.
    pub(super) resources: Option<&'a Value>,
    pub(super) ran: Option<&'a Ran>,
    /// What the last start failed with.
    pub(super) trouble: Option<&'a Trouble>,
    /// How long it waits for its restart.
    pub(super) waits: Option<Duration>,
}

/// Why a container was not started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Its environment could not be had.
    Configuration(String),
    /// A volume could not be had: what people hear in an Event.
    Mount,
    Start(String),
    /// Its image could not be had.
    Image {
        reason: &'static str,
        message: String,
    },
}

impl ContainerView<'_> {
    fn is_ready(&self) -> bool {
        match self.role {
            Role::Ephemeral => false,
            Role::Init => self.ran.is_some_and(Ran::has_succeeded),
            Role::Sidecar | Role::Main => {
                self.ran.is_some_and(|ran| ran.running.is_some() && ran.ready)
            }
        }
    }

    fn has_begun(&self) -> bool {
        self.ran.is_some_and(|ran| ran.running.is_some() || ran.last.is_some())
    }

    /// How it ended, if it will not run again.
    fn over(&self) -> Option<&Ended> {
        let ran = self.ran.filter(|ran| ran.running.is_none())?;
        ran.last.as_ref().filter(|ended| !self.policy.restarts(ended.code()))
    }

    fn is_initialized(&self) -> bool {
        match self.role {
            Role::Init => self.ran.is_some_and(Ran::has_succeeded),
            Role::Sidecar => self.ran.is_some_and(|ran| ran.started),
            Role::Main | Role::Ephemeral => true,
        }
    }
}

impl View<'_> {
    /// `status.phase`.
    pub(super) fn phase(&self) -> &'static str {
        let failed = |it: &&ContainerView<'_>| it.over().is_some_and(|ended| ended.code() != 0);
        let of_role = |role: Role| self.containers.iter().filter(move |it| it.role == role);
        if of_role(Role::Init).any(|it| failed(&it)) {
            return "Failed";
        }
        if of_role(Role::Main).all(|it| it.over().is_some()) {
            return if of_role(Role::Main).any(|it| failed(&it)) { "Failed" } else { "Succeeded" };
        }
        if of_role(Role::Main).all(ContainerView::has_begun) { "Running" } else { "Pending" }
    }

    /// The patch that makes the status this one: lists of the API that are merged say so. `conditions` keeps when each condition last changed, and learns of changes `now`.
    pub(super) fn write(
        &self,
        conditions: &mut BTreeMap<String, (bool, String)>,
        now: &str,
    ) -> Value {
        let mut status = json!({
            "observedGeneration": self.generation,
            "phase": self.phase(),
            "startTime": self.started,
            "message": self.trouble,
            "initContainerStatuses": self.containers(|role| matches!(role, Role::Init | Role::Sidecar)),
            "ephemeralContainerStatuses": self.containers(|role| role == Role::Ephemeral),
            "containerStatuses": self.containers(|role| role == Role::Main),
            "conditions": self.conditions(conditions, now),
        });
        let entry = |ip: &std::net::IpAddr| json!({"ip": ip});
        if let Some(first) = self.surroundings.host_ips.first() {
            status["hostIP"] = json!(first);
            status["hostIPs"] = self.surroundings.host_ips.iter().map(entry).collect();
        }
        if let Some(first) = self.surroundings.pod_ips.first() {
            status["podIP"] = json!(first);
            // Addresses of an earlier sandbox are not kept beside the new ones.
            let entries = self.surroundings.pod_ips.iter().map(entry);
            status["podIPs"] = entries.chain([json!({"$patch": "replace"})]).collect();
        }
        status
    }

    /// Null where there are none.
    fn containers(&self, wanted: impl Fn(Role) -> bool) -> Value {
        let listed = self.containers.iter().filter(|it| wanted(it.role));
        match listed.map(|it| without_nulls(self.container(it))).collect::<Vec<_>>() {
            none if none.is_empty() => Value::Null,
            some => some.into(),
        }
    }

    fn container(&self, container: &ContainerView<'_>) -> Value {
        let ran = container.ran;
        let running = ran.and_then(|ran| ran.running.as_ref());
        let last = ran.and_then(|ran| ran.last.as_ref());
        // One that ended in a pod that ends is not waiting for its restart.
        let ends = self.terminating || matches!(self.phase(), "Succeeded" | "Failed");
        let over = if ends { last } else { container.over() };
        let (state, before) = match (running, over) {
            (Some(running), _) => (json!({"running": {"startedAt": running.since}}), last),
            (None, Some(ended)) => (ended_state(ended), None),
            (None, None) => (self.waiting(container, last), last),
        };
        let id = running.map(|it| format!("podway://{}-{}", it.pid, it.ticks));
        let resources = container.resources.filter(|_| container.has_begun());
        json!({
            "name": container.name,
            "image": container.image,
            "imageID": container.image_id,
            "containerID": id,
            "ready": container.is_ready(),
            // Nobody probes a guest.
            "started": (container.role != Role::Ephemeral)
                .then(|| ran.is_some_and(|ran| ran.running.is_some() && ran.started)),
            "restartCount": ran.map_or(0, |ran| ran.restarts),
            "resources": resources,
            "allocatedResources": resources.and_then(|it| it.get("requests")),
            "state": state,
            "lastState": before.map_or_else(|| json!({}), ended_state),
        })
    }

    fn waiting(&self, container: &ContainerView<'_>, last: Option<&Ended>) -> Value {
        let (reason, message) = match (container.trouble, last) {
            (Some(Trouble::Configuration(why)), _) => {
                ("CreateContainerConfigError", Some(why.clone()))
            }
            (Some(Trouble::Start(why)), _) => ("CreateContainerError", Some(why.clone())),
            (Some(Trouble::Image { reason, message }), _) => (*reason, Some(message.clone())),
            (Some(Trouble::Mount), _) | (None, None) => (self.beginning(), None),
            (None, Some(_)) => ("CrashLoopBackOff", self.back_off(container)),
        };
        json!({"waiting": without_nulls(json!({"reason": reason, "message": message}))})
    }

    /// What a container waits for that was not started yet.
    fn beginning(&self) -> &'static str {
        let is_first = |it: &ContainerView<'_>| matches!(it.role, Role::Init | Role::Sidecar);
        if self.containers.iter().any(is_first) { "PodInitializing" } else { "ContainerCreating" }
    }

    fn back_off(&self, container: &ContainerView<'_>) -> Option<String> {
        let (wait, pod) = (spelled(container.waits?), &self.identity);
        Some(format!("back-off {wait} restarting failed container={} pod={pod}", container.name))
    }
}

/// In a patch, null means removal; in a list that is replaced as a whole, it would stay.
fn without_nulls(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    object
}

/// Whether somebody else wrote the pod's readiness, as the node controller does for nodes that are silent for a while.
pub(super) fn is_foreign(status: Option<&Value>) -> bool {
    let conditions = status.and_then(|it| it.get("conditions")).and_then(Value::as_array);
    let ready = conditions.and_then(|list| list.iter().find(|it| it["type"] == "Ready"));
    ready.is_some_and(|ready| match ready["status"].as_str() {
        Some("True") => false,
        _ => OWN_REASONS.iter().all(|reason| ready["reason"] != *reason),
    })
}

fn ended_state(ended: &Ended) -> Value {
    let reason = match ended.exit_code {
        Some(0) => "Completed",
        Some(_) => "Error",
        None => "ContainerStatusUnknown",
    };
    json!({"terminated": without_nulls(json!({
        "exitCode": ended.code(),
        "reason": reason,
        "message": ended.message,
        "startedAt": ended.since,
        "finishedAt": ended.until,
    }))})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::record::Running;
    use crate::kubelet::spec::Spec;

    fn running() -> Ran {
        let running = Running { pid: 7, ticks: 9, boot: "b".into(), since: "t1".into() };
        Ran { running: Some(running), started: true, ready: true, ..Ran::default() }
    }

    fn ended(exit_code: i32) -> Ran {
        let (since, until) = ("t1".into(), "t2".into());
        let last = Ended { exit_code: Some(exit_code), since, until, message: None };
        Ran { restarts: 1, last: Some(last), ..Ran::default() }
    }

    fn spec(policy: &str) -> Spec {
        Spec::parse(&json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"restartPolicy": policy, "containers": [{"name": "c"}]},
        }))
        .unwrap()
    }

    #[test]
    fn what_a_container_is_given_is_told_once_it_runs() {
        let object = |resources: Value| {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
                "spec": {"containers": [{"name": "c", "resources": resources}]}})
        };
        let requests = json!({"cpu": "1"});
        let some = json!({"requests": requests, "limits": {"cpu": "2"}});
        let none = Value::Null;
        for (resources, ran, given, allocated) in [
            (json!({}), Some(running()), &json!({}), &none),
            (some.clone(), Some(running()), &some, &requests),
            (some.clone(), Some(ended(1)), &some, &requests),
            (some.clone(), None, &none, &none),
        ] {
            let spec = Spec::parse(&object(resources)).unwrap();
            let (surroundings, containers) = (surroundings(), [ran]);
            let status = view(&spec, &surroundings, &containers).write(&mut BTreeMap::new(), "now");
            let told = &status["containerStatuses"][0];
            assert_eq!((&told["resources"], &told["allocatedResources"]), (given, allocated));
        }
    }

    #[test]
    fn containers_wait_for_those_that_come_first() {
        for (first, expected) in
            [(None, "ContainerCreating"), (Some(Role::Init), "PodInitializing")]
        {
            let (spec, surroundings) = (spec("Always"), surroundings());
            let mut view = view(&spec, &surroundings, &[None, None]);
            view.containers[0].role = first.unwrap_or(Role::Main);
            let status = view.write(&mut BTreeMap::new(), "now");
            assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["reason"], expected);
        }
        for (code, ready) in [(0, true), (1, false)] {
            let (spec, surroundings, ran) = (spec("Always"), surroundings(), Some(ended(code)));
            let containers = [ran, None];
            let mut view = view(&spec, &surroundings, &containers);
            view.containers[0].role = Role::Init;
            let status = view.write(&mut BTreeMap::new(), "now");
            assert_eq!(status["initContainerStatuses"][0]["ready"], ready);
        }
    }

    #[test]
    fn phases_and_readiness() {
        let rows: [(&str, &[Option<Ran>], &str, bool); 10] = [
            ("Always", &[None], "Pending", false),
            ("Always", &[Some(running())], "Running", true),
            ("Always", &[Some(running()), None], "Pending", false),
            ("Always", &[Some(running()), Some(ended(0))], "Running", false),
            ("Always", &[Some(ended(1))], "Running", false),
            ("OnFailure", &[Some(ended(1))], "Running", false),
            ("OnFailure", &[Some(ended(0))], "Succeeded", false),
            ("Never", &[Some(ended(1)), Some(ended(0))], "Failed", false),
            ("Never", &[Some(ended(0)), Some(running())], "Running", false),
            ("Never", &[Some(ended(0)), Some(ended(0))], "Succeeded", false),
        ];
        for (policy, containers, phase, ready) in rows {
            let (spec, surroundings) = (spec(policy), surroundings());
            let view = view(&spec, &surroundings, containers);
            let status = view.write(&mut BTreeMap::new(), "now");
            let is_ready = status["conditions"][2]["status"] == "True";
            assert_eq!((view.phase(), is_ready), (phase, ready), "{policy} {containers:?}");
        }
    }

    /// Policy, an init container and its role, the main container; phase and readiness.
    type Row<'a> = (&'a str, Option<Ran>, Role, Option<Ran>, &'a str, bool);

    #[test]
    fn init_containers_come_first() {
        let rows: [Row<'_>; 6] = [
            ("Always", Some(running()), Role::Init, None, "Pending", false),
            ("Always", Some(ended(1)), Role::Init, None, "Pending", false),
            ("Never", Some(ended(1)), Role::Init, None, "Failed", false),
            ("Always", Some(ended(0)), Role::Init, Some(running()), "Running", true),
            ("Always", Some(running()), Role::Sidecar, Some(running()), "Running", true),
            ("Always", Some(ended(1)), Role::Sidecar, Some(running()), "Running", false),
        ];
        for (policy, first, role, second, phase, ready) in rows {
            let (spec, surroundings) = (spec(policy), surroundings());
            let containers = [first, second];
            let mut view = view(&spec, &surroundings, &containers);
            view.containers[0].role = role;
            if (role, spec.policy) == (Role::Init, Policy::Always) {
                view.containers[0].policy = Policy::OnFailure;
            }
            let status = view.write(&mut BTreeMap::new(), "now");
            let is_ready = status["conditions"][2]["status"] == "True";
            assert_eq!((view.phase(), is_ready), (phase, ready), "{policy} {containers:?}");
        }
    }

    #[test]
    fn conditions_keep_the_time_of_their_last_change() {
        let (spec, surroundings) = (spec("Always"), surroundings());
        let mut conditions = BTreeMap::new();
        let mut ready_at = |containers: &[Option<Ran>], now: &str| {
            let status = view(&spec, &surroundings, containers).write(&mut conditions, now);
            let ready = status["conditions"][2].clone();
            assert_eq!(ready["type"], "Ready");
            format!("{} {}", ready["status"], ready["lastTransitionTime"]).replace('"', "")
        };
        assert_eq!(ready_at(&[None], "1"), "False 1");
        assert_eq!(ready_at(&[None], "2"), "False 1");
        assert_eq!(ready_at(&[Some(running())], "3"), "True 3");
        assert_eq!(ready_at(&[Some(running())], "4"), "True 3");
        assert_eq!(ready_at(&[Some(ended(0))], "5"), "False 5");
    }

    #[test]
    fn conditions_say_why() {
        let surroundings = surroundings();
        let of = |policy: &str, ran: &[Option<Ran>], role, gate, has_sandbox| {
            let spec = spec(policy);
            let mut view = view(&spec, &surroundings, ran);
            (view.containers[0].role, view.gates, view.has_sandbox) = (role, gate, has_sandbox);
            if role == Role::Init {
                view.containers[0].policy = Policy::OnFailure;
            }
            let status = view.write(&mut BTreeMap::new(), "now");
            assert_eq!(status["observedGeneration"], 3);
            let told = status["conditions"].as_array().unwrap().iter().map(|it| {
                assert_eq!(it["observedGeneration"], 3);
                let text = |field: &str| it[field].as_str().unwrap_or("-");
                [text("type"), text("status"), text("reason"), text("message")].join(" ")
            });
            told.collect::<Vec<_>>()
        };
        let unready = "ContainersNotReady containers with unready status: [c]";
        let (init, main) = (Role::Init, Role::Main);
        let rows = [
            (
                of("Always", &[None], main, vec![], false),
                [
                    "False - -",
                    "True - -",
                    &*format!("False {unready}"),
                    &format!("False {unready}"),
                ],
            ),
            (of("Always", &[Some(running())], main, vec![], true), ["True - -"; 4]),
            (
                of("Always", &[Some(running()), None], init, vec![], true),
                [
                    "True - -",
                    "False ContainersNotInitialized containers with incomplete status: [c]",
                    &format!("False {unready}"),
                    &format!("False {unready}"),
                ],
            ),
            (
                of("Never", &[Some(ended(0))], main, vec![], false),
                [
                    "False - -",
                    "True PodCompleted -",
                    "False PodCompleted -",
                    "False PodCompleted -",
                ],
            ),
            (
                of("Never", &[Some(ended(1))], main, vec![], false),
                ["False - -", "True - -", "False PodFailed -", "False PodFailed -"],
            ),
            (
                of(
                    "Always",
                    &[Some(running())],
                    main,
                    vec![("a", None), ("b", Some("False"))],
                    true,
                ),
                [
                    "True - -",
                    "True - -",
                    "False ReadinessGatesNotReady corresponding condition of pod readiness gate \"a\" does not \
                     exist., the status of pod readiness gate \"b\" is not \"True\", but False",
                    "True - -",
                ],
            ),
        ];
        let kinds = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"];
        for (told, expected) in rows {
            let expected = kinds.iter().zip(expected).map(|(kind, it)| format!("{kind} {it}"));
            let expected: Vec<_> = expected.chain(["PodScheduled True - -".to_owned()]).collect();
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn what_others_wrote_is_noticed() {
        let (spec, surroundings) = (spec("Always"), surroundings());
        for ran in [None, Some(running()), Some(ended(1))] {
            let own = view(&spec, &surroundings, &[ran]).write(&mut BTreeMap::new(), "now");
            assert!(!is_foreign(Some(&own)));
        }
        let ready = |status: &str, reason: &str| json!({"conditions": [{"type": "Ready", "status": status, "reason": reason}]});
        assert!(!is_foreign(None));
        assert!(is_foreign(Some(&ready("False", "NodeNotReady"))));
        assert!(is_foreign(Some(&ready("Unknown", "NodeStatusUnknown"))));
    }

    #[test]
    fn container_states() {
        let rows = [
            (None, json!({"waiting": {"reason": "ContainerCreating"}})),
            (Some(running()), json!({"running": {"startedAt": "t1"}})),
            (
                Some(ended(1)),
                json!({"waiting": {"reason": "CrashLoopBackOff",
                "message": "back-off 10s restarting failed container=c pod=p_n(u)"}}),
            ),
        ];
        for (ran, expected) in rows {
            let (spec, surroundings) = (spec("Always"), surroundings());
            let status = view(&spec, &surroundings, &[ran]).write(&mut BTreeMap::new(), "now");
            assert_eq!(status["containerStatuses"][0]["state"], expected);
            assert_eq!(status["podIP"], "10.244.0.2");
        }
    }

    fn surroundings() -> Surroundings {
        Surroundings {
            node: "n".into(),
            host_ips: vec![[10, 1, 1, 110].into()],
            pod_ips: vec![[10, 244, 0, 2].into()],
            ..Surroundings::default()
        }
    }

    fn view<'a>(
        spec: &'a Spec,
        surroundings: &'a Surroundings,
        containers: &'a [Option<Ran>],
    ) -> View<'a> {
        let container = |ran: &'a Option<Ran>| ContainerView {
            resources: spec.resources_of(0),
            name: "c",
            image: "",
            image_id: String::new(),
            role: Role::Main,
            policy: spec.policy,
            ran: ran.as_ref(),
            trouble: None,
            waits: Some(Duration::from_secs(10)),
        };
        View {
            surroundings,
            started: "t0",
            identity: "p_n(u)".into(),
            generation: Some(3),
            has_sandbox: true,
            gates: vec![],
            containers: containers.iter().map(container).collect(),
            terminating: false,
            trouble: None,
        }
    }
}
