//! The user's objects and the plan's nodes, in the order in which an API takes them. Pure.

use crate::kubelet::ARCHITECTURE;
use crate::plan::{Plan, PlannedNode};
use crate::{Error, Manifest, Result};
use apiserver::resources::Resource;
use client::Kind;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Kinds that call programs that a lab may not run, and would hold up everything: left out, with a word about it.
const IDLE: [&str; 2] = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

/// Kinds that do have a part in it and that no lab serves yet: left out, with a warning.
const NOT_YET: [&str; 8] = [
    "ClusterNetworkPolicy",
    "GRPCRoute",
    "Gateway",
    "GatewayClass",
    "HTTPRoute",
    "ReferenceGrant",
    "TCPRoute",
    "TLSRoute",
];

/// Kinds that are stored and shown though nothing in a lab acts on them yet: loaded, with a warning.
const INERT: [&str; 2] = ["Ingress", "NetworkPolicy"];

const DEFINITION: &str = "CustomResourceDefinition";
const ACCOUNT: &str = "ServiceAccount";

/// What to create.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Namespaces first, then definitions, nodes and service accounts, then the rest as written.
    pub(super) objects: Vec<(Kind, Manifest)>,
    /// Objects that the lab does without, wholly or in effect, a sentence each.
    pub(super) warnings: Vec<String>,
}

pub(super) fn load(manifests: &[Manifest], plan: &Plan) -> Result<Load> {
    let mut load = Load::default();
    let with = |kind: Kind| move |manifest: Manifest| (kind, manifest);
    load.objects.extend(namespaces(manifests).into_iter().map(with(Kind::NAMESPACE)));
    let definitions = manifests.iter().filter(|it| it.is(DEFINITION)).cloned();
    load.objects.extend(definitions.map(with(Kind::CUSTOM_RESOURCE_DEFINITION)));
    let nodes = plan.nodes.iter().map(|node| complete(plan, node, manifests));
    load.objects.extend(nodes.map(with(Kind::NODE)));
    let declared = declared(manifests);
    let accounts = manifests.iter().filter(|it| it.is(ACCOUNT));
    load.objects.extend(accounts.cloned().map(with(Kind::SERVICE_ACCOUNT)));
    let first = ["Namespace", "Node", DEFINITION, ACCOUNT];
    let rest = manifests.iter().filter(|it| !first.iter().any(|kind| it.is(kind)));
    // The authority of the cluster that the manifests are from is not the lab's.
    let is_authority =
        |it: &&Manifest| it.is("ConfigMap") && it.text("/metadata/name") == "kube-root-ca.crt";
    for manifest in rest.filter(|it| !is_authority(it)) {
        let (kind, object) = (manifest.text("/kind"), manifest.object());
        let api_version = manifest.text("/apiVersion");
        let custom =
            declared.iter().find(|it| it.kind == kind && it.api_version() == api_version).copied();
        if let Some(custom) = custom {
            load.objects.push((custom, manifest.clone()));
            load.warnings.push(format!(
                "WARNING: {object} is stored, but nothing in this lab does what it says yet"
            ));
        } else if let Some(known) = Kind::of(api_version, kind) {
            load.objects.push((known, manifest.clone()));
            if INERT.contains(&kind) {
                load.warnings.push(format!(
                    "WARNING: {object} is stored, but nothing in this lab does what it says yet"
                ));
            }
        } else if IDLE.contains(&kind) {
            load.warnings.push(format!("{object} has no part in a lab and is left out"));
        } else if let Some(served) = served(api_version, kind) {
            load.objects.push((served, manifest.clone()));
        } else if NOT_YET.contains(&kind) {
            load.warnings.push(format!(
                "WARNING: {object} is left out, because labs do not serve {kind} yet: nothing here does what it says"
            ));
        } else {
            let origin = manifest.source.clone();
            return Err(Error::UnknownKind { origin, object });
        }
    }
    Ok(load)
}

