//! Watches: a cursor in the store's history and a stream of lines.
//!
//! A watcher owns no queue: it reads the next events when the client has taken the last ones, all that there are by
//! then as one piece. It reads its kind's log, not the registry, so however many watch, no write waits for them. One
//! that falls behind what the log remembers is told so (410) and lists again.

use super::accept::{Medium, View};
use super::query::Query;
use super::reply::{Reply, Stream};
use super::route::Place;
use crate::error::{Cause, Error, Reason};
use crate::protobuf;
use crate::resources::Resource;
use crate::selector::Selector;
use crate::server::{ApiServer, now};
use crate::store::{Action, Event, Key, Log, Object, Output};
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
    protobuf: bool,
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

pub(super) fn start(server: &Arc<ApiServer>, place: &Place, query: &Query) -> Result<Reply, Error> {
    let start = start_of(query)?;
    let (lines, pieces) = mpsc::channel(1);
    let watcher = Watcher {
        server: server.clone(),
        resource: place.resource,
        namespace: place.namespace.clone(),
        name: place.name.clone(),
        selector: query.selector.clone(),
        view: query.form.view,
        protobuf: query.form.medium == Medium::Protobuf,
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
    let reply = Reply::stream(Stream::of(pieces));
    Ok(match query.form.medium {
        Medium::Protobuf => reply.media("application/vnd.kubernetes.protobuf;stream=watch"),
        _ => reply,
    })
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
        let run = self.server.run();
        let mut news = self.server.subscribe(self.resource.kind);
        let log = self.server.log(self.resource.kind);
        let mut cursor = self.begin(start).await?;
        let mut bookmark = Instant::now() + BOOKMARK_INTERVAL;
        loop {
            news.borrow_and_update();
            if self.server.run() != run {
                // Memory was read from the disk anew, and numbers come again.
                return Ok(());
            }
            let events = match log.after(cursor, self.server.visible(), BATCH) {
                Ok(events) => events,
                Err(error) => return self.fail(&error).await,
            };
            if let Some(last) = events.last() {
                cursor = last.revision;
                let seen = events.iter().filter_map(|event| Some((event, self.seen(event)?)));
                self.send(seen.map(|(event, action)| self.line(event, action))).await?;
                continue;
            }
            tokio::select! {
                changed = news.changed() => changed.map_err(|_closed| Gone)?,
                () = self.lines.closed() => return Err(Gone),
                () = sleep_until(end) => return self.mark(self.reached(&log, cursor), false).await,
                () = sleep_until(bookmark) => {
                    bookmark = Instant::now() + BOOKMARK_INTERVAL;
                    cursor = self.reached(&log, cursor);
                    self.mark(cursor, false).await?;
                }
            }
        }
    }

    /// Up to which write a client that has seen all events up to `cursor` has missed nothing: the last one of any kind,
    /// unless its own kind has more by now.
    fn reached(&self, log: &Log, cursor: u64) -> u64 {
        let latest = self.latest();
        if log.latest() > cursor { cursor } else { latest }
    }

    /// Number of the last write that may be shown.
    fn latest(&self) -> u64 {
        let visible = self.server.visible();
        self.server.read(|registry| registry.store.revision().min(visible))
    }

    /// Sends what exists, where that is wanted; the number of the write to go on from.
    async fn begin(&self, start: Start) -> Result<u64, Gone> {
        let mark = match start {
            Start::After(revision) => {
                let latest = self.latest();
                if revision > latest {
                    self.fail(&too_new(revision, latest)).await?;
                    return Err(Gone);
                }
                return Ok(revision);
            }
            Start::Now => return Ok(self.latest()),
            Start::Existing { mark } => mark,
        };
        let run = self.server.run();
        let (objects, revision) = self.server.read(|registry| {
            let listed = registry.store.list(self.resource.kind, self.namespace.as_deref(), None);
            let listed = listed.filter(|(key, object)| self.matches(key, object));
            let objects: Vec<Arc<Object>> = listed.map(|(_, object)| object).collect();
            (objects, registry.store.revision())
        });
        if let Err(error) = self.server.saved(run).await {
            self.fail(&error).await?;
            return Err(Gone);
        }
        let lines = objects.into_iter().map(|object| self.encode(Action::Added, object));
        self.send(lines).await?;
        if mark {
            self.mark(revision, true).await?;
        }
        Ok(revision)
    }

    /// What a change looks like to this client: an object that moves into its selection is new to it.
    fn seen(&self, event: &Event) -> Option<Action> {
        let matches = |object: &Arc<Object>| self.matches(&event.key, object);
        let before = event.previous.as_ref().is_some_and(matches);
        let after = event.action != Action::Deleted && matches(&event.object);
        match (before, after) {
            (false, false) => None,
            (false, true) => Some(Action::Added),
            (true, true) => Some(Action::Modified),
            (true, false) => Some(Action::Deleted),
        }
    }

    fn matches(&self, key: &Key, object: &Object) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        is(&self.namespace, &key.namespace)
            && is(&self.name, &key.name)
            && self.selector.matches(object)
    }

    /// Tables say how old objects are, so nobody shares them.
    fn line(&self, event: &Event, action: Action) -> Bytes {
        let make = || self.encode(action, object_of(event, action));
        let whole = match self.view {
            View::Table => return make(),
            View::Whole => true,
            View::Metadata => false,
        };
        event.line(Output { form: self.resource, whole, protobuf: self.protobuf, action }, make)
    }

    fn encode(&self, action: Action, object: Arc<Object>) -> Bytes {
        let kind = match action {
            Action::Added => "ADDED",
            Action::Modified => "MODIFIED",
            Action::Deleted => "DELETED",
        };
        let json: Bytes = match self.view {
            View::Whole => self.resource.text(&object),
            View::Metadata => table::metadata_only(&object.look(&["metadata"])).into(),
            View::Table => {
                let metadata =
                    json!({"resourceVersion": object.value["metadata"]["resourceVersion"]});
                let objects = std::iter::once(object);
                let table = table::table(self.resource, objects, &metadata, self.include, now());
                table.slice(..table.len() - 1)
            }
        };
        self.event(kind, &json)
    }

    /// An event about an object that is JSON.
    fn event(&self, kind: &str, json: &[u8]) -> Bytes {
        if !self.protobuf {
            return event_line(kind, json);
        }
        let object = protobuf::encode(json).expect("no other kinds are watched in protobuf");
        protobuf::frame(kind, &object).into()
    }

    /// Sends lines in pieces: one by itself is sent as it is, shared with all other watchers, several are joined.
    async fn send(&self, lines: impl Iterator<Item = Bytes>) -> Result<(), Gone> {
        let (mut piece, mut size) = (Vec::new(), 0);
        for line in lines {
            size += line.len();
            piece.push(line);
            if size >= PIECE {
                self.push(joined(&std::mem::take(&mut piece), size)).await?;
                size = 0;
            }
        }
        if piece.is_empty() { Ok(()) } else { self.push(joined(&piece, size)).await }
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
            View::Whole => (self.resource.name, self.resource.api_version()),
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
        self.push(self.event(kind, object.to_string().as_bytes())).await
    }

    async fn push(&self, piece: Bytes) -> Result<(), Gone> {
        let sent = timeout(PATIENCE, self.lines.send(piece)).await;
        sent.map_err(|_elapsed| Gone)?.map_err(|_closed| Gone)
    }
}

/// The object that an event is about; one that only left a selection is seen as it was in it.
fn object_of(event: &Event, action: Action) -> Arc<Object> {
    match &event.previous {
        Some(before) if action == Action::Deleted && event.action != Action::Deleted => {
            let mut last = before.value.clone();
            last["metadata"]["resourceVersion"] = event.revision.to_string().into();
            Arc::new(Object::unsaved(last))
        }
        _ => event.object.clone(),
    }
}

fn event_line(kind: &str, object: &[u8]) -> Bytes {
    let parts = [&br#"{"type":""#[..], kind.as_bytes(), br#"","object":"#, object, b"}\n"];
    parts.concat().into()
}

fn joined(lines: &[Bytes], size: usize) -> Bytes {
    if let [line] = lines {
        return line.clone();
    }
    let mut piece = Vec::with_capacity(size);
    lines.iter().for_each(|line| piece.extend_from_slice(line));
    piece.into()
}

fn too_new(cursor: u64, revision: u64) -> Error {
    Error::Expired {
        message: format!("resource version {cursor} is not of this server, which is at {revision}"),
    }
}
