//! What the other nodes must know of this one.

use client::{Client, Kind};
use futures::future::{BoxFuture, FutureExt};
use model::{Node, Vtep};
use serde_json::{Map, Value, json};

/// Keeps the tunnel end in the Node's annotations, beside everything else that the agent does:
/// an API that does not answer holds nothing up.
pub(crate) struct Announcer {
    client: Client,
    /// What was written and has not been seen since.
    written: Option<Vtep>,
    under_way: Option<(Vtep, BoxFuture<'static, client::Result<()>>)>,
}

impl Announcer {
    pub(crate) fn new(client: Client) -> Self {
        Announcer { client, written: None, under_way: None }
    }

    /// Takes a look at the Node object, which may or may not say what it should.
    pub(crate) fn compare(&mut self, node: Option<&Node>, wanted: Option<Vtep>) {
        let (Some(node), Some(wanted)) = (node, wanted) else { return };
        let (seen, written) = (node.vtep.as_ref(), self.written.as_ref());
        if seen == Some(&wanted) || written == Some(&wanted) || self.under_way.is_some() {
            return;
        }
        let (client, name) = (self.client.clone(), node.meta.key.name.clone());
        let vtep = wanted.clone();
        let writing = async move { write(&client, &name, &vtep).await }.boxed();
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
        let announced = self.under_way.take().map(|(vtep, _)| vtep);
        if outcome.is_ok() {
            self.written = announced;
        }
        outcome
    }
}

async fn write(client: &Client, node: &str, vtep: &Vtep) -> client::Result<()> {
    let annotations = vtep.annotations().map(|(name, value)| (name.to_owned(), Value::from(value)));
    let annotations: Map<String, Value> = annotations.into_iter().collect();
    let patch = json!({"metadata": {"annotations": annotations}});
    client::patch_merge(client, Kind::NODE, None, node, &patch).await?;
    tracing::info!(public_ip = %vtep.public_ip, mac = %vtep.mac, "tunnel end announced");
    Ok(())
}
