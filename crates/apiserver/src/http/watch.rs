//! Watches: a cursor in the store's history and a stream of lines.
//!
//! A watcher owns no queue: it reads the next events when the client has taken the last ones. One that falls behind
//! what the store remembers is told so (410) and lists again.

use super::accept::View;
use super::query::Query;
use super::reply::Reply;
use super::route::Place;
use crate::error::{Cause, Error, Reason};
use crate::resources::Resource;
use crate::selector::Selector;
use crate::server::{ApiServer, now};
use crate::store::{Action, Event, Object};
use crate::table::{self, Include};
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

/// Events read at once.
const BATCH: usize = 256;
/// A piece of the stream is sent when it has reached this size, in bytes.
const PIECE: usize = 64 << 10;
/// A client that takes nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(30);
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
const DEFAULT_TIMEOUT: u64 = 1800;

/// What one client watches.
struct Watcher {
    server: Arc<ApiServer>,
    resource: &'static Resource,
    namespace: Option<String>,
    name: Option<String>,
    selector: Selector,
    view: View,
    include: Include,
    bookmarks: bool,
    lines: mpsc::Sender<Bytes>,
}

/// Where the history begins for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// With what exists, and a mark at its end if asked for.
    Existing {
        mark: bool,
    },
    Now,
    After(u64),
}

/// The client went away.
struct Gone;

pub(super) fn start(
    server: &Arc<ApiServer>,
    place: &Place,
    query: &Query,
    view: View,
) -> Result<Reply, Error> {
    let start = start_of(query)?;
    let (lines, pieces) = mpsc::channel(1);
    let watcher = Watcher {
        server: server.clone(),
        resource: place.resource,
        namespace: place.namespace.clone(),
        name: place.name.clone(),
        selector: query.selector.clone(),
        view,
        include: query.include,
        bookmarks: query.bookmarks,
        lines,
    };
    let end = Instant::now()
        + Duration::from_secs(query.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT).min(86_400));
    tokio::spawn(async move {
        // Either way the stream ends here, and the client knows how to come back.
        watcher.run(start, end).await.unwrap_or(());
    });
    Ok(Reply::stream(pieces, None))
}

/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-watch>
fn start_of(query: &Query) -> Result<Start, Error> {
    if let Some(message) = query.no_version() {
        return Err(Error::Untyped { message });
    }
    let forbidden = |message: &str| {
        let (field, message) = ("resourceVersionMatch".into(), format!("Forbidden: {message}"));
        let causes = vec![Cause { reason: Reason::Forbidden, field, message }];
        Error::Options { kind: "ListOptions", causes }
    };
    match query.initial_events {
        None if query.exact || query.not_older => Err(forbidden(
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        )),
        Some(_) if !query.not_older => Err(forbidden(
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        )),
        Some(true) => Ok(Start::Existing { mark: query.bookmarks }),
        Some(false) if query.resource_version.is_none_or(|version| version == 0) => Ok(Start::Now),
        _ => Ok(match query.resource_version {
            None | Some(0) => Start::Existing { mark: false },
            Some(version) => Start::After(version),
        }),
    }
}

impl Watcher {
    async fn run(self, start: Start, end: Instant) -> Result<(), Gone> {
        let mut news = self.server.subscribe(self.resource.kind);
        let mut cursor = self.begin(start).await?;
        let mut bookmark = Instant::now() + BOOKMARK_INTERVAL;
        loop {
            news.borrow_and_update();
            let visible = self.server.visible();
            let (events, revision) = self.server.read(|registry| {
                let store = &registry.store;
                let events = store.events(self.resource.kind, cursor, visible, BATCH);
                (events, store.revision().min(visible))
            });
            let events = match events {
                Ok(_) if cursor > revision => return self.fail(&too_new(cursor, revision)).await,
                Ok(events) => events,
                Err(error) => return self.fail(&error).await,
            };
            if let Some(last) = events.last() {
                cursor = last.revision;
                self.send(events.iter().filter_map(|event| self.seen(event))).await?;
                continue;
            }
            cursor = revision;
            tokio::select! {
                changed = news.changed() => changed.map_err(|_closed| Gone)?,
                () = self.lines.closed() => return Err(Gone),
                () = sleep_until(end) => return self.mark(cursor, false).await,
                () = sleep_until(bookmark) => {
                    bookmark = Instant::now() + BOOKMARK_INTERVAL;
                    self.mark(cursor, false).await?;
                }
            }
        }
    }

