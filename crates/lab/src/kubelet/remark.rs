//! What people hear of a pod: Kubernetes Events in the words of the kubelet of Kubernetes. Pure.

use super::probe::Purpose;
use super::prober::Outcome;
use super::spec::{Role, Spec};
use client::Kind;
use client::event::{About, Event, Severity};

const COMPONENT: &str = "kubelet";

/// Something worth telling of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Remark {
    NetworkNotReady(String),
    /// Its network could not be made.
    NoSandbox(String),
    /// Its network was damaged, and is made anew.
    SandboxChanged,
    NotMounted(String),
    /// Of one of its containers, by index.
    Container(usize, Happening),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Happening {
    Pulled,
    Pulling,
    /// An image that no registry has.
    NotPulled(String),
    PullBackOff(String),
    /// An image that is not there, and must not be asked for.
    NeverPull(String),
    /// What is no name of an image.
    Malformed(String),
    Created,
    Started,
    Failed(String),
    BackOff,
    Unhealthy(Purpose, Outcome),
    Killing(Why),
    PostStartFailed,
    PreStopFailed,
}

impl Happening {
    /// The reason and message of a container that waits for its image.
    pub(super) fn waiting(&self) -> Option<(&'static str, String)> {
        let not_pulled = |image: &str| format!("no --image of this lab stands for {image:?}");
        Some(match self {
            Happening::NotPulled(image) => ("ErrImagePull", not_pulled(image)),
            Happening::PullBackOff(image) => {
                let why = not_pulled(image);
                let message = format!("Back-off pulling image {image:?}: ErrImagePull: {why}");
                ("ImagePullBackOff", message)
            }
            Happening::NeverPull(image) => {
                let why = "is not present with pull policy of Never";
                ("ErrImageNeverPull", format!("Container image {image:?} {why}"))
            }
            Happening::Malformed(image) => {
                let why = format!("couldn't parse image name {image:?}: invalid reference format");
                let message = format!("Failed to apply default image tag {image:?}: {why}");
                ("InvalidImageName", message)
            }
            _ => return None,
        })
    }
}

/// Why a container is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The pod ends, or has no more use for it.
    Stop,
    Probe(Purpose),
    PostStart,
    /// It wants to start anew with what it needs now.
    Resize,
}

pub(super) fn event(spec: &Spec, remark: &Remark) -> Event {
    let (severity, reason, message) = said(spec, remark);
    let about = About::new(Kind::POD, &spec.pod.meta);
    let field = match remark {
        Remark::Container(index, _) => Some(field(spec, *index)),
        _ => None,
    };
    let event = match severity {
        Severity::Normal => about.normal(COMPONENT, reason, message),
        Severity::Warning => about.warning(COMPONENT, reason, message),
    };
    Event { field, ..event }
}

/// Of a node: `about` is its object.
pub(super) fn of_node(about: About, reason: &str) -> Event {
    let message = match reason {
        STARTING => "Starting kubelet.".to_owned(),
        _ => format!("Node {} status is now: {reason}", about.key.name),
    };
    about.normal(COMPONENT, reason, message)
}

/// The reason of the first thing that a kubelet tells of its node.
pub(super) const STARTING: &str = "Starting";

fn field(spec: &Spec, index: usize) -> String {
    let list = match spec.roles[index] {
        Role::Init | Role::Sidecar => "initContainers",
        Role::Main => "containers",
        Role::Ephemeral => "ephemeralContainers",
    };
    format!("spec.{list}{{{}}}", spec.pod.containers[index].name)
}

fn said(spec: &Spec, remark: &Remark) -> (Severity, &'static str, String) {
    use Severity::{Normal, Warning};
    match remark {
        Remark::NetworkNotReady(why) => {
            (Warning, "NetworkNotReady", format!("network is not ready: {why}"))
        }
        Remark::NoSandbox(why) => {
            (Warning, "FailedCreatePodSandBox", format!("Failed to create pod sandbox: {why}"))
        }
        Remark::SandboxChanged => {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            (Normal, "SandboxChanged", message.to_owned())
        }
        Remark::NotMounted(why) => (Warning, "FailedMount", why.clone()),
        Remark::Container(index, happening) => of_container(spec, *index, happening),
    }
}

