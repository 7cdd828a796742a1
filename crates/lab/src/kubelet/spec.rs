//! What a pod asks of the kubelet. Pure.

use super::environment::Sources;
use super::restart::Policy;
use model::field::{Field, FieldError};
use model::object::ObjectError;
use model::{Container, Object, Pod};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// Octets in the name of a machine.
const HOSTNAME_LIMIT: usize = 63;

/// A pod as the API has it, read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spec {
    /// Its containers are all there are, in the order in which they start: `initContainers`, then `containers`; those
    /// that join later come last.
    pub(super) pod: Pod,
    /// One for each container of `pod`.
    pub(super) roles: Vec<Role>,
    pub(super) policy: Policy,
    /// `spec.terminationGracePeriodSeconds`.
    pub(super) grace: Duration,
    /// The object, for what the model does not hold.
    object: Value,
}

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Must succeed before later ones start.
    Init,
    /// An init container that stays: must have started before later ones start.
    Sidecar,
    Main,
    /// Joins a pod that runs, to look into it: nothing waits for it, and it never runs again.
    Ephemeral,
}

/// Why a pod cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SpecError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("not a pod")]
    NoPod,
}

/// What a pod is told of where it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Surroundings {
    pub(super) node: String,
    pub(super) host_ips: Vec<IpAddr>,
    pub(super) pod_ips: Vec<IpAddr>,
    /// Variables that tell of Services.
    pub(super) services: BTreeMap<String, String>,
    /// Of the container that is about to start.
    pub(super) sources: Sources,
}

impl Spec {
    pub(super) fn parse(object: &Value) -> Result<Spec, SpecError> {
        let Object::Pod(mut pod) = Object::parse(object)? else { return Err(SpecError::NoPod) };
        let (init, mut roles) = init_containers(object)?;
        roles.resize(init.len() + pod.containers.len(), Role::Main);
        pod.containers.splice(0..0, init);
        pod.containers.extend(other_containers(object, "/spec/ephemeralContainers")?);
        roles.resize(pod.containers.len(), Role::Ephemeral);
        let root = Field::root(object);
        let spec = root.at("spec");
        let seconds: Option<u32> = spec
            .at("terminationGracePeriodSeconds")
            .optional_number("a whole number of seconds")?;
        Ok(Spec {
            pod,
            roles,
            policy: Policy::parse(spec.at("restartPolicy").optional_text()?),
            grace: seconds.map_or(DEFAULT_GRACE, |it| Duration::from_secs(it.into())),
            object: object.clone(),
        })
    }

    /// Takes the containers that were known before as they were, but for the images of those that do not run.
    pub(super) fn keep(&mut self, before: &Spec, runs: impl Fn(usize) -> bool) {
        let known = before.roles.len();
        let now = std::mem::take(&mut self.pod.containers);
        let kept = before.pod.containers.iter().enumerate().map(|(index, container)| {
            let newer = now.iter().find(|it| it.name == container.name && !runs(index));
            let image = newer.unwrap_or(container).image.clone();
            Container { image, ..container.clone() }
        });
        self.pod.containers = kept.chain(now.iter().skip(known).cloned()).collect();
        self.roles.resize(self.pod.containers.len(), Role::Ephemeral);
        self.roles[..known].copy_from_slice(&before.roles);
    }

    /// `resources` of a container that may have some.
    pub(super) fn resources_of(&self, index: usize) -> Option<&Value> {
        let container = &self.pod.containers[index];
        let has = self.roles[index] != Role::Ephemeral;
        self.written(container).filter(|_| has)?.get("resources")
    }

    /// Containers that have to start anew, since what they are given was another amount before.
    pub(super) fn restarted_since(&self, before: &Spec) -> Vec<usize> {
        let restarts = |index: &usize| {
            let container = &before.pod.containers[*index];
            let (Some(now), Some(then)) = (self.written(container), before.written(container))
            else {
                return false;
            };
            list(now.get("resizePolicy")).iter().any(|policy| {
                let name = policy["resourceName"].as_str().unwrap_or_default();
                let amounts = |it: &Value| {
                    ["requests", "limits"].map(|part| it["resources"][part].get(name).cloned())
                };
                policy["restartPolicy"] == "RestartContainer" && amounts(now) != amounts(then)
            })
        };
        (0..before.roles.len()).filter(restarts).collect()
    }

