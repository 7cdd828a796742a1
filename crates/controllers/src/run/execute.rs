//! Writes become requests.

use crate::claim::Claimant;
use crate::record;
use crate::taints::Taints;
use crate::write::{Condition, Write, evicted, silenced};
use client::{Client, Kind};
use jiff::Timestamp;
use model::ObjectKey;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

/// How long a request may take: others wait for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a list is changed anew in an object that somebody else keeps changing.
const ATTEMPTS: usize = 5;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no answer within {PATIENCE:?}")]
    Slow(#[from] Elapsed),
    #[error(transparent)]
    Client(#[from] client::Error),
}

impl Failure {
    /// The cluster was not as we knew it: reading again helps.
    pub(super) fn is_race(&self) -> bool {
        use client::Error::{AlreadyExists, Conflict, NotFound};
        matches!(self, Failure::Client(NotFound { .. } | AlreadyExists { .. } | Conflict { .. }))
    }

    /// The API's own words where it said no. A namespace that ends takes nothing, and nobody needs to hear of that.
    pub(super) fn refusal(&self) -> Option<&str> {
        let Failure::Client(client::Error::Rejected { status, .. }) = self else { return None };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        let ends = causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating");
        (!ends).then_some(&*status.message)
    }
}

/// Carries out a write; gives back the object as it is now, where the API says so.
pub(super) async fn execute(client: &Client, write: &Write) -> Result<Option<Value>, Failure> {
    let request = async {
        match write {
            Write::Create(object) => client::create(client, object).await.map(Some),
            Write::Ensure(object) => match client::create(client, object).await {
                Err(client::Error::AlreadyExists { .. }) => Ok(None),
                created => created.map(Some),
            },
            Write::Patch { kind, key, patch } => {
                client::patch_merge(client, *kind, namespace(key), &key.name, patch).await.map(Some)
            }
            Write::PatchStatus { kind, key, patch } => {
                client::patch_status(client, *kind, namespace(key), &key.name, patch)
                    .await
                    .map(Some)
            }
            Write::SetCondition { kind, key, uid, condition } => {
                let change = |object: &Value| condition_patch(object, condition);
                rewrite(client, Subject::new(*kind, key, uid), Part::Status, change).await
            }
            Write::SetTaints { node: key, uid, taints } => {
                let change = |node: &Value| taint_patch(node, taints);
                rewrite(client, Subject::new(Kind::NODE, key, uid), Part::Object, change).await
            }
            Write::Silence { node: key, uid } => {
                let change = |node: &Value| Some(conditions(silenced(node, Timestamp::now())?));
                rewrite(client, Subject::new(Kind::NODE, key, uid), Part::Status, change).await
            }
            Write::Evict { pod: key, uid, grace } => {
                evict(client, Subject::new(Kind::POD, key, uid), *grace).await
            }
            Write::Adopt { kind, key, uid, owner } => {
                adopt(client, Subject::new(*kind, key, uid), owner).await
            }
            Write::Release { kind, key, uid, owner } => {
                let change = |object: &Value| owner.release(object);
                claim(client, Subject::new(*kind, key, uid), change).await
            }
            Write::Entrust { claim, bond } => {
                let change = |object: &Value| bond.tie(object);
                rewrite(
                    client,
                    Subject::of_name(Kind::PERSISTENT_VOLUME_CLAIM, claim),
                    Part::Object,
                    change,
                )
                .await
            }
            Write::Bind { pod, node } => {
                client::bind(client, &pod.namespace, &pod.name, node).await.map(|()| None)
            }
            Write::Tell(_) => Ok(None),
            Write::Delete { kind, key, grace } => {
                client::delete(client, *kind, namespace(key), &key.name, *grace).await.map(|_| None)
            }
        }
    };
    Ok(timeout(PATIENCE, request).await??)
}

/// Reads one object.
pub(super) async fn read(
    client: &Client,
    kind: Kind,
    key: &ObjectKey,
) -> Result<Option<Value>, Failure> {
    let request = client::get(client, kind, namespace(key), &key.name);
    Ok(timeout(PATIENCE, request).await??)
}

/// Which part of an object a change is about.
#[derive(Clone, Copy)]
enum Part {
    Object,
    Status,
}

/// An object that a write is about, and not another one of the same name.
struct Subject<'a> {
    kind: Kind,
    key: &'a ObjectKey,
    /// `None`: whichever has the name.
    uid: Option<&'a str>,
}

impl<'a> Subject<'a> {
    fn new(kind: Kind, key: &'a ObjectKey, uid: &'a str) -> Self {
        Subject { kind, key, uid: Some(uid) }
    }

    fn of_name(kind: Kind, key: &'a ObjectKey) -> Self {
        Subject { kind, key, uid: None }
    }
}