fn of_container(
    spec: &Spec,
    index: usize,
    happening: &Happening,
) -> (Severity, &'static str, String) {
    use Severity::{Normal, Warning};
    let container = &spec.pod.containers[index];
    let name = &container.name;
    match happening {
        // Images of a lab are programs of this machine.
        Happening::Pulled => {
            let image = &container.image;
            let there = "already present on machine and can be accessed by the pod";
            (Normal, "Pulled", format!("Container image {image:?} {there}"))
        }
        Happening::Pulling => (Normal, "Pulling", format!("Pulling image {:?}", container.image)),
        Happening::PullBackOff(image) => {
            (Normal, "BackOff", format!("Back-off pulling image {image:?}"))
        }
        Happening::NotPulled(_) | Happening::NeverPull(_) | Happening::Malformed(_) => {
            let (waits, why) = happening.waiting().unwrap_or_default();
            match happening {
                Happening::NeverPull(_) => (Warning, waits, why),
                Happening::Malformed(_) => (Warning, "InspectFailed", why),
                _ => {
                    let message = format!("Failed to pull image {:?}: {why}", container.image);
                    (Warning, "Failed", message)
                }
            }
        }
        Happening::Created => (Normal, "Created", "Container created".to_owned()),
        Happening::Started => (Normal, "Started", "Container started".to_owned()),
        Happening::Failed(why) => (Warning, "Failed", format!("Error: {why}")),
        Happening::BackOff => {
            let pod = identity(spec);
            let message = format!("Back-off restarting failed container {name} in pod {pod}");
            (Warning, "BackOff", message)
        }
        Happening::Unhealthy(purpose, outcome) => {
            (Warning, "Unhealthy", unhealthy(*purpose, outcome))
        }
        Happening::Killing(why) => (Normal, "Killing", killing(spec, index, *why)),
        Happening::PostStartFailed => {
            (Warning, "FailedPostStartHook", "PostStartHook failed".to_owned())
        }
        Happening::PreStopFailed => (Warning, "FailedPreStopHook", "PreStopHook failed".to_owned()),
    }
}

fn unhealthy(purpose: Purpose, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Failed(why) => format!("{purpose:?} probe failed: {why}"),
        Outcome::Errored(why) => {
            format!("{purpose:?} probe errored and resulted in unknown state: {why}")
        }
        Outcome::Passed => format!("{purpose:?} probe passed"),
    }
}

fn killing(spec: &Spec, index: usize, why: Why) -> String {
    let name = &spec.pod.containers[index].name;
    match why {
        Why::Stop => format!("Stopping container {name}"),
        Why::PostStart => "FailedPostStartHook".to_owned(),
        Why::Resize => format!("Container {name} resize requires restart"),
        Why::Probe(purpose) => {
            let purpose = format!("{purpose:?}").to_lowercase();
            // What a killed process ends with is no success.
            let again = spec.policy_of(index).restarts(137);
            let again = if again { ", will be restarted" } else { "" };
            format!("Container {name} failed {purpose} probe{again}")
        }
    }
}