/// A kind that the API stores and that nothing of Podway follows.
fn served(api_version: &str, kind: &str) -> Option<Kind> {
    let resource = apiserver::resources::of_manifest(api_version, kind)?;
    let Resource { group, version, name: kind, plural, namespaced, .. } = *resource;
    (!resource.transient).then_some(Kind { group, version, kind, plural, namespaced })
}

/// The kinds that the manifests' definitions declare. There are few of them, and the supervisor needs them for as
/// long as it lives.
fn declared(manifests: &[Manifest]) -> Vec<Kind> {
    let keep = |value: &Value| -> &'static str {
        Box::leak(value.as_str().unwrap_or_default().to_owned().into_boxed_str())
    };
    let definitions = manifests.iter().filter(|it| it.is(DEFINITION));
    let kinds = definitions.flat_map(|definition| {
        let spec = &definition.value["spec"];
        let versions = spec["versions"].as_array().into_iter().flatten();
        versions.map(move |version| Kind {
            group: keep(&spec["group"]),
            version: keep(&version["name"]),
            kind: keep(&spec["names"]["kind"]),
            plural: keep(&spec["names"]["plural"]),
            namespaced: spec["scope"] == "Namespaced",
        })
    });
    kinds.collect()
}

/// Those that are declared, and those that objects are in though nobody declared them.
fn namespaces(manifests: &[Manifest]) -> Vec<Manifest> {
    let declared: Vec<&Manifest> = manifests.iter().filter(|it| it.is("Namespace")).collect();
    let known: BTreeSet<&str> = declared.iter().map(|it| it.text("/metadata/name")).collect();
    let built_in = ["", "default", "kube-system", "kube-public", "kube-node-lease"];
    let used = manifests.iter().map(|it| (it.text("/metadata/namespace"), &it.source));
    let mut made = BTreeSet::new();
    let implied = used.filter(|(name, _)| !known.contains(name) && !built_in.contains(name));
    let implied = implied.filter(|(name, _)| made.insert(*name)).map(|(name, source)| Manifest {
        value: json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        source: source.clone(),
    });
    let implied: Vec<Manifest> = implied.collect();
    declared.into_iter().cloned().chain(implied).collect()
}

/// The node's object as declared, or a new one, with everything in it that the plan decided.
fn complete(plan: &Plan, node: &PlannedNode, manifests: &[Manifest]) -> Manifest {
    let declared =
        manifests.iter().find(|it| it.is("Node") && it.text("/metadata/name") == node.name);
    let mut manifest = declared.cloned().unwrap_or_else(|| Manifest {
        value: json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name}}),
        source: "--nodes".to_owned(),
    });
    let cidrs: Vec<_> = node.pod_cidrs(plan.families).iter().map(ToString::to_string).collect();
    let spec = json!({"podCIDR": cidrs.first(), "podCIDRs": cidrs});
    let internal = node.addresses(plan.families).into_iter();
    let internal = internal.map(|it| json!({"type": "InternalIP", "address": it.to_string()}));
    let labels = json!({
        "kubernetes.io/hostname": node.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": ARCHITECTURE,
    });
    fill(&mut manifest.value, &json!({"spec": spec, "metadata": {"labels": labels}}));
    // What is declared stays as it is, and the family that it lacks comes behind.
    let mut listed = match manifest.value.pointer("/status/addresses").and_then(Value::as_array) {
        Some(declared) if !declared.is_empty() => declared.clone(),
        _ => vec![json!({"type": "Hostname", "address": node.name})],
    };
    let place = listed.iter().position(|it| it["type"] == "Hostname").unwrap_or(listed.len());
    let missing: Vec<_> = internal.filter(|it| !listed.contains(it)).collect();
    listed.splice(place..place, missing);
    if !manifest.value["status"].is_object() {
        manifest.value["status"] = json!({});
    }
    manifest.value["status"]["addresses"] = listed.into();
    manifest
}