/// Lists such as conditions, taints and owners have several writers: read, change ours, write if nobody else wrote
/// meanwhile. `change` gives a merge patch, or `None` where there is nothing to do. `None`: the object is gone.
async fn rewrite(
    client: &Client,
    subject: Subject<'_>,
    part: Part,
    change: impl Fn(&Value) -> Option<Value>,
) -> client::Result<Option<Value>> {
    let Subject { kind, key, uid } = subject;
    let same = |object: &Value| {
        uid.is_none_or(|uid| record::text(object, "/metadata/uid").unwrap_or_default() == uid)
    };
    let mut attempt = 1;
    loop {
        let found = client::get(client, kind, namespace(key), &key.name).await?;
        let Some(object) = found.filter(same) else { return Ok(None) };
        let Some(mut patch) = change(&object) else { return Ok(Some(object)) };
        patch["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
        let answer = match part {
            Part::Object => {
                client::patch_merge(client, kind, namespace(key), &key.name, &patch).await
            }
            Part::Status => {
                client::patch_status(client, kind, namespace(key), &key.name, &patch).await
            }
        };
        match answer {
            Err(client::Error::Conflict { .. }) if attempt < ATTEMPTS => attempt += 1,
            answer => return answer.map(Some),
        }
    }
}

fn condition_patch(object: &Value, condition: &Condition) -> Option<Value> {
    let listed = object.pointer("/status/conditions").and_then(Value::as_array);
    let conditions = condition.set_in(listed.map_or(&[], Vec::as_slice), Timestamp::now())?;
    Some(self::conditions(conditions))
}

fn conditions(conditions: Vec<Value>) -> Value {
    json!({"status": {"conditions": conditions}})
}

fn taint_patch(node: &Value, taints: &Taints) -> Option<Value> {
    let listed = node.pointer("/spec/taints").and_then(Value::as_array);
    let taints = taints.set_in(listed.map_or(&[], Vec::as_slice), Timestamp::now())?;
    Some(json!({"spec": {"taints": taints}}))
}

/// Whoever sees the pod go can read why.
async fn evict(
    client: &Client,
    subject: Subject<'_>,
    grace: Option<u32>,
) -> client::Result<Option<Value>> {
    let (kind, key) = (subject.kind, subject.key);
    let change = |pod: &Value| Some(conditions(evicted(pod, Timestamp::now())?));
    if rewrite(client, subject, Part::Status, change).await?.is_some() {
        client::delete(client, kind, namespace(key), &key.name, grace).await?;
    }
    Ok(None)
}

/// Our watch may be late, and what is given to an owner that is gone would go after it: so it is read before.
async fn adopt(
    client: &Client,
    subject: Subject<'_>,
    owner: &Claimant,
) -> client::Result<Option<Value>> {
    let found = client::get(client, owner.kind, namespace(&owner.key), &owner.key.name).await?;
    if !found.is_some_and(|found| owner.is_alive(&found)) {
        return Err(client::Error::NotFound { kind: owner.kind, name: owner.key.to_string() });
    }
    claim(client, subject, |object| owner.adopt(object)).await
}

/// An object that is not as we knew it is for the next decision.
async fn claim(
    client: &Client,
    subject: Subject<'_>,
    change: impl Fn(&Value) -> Option<Value>,
) -> client::Result<Option<Value>> {
    let (kind, name) = (subject.kind, subject.key.to_string());
    let object = rewrite(client, subject, Part::Object, change).await?;
    object.map(Some).ok_or(client::Error::NotFound { kind, name })
}

fn namespace(key: &ObjectKey) -> Option<&str> {
    Some(&*key.namespace).filter(|namespace| !namespace.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use apiserver::{ApiServer, Config};

    /// An API, and who asks it. It ends with the test.
    async fn api() -> Client {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = ApiServer::new(&Config::new(address)).unwrap();
        tokio::spawn(server.serve(listener, std::future::pending()));
        client::connect(None, Some(&format!("http://{address}"))).await.unwrap()
    }

    fn metadata(object: &Value) -> &Value {
        &object["metadata"]
    }

    #[tokio::test]
    async fn nothing_is_given_to_an_owner_that_is_gone_or_taken_from_another() {
        let client = api().await;
        let set = |name: &str| {
            json!({
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name},
                "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "c", "image": "i"}]}}},
            })
        };
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        });
        let mut uids = Vec::new();
        for object in [set("one"), set("two"), pod] {
            let created = client::create(&client, &object).await.unwrap();
            uids.push(metadata(&created)["uid"].as_str().unwrap().to_owned());
        }
        let owner = |name: &str, uid: &str| Claimant {
            kind: Kind::REPLICA_SET,
            key: ObjectKey::new("default", name),
            uid: uid.to_owned(),
        };
        let adopt = |pod: &str, owner: Claimant| Write::Adopt {
            kind: Kind::POD,
            key: ObjectKey::new("default", "p"),
            uid: pod.to_owned(),
            owner,
        };
        let rows = [
            ("an older one of its name", adopt(&uids[2], owner("one", "old")), Err(())),
            ("none of its name", adopt(&uids[2], owner("none", "old")), Err(())),
            ("another pod", adopt("old", owner("one", &uids[0])), Err(())),
            ("nobody has it", adopt(&uids[2], owner("one", &uids[0])), Ok(&uids[0])),
            ("another one has it", adopt(&uids[2], owner("two", &uids[1])), Ok(&uids[0])),
        ];
        for (case, write, expected) in rows {
            let answer = execute(&client, &write).await;
            let owner = match &answer {
                Ok(pod) => {
                    let pod = pod.as_ref().unwrap();
                    Ok(metadata(pod)["ownerReferences"][0]["uid"].as_str().unwrap())
                }
                Err(failure) if failure.is_race() => Err(()),
                Err(failure) => panic!("{case}: {failure}"),
            };
            assert_eq!(owner, expected.map(String::as_str), "{case}");
        }
    }
}
