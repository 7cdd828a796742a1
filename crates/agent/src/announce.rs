//! What the other nodes must know of this one.

use client::{Client, Kind};
use futures::future::{BoxFuture, FutureExt};
use model::{Family, Node, Vtep};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Keeps the tunnel end in the Node's annotations, beside everything else that the agent does:
/// an API that does not answer holds nothing up.
pub(crate) struct Announcer {
    client: Client,
    /// What was written and has not been seen since.
    written: Option<Vteps>,
    under_way: Option<(Vteps, BoxFuture<'static, client::Result<()>>)>,
}

/// A node's tunnel ends.
pub(crate) type Vteps = BTreeMap<Family, Vtep>;

impl Announcer {
    pub(crate) fn new(client: Client) -> Self {
        Announcer { client, written: None, under_way: None }
    }

    /// Takes a look at the Node object, which may or may not say what it should.
    pub(crate) fn compare(&mut self, node: Option<&Node>, wanted: Vteps) {
        let Some(node) = node else { return };
        let seen = wanted.iter().all(|(family, vtep)| node.vteps.get(family) == Some(vtep));
        if seen || self.written.as_ref() == Some(&wanted) || self.under_way.is_some() {
            return;
        }
        let (client, name) = (self.client.clone(), node.meta.key.name.clone());
        let vteps = wanted.clone();
        let writing = async move { write(&client, &name, &vteps).await }.boxed();
        self.under_way = Some((wanted, writing));
    }

    /// The Node object changed: what was written may have been overwritten.
    pub(crate) fn forget(&mut self) {
        self.written = None;
    }

    /// How the announcement under way ends; never, while there is none. May be dropped and called again.
    pub(crate) async fn ended(&mut self) -> client::Result<()> {
        let Some((_, writing)) = &mut self.under_way else { return std::future::pending().await };
        let outcome = writing.await;
        let announced = self.under_way.take().map(|(vteps, _)| vteps);
        if outcome.is_ok() {
            self.written = announced;
        }
        outcome
    }
}

async fn write(client: &Client, node: &str, vteps: &Vteps) -> client::Result<()> {
    let annotations = vteps.values().flat_map(Vtep::annotations);
    let annotations = annotations.map(|(name, value)| (name.to_owned(), Value::from(value)));
    let annotations: Map<String, Value> = annotations.collect();
    let patch = json!({"metadata": {"annotations": annotations}});
    client::patch_merge(client, Kind::NODE, None, node, &patch).await?;
    for vtep in vteps.values() {
        tracing::info!(public_ip = %vtep.public_ip, mac = %vtep.mac, "tunnel end announced");
    }
    Ok(())
}
