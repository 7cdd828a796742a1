//! What the other nodes must know of this one.

use client::{Client, Kind};
use model::{Node, Vtep};
use serde_json::{Map, Value, json};

/// Writes the tunnel end into the Node's annotations, unless it stands there already.
pub(crate) async fn announce(client: &Client, node: &Node, vtep: &Vtep) -> client::Result<()> {
    if node.vtep.as_ref() == Some(vtep) {
        return Ok(());
    }
    let annotations: Map<String, Value> = vtep
        .annotations()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    let patch = json!({"metadata": {"annotations": annotations}});
    client::patch_merge(client, Kind::NODE, None, &node.meta.key.name, &patch).await?;
    tracing::info!(%vtep.public_ip, %vtep.mac, "tunnel end announced");
    Ok(())
}