/// The pod as the kubelet's messages name it.
pub(super) fn identity(spec: &Spec) -> String {
    let meta = &spec.pod.meta;
    format!("{}_{}({})", meta.key.name, meta.key.namespace, meta.uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn everything_is_told_in_the_words_of_kubernetes() {
        let spec = |policy: &str| {
            Spec::parse(&json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "p", "namespace": "n", "uid": "u"},
                "spec": {"restartPolicy": policy, "initContainers": [{"name": "i"}],
                    "containers": [{"name": "c", "image": "x:1"}]},
            }))
            .unwrap()
        };
        let failed = |text: &str| Outcome::Failed(text.to_owned());
        use Happening::{
            BackOff, Created, Failed, Killing, PostStartFailed, PreStopFailed, Pulled, Started,
            Unhealthy,
        };
        use Purpose::{Liveness, Readiness, Startup};
        let main = "spec.containers{c}";
        let of = |happening| Remark::Container(1, happening);
        for (remark, field, expected) in [
            (
                Remark::NetworkNotReady("why".into()),
                "",
                "Warning NetworkNotReady: network is not ready: why",
            ),
            (
                Remark::NoSandbox("why".into()),
                "",
                "Warning FailedCreatePodSandBox: Failed to create pod sandbox: why",
            ),
            (
                Remark::SandboxChanged,
                "",
                "Normal SandboxChanged: Pod sandbox changed, it will be killed and re-created.",
            ),
            (Remark::NotMounted("why".into()), "", "Warning FailedMount: why"),
            (
                Remark::Container(0, Created),
                "spec.initContainers{i}",
                "Normal Created: Container created",
            ),
            (
                of(Pulled),
                main,
                "Normal Pulled: Container image \"x:1\" already present on machine and can be accessed by the pod",
            ),
            (of(Started), main, "Normal Started: Container started"),
            (of(Failed("why".into())), main, "Warning Failed: Error: why"),
            (
                of(BackOff),
                main,
                "Warning BackOff: Back-off restarting failed container c in pod p_n(u)",
            ),
            (
                of(Unhealthy(Readiness, failed("why"))),
                main,
                "Warning Unhealthy: Readiness probe failed: why",
            ),
            (
                of(Unhealthy(Startup, Outcome::Errored("why".into()))),
                main,
                "Warning Unhealthy: Startup probe errored and resulted in unknown state: why",
            ),
            (of(Killing(Why::Stop)), main, "Normal Killing: Stopping container c"),
            (
                of(Killing(Why::Probe(Liveness))),
                main,
                "Normal Killing: Container c failed liveness probe, will be restarted",
            ),
            (of(Killing(Why::PostStart)), main, "Normal Killing: FailedPostStartHook"),
            (of(PostStartFailed), main, "Warning FailedPostStartHook: PostStartHook failed"),
            (of(PreStopFailed), main, "Warning FailedPreStopHook: PreStopHook failed"),
        ] {
            let event = event(&spec("Always"), &remark);
            let told = format!("{:?} {}: {}", event.severity, event.reason, event.message);
            assert_eq!(told, expected);
            assert_eq!(event.field.as_deref().unwrap_or_default(), field, "{expected}");
            assert_eq!((event.component, &*event.about.uid), ("kubelet", "u"));
        }
        let last = event(&spec("Never"), &of(Killing(Why::Probe(Startup))));
        assert_eq!(last.message, "Container c failed startup probe");
    }

    #[test]
    fn images_are_missed_in_the_words_of_kubernetes() {
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "image": "x:1"}]}});
        let spec = Spec::parse(&object).unwrap();
        let absent = "no --image of this lab stands for \"x:1\"";
        let malformed = "Failed to apply default image tag \"x:1\": couldn't parse image name \"x:1\": invalid reference format";
        for (happening, reason, message, waits) in [
            (Happening::Pulling, "Pulling", "Pulling image \"x:1\"".to_owned(), None),
            (
                Happening::NotPulled("x:1".into()),
                "Failed",
                format!("Failed to pull image \"x:1\": {absent}"),
                Some(("ErrImagePull", absent.to_owned())),
            ),
            (
                Happening::PullBackOff("x:1".into()),
                "BackOff",
                "Back-off pulling image \"x:1\"".to_owned(),
                Some((
                    "ImagePullBackOff",
                    format!("Back-off pulling image \"x:1\": ErrImagePull: {absent}"),
                )),
            ),
            (
                Happening::NeverPull("x:1".into()),
                "ErrImageNeverPull",
                "Container image \"x:1\" is not present with pull policy of Never".to_owned(),
                Some((
                    "ErrImageNeverPull",
                    "Container image \"x:1\" is not present with pull policy of Never".to_owned(),
                )),
            ),
            (
                Happening::Malformed("x:1".into()),
                "InspectFailed",
                malformed.to_owned(),
                Some(("InvalidImageName", malformed.to_owned())),
            ),
        ] {
            assert_eq!(happening.waiting(), waits, "{reason}");
            let told = event(&spec, &Remark::Container(0, happening));
            assert_eq!((told.reason, told.message), (reason.into(), message));
        }
    }
}
