//! Whole kinds, followed for ever.
//!
//! ```text
//!            ┌──────────── error: warn, wait (100 ms … 30 s) ───────────┐
//!            ▼                                                          │
//!   list pages ──► Restarted(all) ──► watch ──► Applied | Deleted ──► stream ends: resume
//!            ▲                                                          │ 410 Gone: list again
//!            └──────────────────────────────────────────────────────────┘
//! ```

use crate::Kind;
use crate::backoff::Backoff;
use crate::object::named;
use futures::stream::{BoxStream, SelectAll, StreamExt, select_all};
use kube::core::DynamicObject;
use kube::runtime::watcher;
use kube::{Api, Client};
use serde_json::Value;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

/// How long one watch request lasts; bounds how long a dead connection goes unnoticed.
pub(crate) const WATCH_SECONDS: u32 = 60;
/// How long to wait before asking again for a kind that the API does not serve.
const ABSENT: Duration = Duration::from_secs(30);

/// What to follow: a kind, all of it or a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    pub kind: Kind,
    /// Only this namespace; `None` is all.
    pub namespace: Option<String>,
    /// Label selector as the API takes it: `app=web,tier!=db`.
    pub labels: Option<String>,
    /// Field selector as the API takes it: `spec.nodeName=node-1`.
    pub fields: Option<String>,
}

impl From<Kind> for Watch {
    fn from(kind: Kind) -> Self {
        Self { kind, namespace: None, labels: None, fields: None }
    }
}

/// What became known. Objects are whole and carry `apiVersion` and `kind`.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The object is new or changed (or perhaps the same: a resumed watch may say so).
    Applied { kind: Kind, object: Value },
    /// The object is gone; this was its last state.
    Deleted { kind: Kind, object: Value },
    /// A list of the kind begins; what of an earlier one has come counts no more. Only in [pieces](watch_kinds_in_pieces).
    Listing { kind: Kind },
    /// An object of the list that is coming in. Only in [pieces](watch_kinds_in_pieces).
    Listed { kind: Kind, object: Value },
    /// These, and those that were [`Event::Listed`], are all objects of the kind: what is not among them is gone.
    /// The first one of a kind is its first sync.
    Restarted { kind: Kind, objects: Vec<Value> },
    /// Every kind has had its first `Restarted`. Comes once.
    Synced,
}

/// The merged events of several kinds. Dropping it ends the watches.
pub struct Watcher {
    events: SelectAll<BoxStream<'static, Event>>,
    unsynced: BTreeSet<Kind>,
    synced: bool,
}

impl Watcher {
    /// Whether every kind has had its first list and [`Event::Synced`] has been given out.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// The next event; waits as long as it takes. May be dropped and called again without losing an event.
    pub async fn next(&mut self) -> Event {
        if self.unsynced.is_empty() && !self.synced {
            self.synced = true;
            return Event::Synced;
        }
        match self.events.next().await {
            Some(event) => {
                if let Event::Restarted { kind, .. } = &event {
                    self.unsynced.remove(kind);
                }
                event
            }
            // Only a watcher of nothing ends.
            None => std::future::pending().await,
        }
    }
}

/// Follows each kind (name a kind only once) for ever, through errors, restarts and absence of the API.
///
/// Until an API that went away is back nothing is said: what was known stays. Then one `Restarted` per kind, or, where
/// the API still knows our place in its history, just the missed changes. A kind that the API does not serve counts
/// as empty and is asked for again every 30 s.
#[must_use]
pub fn watch_kinds(client: &Client, watches: &[Watch]) -> Watcher {
    watch(client, watches, Lists::AtOnce)
}

/// As [`watch_kinds`], but lists come object by object, so that nobody need hold all of a large cluster's at once.
#[must_use]
pub fn watch_kinds_in_pieces(client: &Client, watches: &[Watch]) -> Watcher {
    watch(client, watches, Lists::InPieces)
}

/// How the objects of a list are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lists {
    AtOnce,
    InPieces,
}

fn watch(client: &Client, watches: &[Watch], lists: Lists) -> Watcher {
    let streams = watches.iter().map(|watch| follow(client.clone(), watch.clone(), lists));
    Watcher {
        events: select_all(streams),
        unsynced: watches.iter().map(|watch| watch.kind).collect(),
        synced: false,
    }
}

