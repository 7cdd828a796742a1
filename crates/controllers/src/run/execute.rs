//! Writes become requests.

use crate::record;
use crate::write::{Condition, Write, tainted};
use client::{Client, Kind};
use jiff::Timestamp;
use model::ObjectKey;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

/// How long a request may take: others wait for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a condition is set anew on an object that somebody else keeps changing.
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
                set_condition(client, *kind, key, uid, condition).await
            }
            Write::SetTaint { node, uid, taint } => set_taint(client, node, uid, *taint).await,
            Write::Bind { pod, node } => {
                client::bind(client, &pod.namespace, &pod.name, node).await.map(|()| None)
            }
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

/// Conditions are one list with many writers: read, change ours, write if nobody else wrote meanwhile.
async fn set_condition(
    client: &Client,
    kind: Kind,
    key: &ObjectKey,
    uid: &str,
    condition: &Condition,
) -> client::Result<Option<Value>> {
    let mut attempt = 1;
    loop {
        let found = client::get(client, kind, namespace(key), &key.name).await?;
        let same =
            |object: &Value| record::text(object, "/metadata/uid").unwrap_or_default() == uid;
        let Some(object) = found.filter(same) else { return Ok(None) };
        let Some(patch) = condition_patch(&object, condition) else { return Ok(Some(object)) };
        match client::patch_status(client, kind, namespace(key), &key.name, &patch).await {
            Err(client::Error::Conflict { .. }) if attempt < ATTEMPTS => attempt += 1,
            answer => return answer.map(Some),
        }
    }
}

/// Taints are one list with several writers, as conditions are.
async fn set_taint(
    client: &Client,
    node: &ObjectKey,
    uid: &str,
    taint: Option<&str>,
) -> client::Result<Option<Value>> {
    let mut attempt = 1;
    loop {
        let found = client::get(client, Kind::NODE, None, &node.name).await?;
        let same = |node: &Value| record::text(node, "/metadata/uid").unwrap_or_default() == uid;
        let Some(object) = found.filter(same) else { return Ok(None) };
        let listed = object.pointer("/spec/taints").and_then(Value::as_array);
        let Some(taints) = tainted(listed.map_or(&[], Vec::as_slice), taint) else {
            return Ok(Some(object));
        };
        let version = &object["metadata"]["resourceVersion"];
        let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
        match client::patch_merge(client, Kind::NODE, None, &node.name, &patch).await {
            Err(client::Error::Conflict { .. }) if attempt < ATTEMPTS => attempt += 1,
            answer => return answer.map(Some),
        }
    }
}

fn condition_patch(object: &Value, condition: &Condition) -> Option<Value> {
    let listed = object.pointer("/status/conditions").and_then(Value::as_array);
    let conditions = condition.set_in(listed.map_or(&[], Vec::as_slice), Timestamp::now())?;
    let version = &object["metadata"]["resourceVersion"];
    Some(json!({
        "metadata": {"resourceVersion": version},
        "status": {"conditions": conditions},
    }))
}

fn namespace(key: &ObjectKey) -> Option<&str> {
    Some(&*key.namespace).filter(|namespace| !namespace.is_empty())
}