/// Adds to `value` what it lacks of `more`.
fn fill(value: &mut Value, more: &Value) {
    let Some(more) = more.as_object() else { return };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Some(members) = value.as_object_mut() else { return };
    for (name, wanted) in more {
        match members.get_mut(name) {
            Some(present) if wanted.is_object() => fill(present, wanted),
            Some(present) if !present.is_null() => {}
            _ => drop(members.insert(name.clone(), wanted.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Wishes, plan};

    fn manifests(values: &[Value]) -> Vec<Manifest> {
        let manifest = |value: &Value| Manifest { value: value.clone(), source: "x.yaml:1".into() };
        values.iter().map(manifest).collect()
    }

    fn object(api_version: &str, kind: &str, namespace: &str, name: &str) -> Value {
        let mut metadata = json!({"name": name});
        if !namespace.is_empty() {
            metadata["namespace"] = namespace.into();
        }
        json!({"apiVersion": api_version, "kind": kind, "metadata": metadata})
    }

    #[test]
    fn namespaces_and_nodes_come_first_and_unserved_kinds_not_at_all() {
        let given = manifests(&[
            object("v1", "Service", "shop", "web"),
            object("rbac.authorization.k8s.io/v1", "Role", "shop", "reader"),
            object("networking.k8s.io/v1", "Ingress", "shop", "web"),
            object("v1", "Namespace", "", "ops"),
            object(
                "admissionregistration.k8s.io/v1",
                "ValidatingWebhookConfiguration",
                "shop",
                "hook",
            ),
            object("gateway.networking.k8s.io/v1", "Gateway", "shop", "web"),
            object("v1", "Service", "default", "web"),
            object("v1", "Service", "ops", "web"),
        ]);
        let plan = plan(&given, &Wishes { nodes: 1, ..Wishes::default() }).unwrap();
        let load = load(&given, &plan).unwrap();
        let order: Vec<String> = load.objects.iter().map(|(_, it)| it.object()).collect();
        let expected = [
            "Namespace ops",
            "Namespace shop",
            "Node node-1",
            "Service shop/web",
            "Role shop/reader",
            "Ingress shop/web",
            "Service default/web",
            "Service ops/web",
        ];
        assert_eq!(order, expected);
        let told = [
            "WARNING: Ingress shop/web is stored, but nothing in this lab does what it says yet",
            "ValidatingWebhookConfiguration shop/hook has no part in a lab and is left out",
            "WARNING: Gateway shop/web is left out, because labs do not serve Gateway yet: \
             nothing here does what it says",
        ];
        assert_eq!(load.warnings, told);
        let node = &load.objects[2].1.value;
        assert_eq!(node["status"]["addresses"][0]["address"], "10.1.1.110");
        assert_eq!(
            node["spec"],
            json!({"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]})
        );
    }

    #[test]
    fn definitions_come_before_the_objects_of_their_kinds() {
        let mut definition =
            object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "kites.example.com");
        definition["spec"] = json!({"group": "example.com", "scope": "Namespaced",
            "names": {"kind": "Kite", "plural": "kites"}, "versions": [{"name": "v1"}]});
        let given = manifests(&[object("example.com/v1", "Kite", "default", "red"), definition]);
        let plan = plan(&given, &Wishes { nodes: 1, ..Wishes::default() }).unwrap();
        let load = load(&given, &plan).unwrap();
        let kinds: Vec<&str> = load.objects.iter().map(|(kind, _)| kind.kind).collect();
        assert_eq!(kinds, ["CustomResourceDefinition", "Node", "Kite"]);
        assert_eq!(load.objects[2].0.plural, "kites");
        assert_eq!(load.warnings.len(), 1);
    }

    #[test]
    fn a_kind_nobody_knows_is_an_error() {
        let given = manifests(&[object("apps/v1", "Deploymnet", "default", "web")]);
        let plan = plan(&given, &Wishes::default()).unwrap();
        let error = load(&given, &plan).unwrap_err().to_string();
        assert_eq!(error, "x.yaml:1: Deploymnet default/web: this API serves no such kind");
    }
}
