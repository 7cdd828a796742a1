//! kube-proxy's settings, from the ConfigMap that kubeadm makes for it: what serves Services where no agent does.

use client::Client;
use lab::Manifest;
use model::{Proxy, manifest};
use serde_json::Value;
use std::time::Duration;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-proxy";
/// The member of the ConfigMap's data that holds a `KubeProxyConfiguration` as YAML.
const MEMBER: &str = "config.conf";
/// It is a help, not a need.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("ConfigMap {NAMESPACE}/{NAME} .data[{MEMBER}]: {0}")]
    Yaml(#[from] manifest::Error),
    #[error("ConfigMap {NAMESPACE}/{NAME} .data[{MEMBER}]: {0}")]
    Field(#[from] model::FieldError),
}

/// `None` where there is none, or nobody may read it, which is said in the log.
pub(super) async fn of_cluster(client: &Client) -> Option<Proxy> {
    let asked = client::get(client, client::Kind::CONFIG_MAP, Some(NAMESPACE), NAME);
    let found = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(found)) => found?,
        Ok(Err(error)) => {
            tracing::warn!(%error, "how kube-proxy is set is not known");
            return None;
        }
        Err(_elapsed) => {
            tracing::warn!("how kube-proxy is set is not known: the API does not answer");
            return None;
        }
    };
    settings(&found).unwrap_or_else(|error| {
        tracing::warn!("{error}");
        None
    })
}

pub(super) fn of_manifests(manifests: &[Manifest]) -> Result<Option<Proxy>, Error> {
    let is = |value: &Value| {
        value["kind"] == "ConfigMap"
            && value["metadata"]["namespace"] == NAMESPACE
            && value["metadata"]["name"] == NAME
    };
    let found = manifests.iter().map(|manifest| &manifest.value).find(|value| is(value));
    found.map_or(Ok(None), settings)
}

/// `None`: the ConfigMap is about something else.
fn settings(config_map: &Value) -> Result<Option<Proxy>, Error> {
    let Some(text) = config_map["data"][MEMBER].as_str() else { return Ok(None) };
    let documents = manifest::parse(MEMBER, text)?;
    let is = |document: &&manifest::Document| document.value["kind"] == "KubeProxyConfiguration";
    let Some(configuration) = documents.iter().find(is) else { return Ok(None) };
    Ok(Some(Proxy::kube_proxy(&configuration.value)?))
}
