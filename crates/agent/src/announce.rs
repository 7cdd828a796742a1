//! What others must know of this node: its ends of the tunnel, for its peers, and how it serves Services, for
//! whoever explains a connection.

use client::{Client, Kind};
use futures::future::{BoxFuture, FutureExt};
use model::{Family, Node, Proxy, Vtep};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How long after a failure it is tried again, and for how long after a write changes of before it may come in.
const PAUSE: Duration = Duration::from_secs(5);

/// What the Node's annotations are to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub(crate) vteps: BTreeMap<Family, Vtep>,
    pub(crate) proxy: Proxy,
}

impl Announcement {
    fn is_in(&self, node: &Node) -> bool {
        let vteps = &mut self.vteps.iter();
        vteps.all(|(family, vtep)| node.vteps.get(family) == Some(vtep))
            && node.proxy.as_ref() == Some(&Ok(self.proxy.clone()))
    }

    fn annotations(&self) -> Map<String, Value> {
        let vteps = self.vteps.values().flat_map(Vtep::annotations);
        let proxy = (Proxy::ANNOTATION, self.proxy.annotation());
        let all = vteps.chain([proxy]);
        all.map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
    }
}

/// Keeps the annotations as they should be, beside everything else that the agent does: an API that does not answer
/// holds nothing up.
pub(crate) struct Announcer {
    client: Client,
    /// What was written and has not been seen since, and when.
    written: Option<(Announcement, Instant)>,
    under_way: Option<(Announcement, BoxFuture<'static, client::Result<()>>)>,
    /// Not before then, after a failure.
    not_before: Option<Instant>,
}

impl Announcer {
    pub(crate) fn new(client: Client) -> Self {
        Announcer { client, written: None, under_way: None, not_before: None }
    }

    /// Takes a look at the Node object, which may or may not say what it should.
    pub(crate) fn compare(&mut self, node: Option<&Node>, wanted: Announcement) {
        let Some(node) = node else { return };
        let waits = self.not_before.is_some_and(|time| Instant::now() < time);
        let is_written = self.written.as_ref().is_some_and(|(written, _)| *written == wanted);
        let done = is_written || wanted.is_in(node);
        if done || waits || self.under_way.is_some() {
            return;
        }
        self.not_before = None;
        let (client, name) = (self.client.clone(), node.meta.key.name.clone());
        let announced = wanted.clone();
        let writing = async move { write(&client, &name, &announced).await }.boxed();
        self.under_way = Some((wanted, writing));
    }

    /// The Node object changed: what was written may have been overwritten. So soon after it the change is rather one
    /// from before, which was under way; then it is looked at again later.
    pub(crate) fn forget(&mut self) {
        if let Some((_, time)) = self.written.take()
            && time.elapsed() < PAUSE
        {
            self.not_before = Some(time + PAUSE);
        }
    }

    /// When there is a reason to [`Announcer::compare`] again: an announcement ended, or may be tried again. Never,
    /// while there is neither. May be dropped and called again.
    pub(crate) async fn ended(&mut self) -> client::Result<()> {
        let Some((_, writing)) = &mut self.under_way else {
            match self.not_before {
                Some(time) => sleep_until(time).await,
                None => std::future::pending().await,
            }
            self.not_before = None;
            return Ok(());
        };
        let outcome = writing.await;
        let announced = self.under_way.take().map(|(announced, _)| announced);
        match outcome {
            Ok(()) => self.written = announced.map(|announced| (announced, Instant::now())),
            Err(_) => self.not_before = Some(Instant::now() + PAUSE),
        }
        outcome
    }
}

async fn write(client: &Client, node: &str, announced: &Announcement) -> client::Result<()> {
    let patch = json!({"metadata": {"annotations": announced.annotations()}});
    client::patch_merge(client, Kind::NODE, None, node, &patch).await?;
    for vtep in announced.vteps.values() {
        tracing::info!(public_ip = %vtep.public_ip, mac = %vtep.mac, "tunnel end announced");
    }
    tracing::info!(mode = %announced.proxy.mode, "service proxy announced");
    Ok(())
}