    /// Whether and when the container runs again. An init container that succeeded never does.
    pub(super) fn policy_of(&self, index: usize) -> Policy {
        match (self.roles[index], self.policy) {
            (Role::Init, Policy::Always) => Policy::OnFailure,
            (Role::Sidecar, _) => Policy::Always,
            (Role::Ephemeral, _) => Policy::Never,
            (_, policy) => policy,
        }
    }

    /// How long its containers have to end, once it shall.
    pub(super) fn deletion_grace(&self) -> Option<Duration> {
        let metadata = self.object.get("metadata")?;
        metadata.get("deletionTimestamp").filter(|it| !it.is_null())?;
        let seconds = metadata.get("deletionGracePeriodSeconds").and_then(Value::as_u64);
        Some(seconds.map_or(self.grace, Duration::from_secs))
    }

    /// `metadata.generation`
    pub(super) fn generation(&self) -> Option<i64> {
        self.object.pointer("/metadata/generation").and_then(Value::as_i64)
    }

    /// Conditions that others must say are true before it is ready, and what they say.
    pub(super) fn gates(&self) -> Vec<(&str, Option<&str>)> {
        let said = list(self.object.pointer("/status/conditions"));
        let gates = list(self.object.pointer("/spec/readinessGates")).iter();
        let wanted = gates.filter_map(|gate| gate["conditionType"].as_str());
        let status = |kind: &str| {
            said.iter().find(|it| it["type"] == kind).and_then(|it| it["status"].as_str())
        };
        wanted.map(|kind| (kind, status(kind))).collect()
    }

    /// What its machine is called; none where that is the node.
    pub(super) fn own_hostname(&self) -> Option<String> {
        let (pod, name) = (&self.pod, self.pod.meta.key.name.to_string());
        let own = || pod.hostname.clone().unwrap_or(name);
        let mut own = (!pod.host_network).then(own)?;
        own.truncate(HOSTNAME_LIMIT);
        Some(own.trim_end_matches(['-', '.']).to_owned())
    }