fn follow(client: Client, watch: Watch, lists: Lists) -> BoxStream<'static, Event> {
    let mut config = watcher::Config::default().timeout(WATCH_SECONDS);
    config.label_selector = watch.labels;
    config.field_selector = watch.fields;
    let resource = watch.kind.resource();
    let api: Api<DynamicObject> = match watch.namespace {
        Some(namespace) => Api::namespaced_with(client, &namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let source = watcher(api, config).boxed();
    futures::stream::unfold(Follower::new(watch.kind, source, lists), |mut follower| async move {
        let event = follower.next().await?;
        Some((event, follower))
    })
    .boxed()
}

type Source = BoxStream<'static, watcher::Result<watcher::Event<DynamicObject>>>;

/// One kind's watch: gathers lists, waits after errors.
struct Follower {
    kind: Kind,
    source: Source,
    lists: Lists,
    /// The list that is coming in, where it is told at once.
    listing: Vec<Value>,
    listed: bool,
    backoff: Backoff,
    failed: Instant,
    wait: Option<Duration>,
}

impl Follower {
    fn new(kind: Kind, source: Source, lists: Lists) -> Self {
        let backoff = Backoff::default();
        Self {
            kind,
            source,
            lists,
            listing: Vec::new(),
            listed: false,
            backoff,
            failed: Instant::now(),
            wait: None,
        }
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(wait) = self.wait.take() {
                sleep(wait).await;
            }
            let event = match self.source.next().await? {
                Ok(event) => self.translate(event),
                Err(error) => self.endure(&error),
            };
            if event.is_some() {
                return event;
            }
        }
    }

    fn translate(&mut self, event: watcher::Event<DynamicObject>) -> Option<Event> {
        let kind = self.kind;
        match event {
            watcher::Event::Init => {
                self.listing.clear();
                return (self.lists == Lists::InPieces).then_some(Event::Listing { kind });
            }
            watcher::Event::InitApply(object) if self.lists == Lists::InPieces => {
                return value(kind, &object).map(|object| Event::Listed { kind, object });
            }
            watcher::Event::InitApply(object) => self.listing.extend(value(kind, &object)),
            watcher::Event::InitDone => {
                self.listed = true;
                return Some(Event::Restarted { kind, objects: std::mem::take(&mut self.listing) });
            }
            watcher::Event::Apply(object) => {
                return value(kind, &object).map(|object| Event::Applied { kind, object });
            }
            watcher::Event::Delete(object) => {
                return value(kind, &object).map(|object| Event::Deleted { kind, object });
            }
        }
        None
    }

    /// Plans the wait that an error costs. The first "no such kind" counts as an empty list.
    fn endure(&mut self, error: &watcher::Error) -> Option<Event> {
        let kind = self.kind;
        if is_absent(error) {
            self.wait = Some(ABSENT);
            let first = !std::mem::replace(&mut self.listed, true);
            debug!(%kind, first, "the API does not serve this kind");
            return first.then(|| Event::Restarted { kind, objects: Vec::new() });
        }
        let random = RandomState::new().hash_one(kind);
        if is_expired(error) {
            // The API is there. Whoever has been away for long comes back at a moment of its own already.
            debug!(%kind, "the API forgot our place in its history: listing again");
            self.wait = Some(Backoff::short(random));
            return None;
        }
        let wait = self.backoff.after(self.failed.elapsed(), random);
        self.failed = Instant::now();
        self.wait = Some(wait);
        warn!(%kind, ?wait, error = error as &dyn std::error::Error, "watch failed, will try again");
        None
    }
}

fn value(kind: Kind, object: &DynamicObject) -> Option<Value> {
    let value = serde_json::to_value(object)
        .inspect_err(|error| warn!(%kind, %error, "unreadable object"))
        .ok()?;
    Some(named(kind, value))
}

fn is_absent(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) =
        error
    else {
        return false;
    };
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

fn is_expired(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchError(status) => status.code == 410,
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 410,
        _ => false,
    }
}