    /// Sends what exists, where that is wanted; the number of the write to go on from.
    async fn begin(&self, start: Start) -> Result<u64, Gone> {
        let mark = match start {
            Start::After(revision) => return Ok(revision),
            Start::Now => {
                let visible = self.server.visible();
                return Ok(self.server.read(|registry| registry.store.revision().min(visible)));
            }
            Start::Existing { mark } => mark,
        };
        let (objects, revision) = self.server.read(|registry| {
            let listed = registry.store.list(self.resource.kind, self.namespace.as_deref(), None);
            let objects: Vec<Arc<Object>> = listed.map(|(_, object)| object).collect();
            (objects, registry.store.revision())
        });
        if let Err(error) = self.server.saved().await {
            self.fail(&error).await?;
            return Err(Gone);
        }
        let existing = objects.into_iter().filter(|object| self.matches(object));
        self.send(existing.map(|object| (Action::Added, object))).await?;
        if mark {
            self.mark(revision, true).await?;
        }
        Ok(revision)
    }

    /// What a change looks like to this client: an object that moves into its selection is new to it.
    fn seen(&self, event: &Event) -> Option<(Action, Arc<Object>)> {
        let before = event.previous.as_ref().filter(|previous| self.matches(previous));
        let after = event.action != Action::Deleted && self.matches(&event.object);
        match (before, after) {
            (None, false) => None,
            (None, true) => Some((Action::Added, event.object.clone())),
            (Some(_), true) => Some((Action::Modified, event.object.clone())),
            (Some(_), false) if event.action == Action::Deleted => {
                Some((Action::Deleted, event.object.clone()))
            }
            (Some(before), false) => {
                let mut last = before.value.clone();
                last["metadata"]["resourceVersion"] = event.revision.to_string().into();
                Some((Action::Deleted, Arc::new(Object::unsaved(last))))
            }
        }
    }

    fn matches(&self, object: &Object) -> bool {
        let is = |field: &str, wanted: &Option<String>| {
            wanted
                .as_ref()
                .is_none_or(|wanted| *object.look(&["metadata", field]) == *wanted.as_str())
        };
        is("namespace", &self.namespace) && is("name", &self.name) && self.selector.matches(object)
    }

    async fn send(&self, changes: impl Iterator<Item = (Action, Arc<Object>)>) -> Result<(), Gone> {
        let mut piece = Vec::new();
        for (action, object) in changes {
            self.write_line(&mut piece, action, object);
            if piece.len() >= PIECE {
                self.push(std::mem::take(&mut piece)).await?;
            }
        }
        if piece.is_empty() { Ok(()) } else { self.push(piece).await }
    }

    fn write_line(&self, piece: &mut Vec<u8>, action: Action, object: Arc<Object>) {
        let kind = match action {
            Action::Added => "ADDED",
            Action::Modified => "MODIFIED",
            Action::Deleted => "DELETED",
        };
        let json: Bytes = match self.view {
            View::Json => self.resource.text(&object),
            View::Metadata => table::metadata_only(&object.look(&["metadata"])).into(),
            View::Table => {
                let metadata =
                    json!({"resourceVersion": object.value["metadata"]["resourceVersion"]});
                let objects = std::iter::once(object);
                let table = table::table(self.resource, objects, &metadata, self.include, now());
                table.slice(..table.len() - 1)
            }
        };
        write_event(piece, kind, &json);
    }

    /// Sends a bookmark, where the client takes them: nothing up to here was left out.
    async fn mark(&self, revision: u64, initial_end: bool) -> Result<(), Gone> {
        if !self.bookmarks {
            return Ok(());
        }
        let mut metadata =
            json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (kind, version) = match self.view {
            View::Json => (self.resource.name, self.resource.api_version()),
            View::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1".to_owned()),
            View::Table => ("Table", "meta.k8s.io/v1".to_owned()),
        };
        let object = json!({"kind": kind, "apiVersion": version, "metadata": metadata});
        self.push_event("BOOKMARK", &object).await
    }

    async fn fail(&self, error: &Error) -> Result<(), Gone> {
        self.push_event("ERROR", &error.status()).await
    }

    async fn push_event(&self, kind: &str, object: &Value) -> Result<(), Gone> {
        let mut piece = Vec::new();
        write_event(&mut piece, kind, object.to_string().as_bytes());
        self.push(piece).await
    }

    async fn push(&self, piece: Vec<u8>) -> Result<(), Gone> {
        let sent = timeout(PATIENCE, self.lines.send(piece.into())).await;
        sent.map_err(|_elapsed| Gone)?.map_err(|_closed| Gone)
    }
}

fn write_event(piece: &mut Vec<u8>, kind: &str, object: &[u8]) {
    piece.extend_from_slice(br#"{"type":""#);
    piece.extend_from_slice(kind.as_bytes());
    piece.extend_from_slice(br#"","object":"#);
    piece.extend_from_slice(object);
    piece.extend_from_slice(b"}\n");
}

fn too_new(cursor: u64, revision: u64) -> Error {
    Error::Expired {
        message: format!("resource version {cursor} is not of this server, which is at {revision}"),
    }
}