    /// The container's whole environment.
    pub(super) fn environment(
        &self,
        container: &Container,
        surroundings: &Surroundings,
    ) -> Vec<(String, String)> {
        let meta = &self.pod.meta;
        let told = [
            ("HOSTNAME", self.own_hostname().unwrap_or_else(|| surroundings.node.clone())),
            ("POD_NAME", meta.key.name.to_string()),
            ("POD_NAMESPACE", meta.key.namespace.to_string()),
            ("POD_UID", meta.uid.clone()),
            ("NODE_NAME", surroundings.node.clone()),
            ("POD_IP", surroundings.pod_ips.first().map(ToString::to_string).unwrap_or_default()),
            ("HOST_IP", surroundings.host_ips.first().map(ToString::to_string).unwrap_or_default()),
        ];
        let mut all = surroundings.services.clone();
        all.extend(told.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let written = self.written(container);
        all.extend(written.map(|it| surroundings.sources.whole(it)).unwrap_or_default());
        for entry in self.entries(container) {
            let Some(name) = entry.get("name").and_then(Value::as_str) else { continue };
            let value = entry.get("value").and_then(Value::as_str);
            let field = entry.pointer("/valueFrom/fieldRef/fieldPath").and_then(Value::as_str);
            let value = match (value, field) {
                (Some(value), _) => Some(expand(value, &all)),
                (None, Some(field)) => self.downward(field, surroundings),
                (None, None) if entry.get("valueFrom").is_none() => Some(String::new()),
                (None, None) => surroundings.sources.value(entry).cloned(),
            };
            all.extend(value.map(|value| (name.to_owned(), value)));
        }
        all.into_iter().collect()
    }

    /// `env` of the container, as written.
    fn entries(&self, container: &Container) -> impl Iterator<Item = &Value> {
        list(self.written(container).and_then(|it| it.get("env"))).iter()
    }

    /// The container as the object has it.
    pub(super) fn written(&self, container: &Container) -> Option<&Value> {
        let lists = ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"];
        let mut all = lists.into_iter().flat_map(|pointer| list(self.object.pointer(pointer)));
        all.find(|it| it["name"] == container.name.as_str())
    }

    /// Whether its containers are told of the Services of its namespace.
    pub(super) fn wants_links(&self) -> bool {
        self.object.pointer("/spec/enableServiceLinks") != Some(&Value::Bool(false))
    }

    /// A field of the object.
    pub(super) fn field(&self, pointer: &str) -> Option<&Value> {
        self.object.pointer(pointer)
    }

    pub(super) fn text(&self, pointer: &str) -> Option<&str> {
        self.field(pointer).and_then(Value::as_str)
    }

    /// A volume of the pod, as written.
    pub(super) fn volume(&self, name: &str) -> Option<&Value> {
        self.volumes().find(|it| it["name"] == name)
    }

    pub(super) fn volumes(&self) -> impl Iterator<Item = &Value> {
        list(self.object.pointer("/spec/volumes")).iter()
    }

    /// The service account that its containers are.
    pub(super) fn account(&self) -> &str {
        let name = self.object.pointer("/spec/serviceAccountName").and_then(Value::as_str);
        name.filter(|it| !it.is_empty()).unwrap_or("default")
    }

    /// A field of the pod, or all of its labels or annotations, for a file.
    pub(super) fn told(&self, field: &str, surroundings: &Surroundings) -> Option<String> {
        let all = match field {
            "metadata.labels" => &self.pod.meta.labels,
            "metadata.annotations" => &self.pod.meta.annotations,
            _ => return self.downward(field, surroundings),
        };
        let lines = all.iter().map(|(name, value)| format!("{name}={value:?}\n"));
        Some(lines.collect())
    }

    /// The fields that `fieldRef` may name.
    fn downward(&self, field: &str, surroundings: &Surroundings) -> Option<String> {
        let meta = &self.pod.meta;
        let quoted = |prefix: &str| field.strip_prefix(prefix)?.strip_suffix("']");
        if let Some(name) = quoted("metadata.labels['") {
            return Some(meta.labels.get(name).cloned().unwrap_or_default());
        }
        if let Some(name) = quoted("metadata.annotations['") {
            return Some(meta.annotations.get(name).cloned().unwrap_or_default());
        }
        let joined =
            |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        Some(match field {
            "metadata.name" => meta.key.name.to_string(),
            "metadata.namespace" => meta.key.namespace.to_string(),
            "metadata.uid" => meta.uid.clone(),
            "spec.nodeName" => surroundings.node.clone(),
            "status.hostIP" => surroundings.host_ips.first()?.to_string(),
            "status.hostIPs" => joined(&surroundings.host_ips),
            "status.podIP" => surroundings.pod_ips.first()?.to_string(),
            "status.podIPs" => joined(&surroundings.pod_ips),
            _ => return None,
        })
    }
}

/// The model knows containers by one name only: the others are read under it.
fn other_containers(object: &Value, pointer: &str) -> Result<Vec<Container>, SpecError> {
    let listed = list(object.pointer(pointer));
    if listed.is_empty() {
        return Ok(Vec::new());
    }
    let mut renamed = object.clone();
    renamed["spec"]["containers"] = listed.into();
    let Object::Pod(pod) = Object::parse(&renamed)? else { return Err(SpecError::NoPod) };
    Ok(pod.containers)
}

fn init_containers(object: &Value) -> Result<(Vec<Container>, Vec<Role>), SpecError> {
    let pointer = "/spec/initContainers";
    let containers = other_containers(object, pointer)?;
    let is_sidecar = |it: &Value| it["restartPolicy"] == "Always";
    let role = |it| if is_sidecar(it) { Role::Sidecar } else { Role::Init };
    Ok((containers, list(object.pointer(pointer)).iter().map(role).collect()))
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Replaces `$(NAME)` by its value and `$$` by `$`; unknown names stay as they are.
pub(super) fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
            continue;
        }
        let reference = rest.strip_prefix('(').and_then(|it| it.split_once(')'));
        match reference.and_then(|(name, after)| Some((variables.get(name)?, after))) {
            Some((value, after)) => {
                expanded.push_str(value);
                rest = after;
            }
            None => expanded.push('$'),
        }
    }
    expanded + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_that_join_come_last_and_change_nothing() {
        let spec = |image: &str, guests: Value| {
            Spec::parse(&json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
                "spec": {"containers": [{"name": "c", "image": image}],
                    "initContainers": [{"name": "i"}], "ephemeralContainers": guests},
            }))
            .unwrap()
        };
        let guest = |name: &str| json!({"name": name, "image": "g"});
        let known = spec("1", json!([guest("b")]));
        for (guests, expected) in [
            (json!([guest("b")]), "i c:1 b:g"),
            (json!([guest("b"), guest("d")]), "i c:1 b:g d:g"),
            (json!([]), "i c:1 b:g"),
        ] {
            let mut now = spec("2", guests);
            now.keep(&known, |index| index == 1);
            let named = now.pod.containers.iter().map(|it| format!("{}:{}", it.name, it.image));
            let named = named.collect::<Vec<_>>().join(" ").replace("i:", "i");
            assert_eq!(named, expected);
            assert_eq!(now.roles[..3], [Role::Init, Role::Main, Role::Ephemeral]);
            assert_eq!(now.roles.len(), now.pod.containers.len());
            assert_eq!(now.policy_of(2), Policy::Never);
        }
    }
    use serde_json::json;

    #[test]
    fn containers_start_anew_where_they_want_it_for_what_changed() {
        let spec = |cpu: &str, memory: &str, side: &str| {
            let policy = |cpu: &str| json!([{"resourceName": "cpu", "restartPolicy": cpu}, {"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
            let amounts = json!({"requests": {"cpu": cpu, "memory": memory}});
            Spec::parse(&json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
                "spec": {
                    "initContainers": [{"name": "s", "restartPolicy": "Always",
                        "resources": {"limits": {"cpu": side}}, "resizePolicy": policy("RestartContainer")}],
                    "containers": [{"name": "c", "resources": amounts, "resizePolicy": policy("NotRequired")},
                        {"name": "d", "resources": amounts}],
                },
            }))
            .unwrap()
        };
        let before = spec("1", "1Gi", "1");
        for (now, expected) in [
            (spec("1", "1Gi", "1"), vec![]),
            (spec("2", "1Gi", "1"), vec![]),
            (spec("1", "2Gi", "1"), vec![1]),
            (spec("1", "1Gi", "2"), vec![0]),
            (spec("2", "2Gi", "2"), vec![0, 1]),
        ] {
            assert_eq!(now.restarted_since(&before), expected);
        }
        assert_eq!(before.resources_of(0), Some(&json!({"limits": {"cpu": "1"}})));
    }

    #[test]
    fn references_are_expanded() {
        let variables = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        let rows = [
            ("", ""),
            ("x$(A)y", "x1y"),
            ("$(A)$(A)", "11"),
            ("$(B)", "$(B)"),
            ("$$(A)", "$(A)"),
            ("$A $(A", "$A $(A"),
            ("$", "$"),
        ];
        for (text, expected) in rows {
            assert_eq!(expand(text, &variables), expected, "{text}");
        }
    }

    #[test]
    fn a_container_knows_who_it_is() {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web-1", "namespace": "shop", "uid": "u", "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "env": [
                {"name": "PORT", "value": "80"},
                {"name": "ADDRESS", "value": "$(POD_IP):$(PORT)"},
                {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            ]}]},
        });
        let spec = Spec::parse(&object).unwrap();
        let surroundings = Surroundings {
            node: "n1".into(),
            host_ips: Vec::new(),
            pod_ips: vec![[10, 244, 0, 2].into()],
            services: BTreeMap::new(),
            sources: Sources::default(),
        };
        let environment: BTreeMap<_, _> =
            spec.environment(&spec.pod.containers[0], &surroundings).into_iter().collect();
        let expected = [
            ("HOSTNAME", "web-1"),
            ("POD_NAME", "web-1"),
            ("POD_NAMESPACE", "shop"),
            ("NODE_NAME", "n1"),
            ("POD_IP", "10.244.0.2"),
            ("PORT", "80"),
            ("ADDRESS", "10.244.0.2:80"),
            ("APP", "web"),
        ];
        for (name, value) in expected {
            assert_eq!(environment.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!environment.contains_key("SECRET"));
    }

    #[test]
    fn a_deletion_has_a_grace_period() {
        let pod = |mut metadata: Value, mut spec: Value| {
            metadata["name"] = "p".into();
            spec["containers"] = json!([{"name": "c"}]);
            let object =
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
            Spec::parse(&object).unwrap().deletion_grace().map(|grace| grace.as_secs())
        };
        let deleted = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        let quickly = json!({"deletionTimestamp": "…", "deletionGracePeriodSeconds": 2});
        let spec = json!({"terminationGracePeriodSeconds": 7});
        assert_eq!(pod(json!({}), spec.clone()), None);
        assert_eq!(pod(deleted.clone(), json!({})), Some(30));
        assert_eq!(pod(deleted, spec.clone()), Some(7));
        assert_eq!(pod(quickly, spec), Some(2));
    }
}
