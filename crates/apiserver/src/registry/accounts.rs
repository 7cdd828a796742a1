//! Service accounts: each namespace has one called `default`, and knows the authority behind the server's certificate;
//! each pod has one, and finds its token where clients look for it.

use super::{Part, Registry, Write};
use crate::access::User;
use crate::access::tokens::{Bound, Claims};
use crate::error::{Error, Prohibition};
use crate::resources::{Kind, Resource};
use crate::store::{Change, Key};
use crate::time;
use serde_json::{Value, json};

const DEFAULT: &str = "default";
/// The ConfigMap with the authority's certificate.
const ROOT: &str = "kube-root-ca.crt";

/// Since when uses of tokens that never end are noted: none are given here, so none was missed.
pub(super) fn tracking(now: i64) -> (Kind, String, Value) {
    let name = "kube-apiserver-legacy-service-account-token-tracking";
    let day = time::rfc3339(now).chars().take(10).collect::<String>();
    let map = json!({"metadata": {"name": name}, "data": {"since": day}});
    (Kind::ConfigMap, "kube-system".into(), map)
}
const DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Seconds for which a pod's token is asked for.
const LIFETIME: u32 = 3607;

impl Registry {
    /// Makes what every namespace has, also after somebody deleted or changed it.
    pub(super) fn settle_accounts(&mut self, change: &Change, now: i64) {
        let name = match (change.kind, change.key.name.as_str()) {
            (Kind::Namespace, name) if change.old.is_none() => name,
            (Kind::ServiceAccount, DEFAULT) | (Kind::ConfigMap, ROOT) => &change.key.namespace,
            _ => return,
        };
        let lives = |namespace: &Value| namespace["metadata"]["deletionTimestamp"].is_null();
        let namespace = self.store.get(Kind::Namespace, &Key::new("", name));
        if !namespace.is_some_and(|it| lives(&it.value)) {
            return;
        }
        let name = name.to_owned();
        self.provide(Kind::ServiceAccount, &name, json!({"metadata": {"name": DEFAULT}}), now);
        if let Some(authority) = &self.authority {
            let certificate = authority.certificate();
            let about = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";
            let annotations = json!({"kubernetes.io/description": about});
            let metadata = json!({"name": ROOT, "annotations": annotations});
            let map = json!({"metadata": metadata, "data": {"ca.crt": certificate}});
            self.provide(Kind::ConfigMap, &name, map, now);
        }
    }

    fn provide(&mut self, kind: Kind, namespace: &str, object: Value, now: i64) {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let key = Key::new(namespace, name);
        let written = match self.store.get(kind, &key) {
            Some(found) if found.value["data"] == object["data"] => return,
            Some(_) => self.update(kind, &key, Part::Main, object, Write::own(now)).map(drop),
            None => self.create(kind, namespace, object, Write::own(now)).map(drop),
        };
        if let Err(error) = written {
            tracing::warn!(%error, namespace, "a namespace lacks something");
        }
    }

    /// Gives a new pod its service account, and the volume with the account's token.
    pub(super) fn assign_account(
        &mut self,
        resource: &'static Resource,
        key: &Key,
        pod: &mut Value,
    ) -> Result<(), Error> {
        let spec = &mut pod["spec"];
        let named = |field: &str| spec[field].as_str().filter(|it| !it.is_empty());
        let account = named("serviceAccountName").or(named("serviceAccount"));
        let account = account.unwrap_or(DEFAULT).to_owned();
        let Some(found) = self.store.get(Kind::ServiceAccount, &Key::new(&key.namespace, &account))
        else {
            let (namespace, name) = (key.namespace.clone(), key.name.clone());
            let why = Prohibition::NoAccount { namespace, account };
            return Err(Error::Forbidden { resource, name, why });
        };
        let wants = spec.get("automountServiceAccountToken").and_then(Value::as_bool);
        let wants = wants.or_else(|| found.value["automountServiceAccountToken"].as_bool());
        spec["serviceAccountName"] = account.as_str().into();
        spec["serviceAccount"] = account.into();
        if self.authority.is_some() && wants != Some(false) {
            mount_token(spec, &format!("kube-api-access-{}", self.random.suffix()));
        }
        Ok(())
    }

    /// The user of a token whose words were verified, as long as all that it is bound to is there.
    pub(crate) fn account_of(&self, claims: &Claims) -> Option<User> {
        let is_there = |kind: Kind, namespace: &str, bound: &Bound| {
            let object = self.store.get(kind, &Key::new(namespace, &bound.name));
            object.is_some_and(|object| object.uid() == bound.uid)
        };
        let near = claims.namespace.as_str();
        let bound = [
            (Kind::ServiceAccount, near, Some(&claims.account)),
            (Kind::Pod, near, claims.pod.as_ref()),
            (Kind::Secret, near, claims.secret.as_ref()),
        ];
        let lives = bound
            .into_iter()
            .all(|(kind, namespace, it)| it.is_none_or(|it| is_there(kind, namespace, it)));
        lives.then(|| User::account(claims))
    }
}

/// Mounts the token into every container that has nothing at its place.
fn mount_token(spec: &mut Value, volume: &str) {
    let mut mounted = false;
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let Value::Object(container) = container else { continue };
            let mounts = container.entry("volumeMounts").or_insert_with(|| json!([]));
            let Value::Array(mounts) = mounts else { continue };
            if mounts.iter().any(|mount| mount["mountPath"] == DIRECTORY) {
                continue;
            }
            mounts.push(json!({"name": volume, "readOnly": true, "mountPath": DIRECTORY}));
            mounted = true;
        }
    }
    if let (true, Value::Object(spec)) = (mounted, spec) {
        let sources = json!([
            {"serviceAccountToken": {"expirationSeconds": LIFETIME, "path": "token"}},
            {"configMap": {"name": ROOT, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace",
                "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]);
        let projected = json!({"defaultMode": 420, "sources": sources});
        let volumes = spec.entry("volumes").or_insert_with(|| json!([]));
        if let Value::Array(volumes) = volumes {
            volumes.push(json!({"name": volume, "projected": projected}));
        }
    }
}
