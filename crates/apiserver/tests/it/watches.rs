//! Whatever is written, and whenever a watcher looks, comes back, or the server restarts: each watcher sees the one
//! history that the writes made, cut to what it selects.

use crate::ask::{ask, events};
use crate::cluster::{Cluster, Scratch, in_time, object};
use crate::hostile::cases;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use kube::api::{
    DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::core::DynamicObject;
use kube::{Api, ResourceExt};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Events that the server keeps: few, so that watchers do come too late.
const HISTORY: usize = 6;

/// What a write did, as the one who wrote knows.
struct Written {
    revision: u64,
    name: String,
    /// The label before and after; none: no object.
    before: Option<String>,
    after: Option<String>,
}

/// Which objects a watcher wants.
#[derive(Clone, Copy)]
enum Wish {
    All,
    Label(&'static str),
    Name(&'static str),
}

impl Wish {
    const EACH: [Self; 4] = [Self::All, Self::Label("1"), Self::Name("m2"), Self::All];

    fn query(self) -> String {
        match self {
            Self::All => String::new(),
            Self::Label(value) => format!("&labelSelector=c%3D{value}"),
            Self::Name(name) => format!("&fieldSelector=metadata.name%3D{name}"),
        }
    }

    fn wants(self, name: &str, label: Option<&String>) -> bool {
        match self {
            Self::All => label.is_some(),
            Self::Label(value) => label.is_some_and(|label| label == value),
            Self::Name(wanted) => label.is_some() && name == wanted,
        }
    }

    /// What the watcher is to see of a write.
    fn seen(self, write: &Written) -> Option<(&'static str, String, u64)> {
        let before = self.wants(&write.name, write.before.as_ref());
        let after = self.wants(&write.name, write.after.as_ref());
        let action = match (before, after) {
            (false, false) => return None,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        Some((action, write.name.clone(), write.revision))
    }
}

/// A client that remembers how far it is, and what it believes there is.
struct Client {
    wish: Wish,
    position: Option<u64>,
    view: BTreeMap<String, u64>,
    /// Its last look was before the server's last restart.
    stale: bool,
}

struct World {
    cluster: Cluster,
    scratch: Scratch,
    history: Vec<Written>,
    labels: BTreeMap<String, String>,
    clients: Vec<Client>,
}

fn revision_of(value: &Value) -> u64 {
    value["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

impl World {
    async fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let cluster = start(&scratch).await;
        let client = |wish| Client { wish, position: None, view: BTreeMap::new(), stale: false };
        let clients = Wish::EACH.map(client).into();
        Self { cluster, scratch, history: Vec::new(), labels: BTreeMap::new(), clients }
    }

    async fn put(&mut self, name: &str, label: &str) {
        let before = self.labels.insert(name.to_owned(), label.to_owned());
        let body = json!({"metadata": {"name": name, "labels": {"c": label}}}).to_string();
        let (method, path) = match before {
            None => ("POST", MAPS.to_owned()),
            Some(_) => ("PUT", format!("{MAPS}/{name}")),
        };
        let (code, written) = ask(&self.cluster, method, &path, "application/json", &body).await;
        assert!(code < 300, "{written}");
        let (revision, after) = (revision_of(&written), Some(label.to_owned()));
        if before != after {
            self.history.push(Written { revision, name: name.to_owned(), before, after });
        }
    }

    async fn remove(&mut self, name: &str) {
        let before = self.labels.remove(name);
        let (code, _) = ask(&self.cluster, "DELETE", &format!("{MAPS}/{name}"), "", "").await;
        assert_eq!(code, if before.is_some() { 200 } else { 404 });
        if before.is_some() {
            let (_, list) = ask(&self.cluster, "GET", MAPS, "", "").await;
            let name = name.to_owned();
            self.history.push(Written { revision: revision_of(&list), name, before, after: None });
        }
    }

    async fn restart(&mut self) {
        let Self { cluster, scratch, .. } = self;
        cluster.end();
        *cluster = start(scratch).await;
        self.clients.iter_mut().for_each(|client| client.stale = true);
    }

    /// A client looks; `marks`: it takes bookmarks and goes on from there.
    async fn look(&mut self, client: usize, marks: bool) {
        let Client { wish, position, stale, .. } = self.clients[client];
        let Some(position) = position else { return self.begin(client, marks).await };
        let target = format!(
            "{MAPS}?watch=1&timeoutSeconds=0&resourceVersion={position}&allowWatchBookmarks={marks}{}",
            wish.query()
        );
        let seen = events(&self.cluster, &target).await;
        let missed = self.history.iter().filter(|write| write.revision > position);
        if seen.first().is_some_and(|event| event["type"] == "ERROR") {
            assert_eq!(seen[0]["object"]["code"], 410, "{seen:?}");
            let count = missed.count();
            assert!(count > HISTORY || stale && count > 0, "{count} events are too many?");
            self.clients[client].position = None;
            return self.begin(client, marks).await;
        }
        let expected: Vec<_> = missed.filter_map(|write| wish.seen(write)).collect();
        let client = &mut self.clients[client];
        let (changes, bookmarks): (Vec<_>, Vec<_>) =
            seen.iter().partition(|event| event["type"] != "BOOKMARK");
        let changes: Vec<_> = changes.into_iter().map(change).collect();
        assert_eq!(changes, expected);
        assert_eq!(bookmarks.len(), usize::from(marks));
        changes.iter().for_each(|(action, name, revision)| client.apply(action, name, *revision));
        let latest = changes.last().map_or(position, |(.., revision)| *revision);
        client.position =
            Some(bookmarks.last().map_or(latest, |mark| revision_of(&mark["object"])));
        client.stale &= client.position == Some(position);
        assert!(client.position >= Some(latest));
    }

    /// A client begins: with a list, or with a watch that sends what there is.
    async fn begin(&mut self, client: usize, streaming: bool) {
        let wish = self.clients[client].wish;
        let expected = self.labels.iter().filter(|(name, label)| wish.wants(name, Some(label)));
        let expected: Vec<&String> = expected.map(|(name, _)| name).collect();
        let (found, revision) = if streaming {
            let target = format!(
                "{MAPS}?watch=1&timeoutSeconds=0&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true{}",
                wish.query()
            );
            let seen = events(&self.cluster, &target).await;
            let end = seen.iter().position(|event| event["type"] == "BOOKMARK").unwrap();
            let mark = &seen[end]["object"];
            assert_eq!(mark["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
            assert!(seen[..end].iter().all(|event| event["type"] == "ADDED"));
            (seen[..end].iter().map(|it| it["object"].clone()).collect(), revision_of(mark))
        } else {
            let target = format!("{MAPS}?x=1{}", wish.query());
            let (_, list) = ask(&self.cluster, "GET", &target, "", "").await;
            (list["items"].as_array().unwrap().clone(), revision_of(&list))
        };
        let view = found.iter().map(|it| (text(&it["metadata"]["name"]), revision_of(it)));
        let client = &mut self.clients[client];
        client.view = view.collect();
        client.position = Some(revision);
        client.stale = false;
        assert_eq!(client.view.keys().collect::<Vec<_>>(), expected);
    }

    /// What a client believes there is, is what there is.
    async fn check(&mut self, client: usize) {
        self.look(client, true).await;
        let believed = self.clients[client].view.clone();
        self.begin(client, false).await;
        assert_eq!(believed, self.clients[client].view);
    }
}

impl Client {
    fn apply(&mut self, action: &str, name: &str, revision: u64) {
        let known = match action {
            "DELETED" => self.view.remove(name),
            _ => self.view.insert(name.to_owned(), revision),
        };
        assert_eq!(known.is_some(), action != "ADDED", "{action} {name}");
    }
}

fn change(event: &Value) -> (&'static str, String, u64) {
    let action = match event["type"].as_str() {
        Some("ADDED") => "ADDED",
        Some("MODIFIED") => "MODIFIED",
        Some("DELETED") => "DELETED",
        _ => panic!("{event}"),
    };
    (action, text(&event["object"]["metadata"]["name"]), revision_of(&event["object"]))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

async fn start(scratch: &Scratch) -> Cluster {
    Cluster::start_in(&scratch.0, |config| config.history.events = HISTORY).await
}

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Remove(u8),
    Look(usize, bool),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u8..4, 0_u8..3).prop_map(|(name, label)| Step::Put(name, label)),
        2 => (0_u8..4).prop_map(Step::Remove),
        4 => (0_usize..4, any::<bool>()).prop_map(|(client, marks)| Step::Look(client, marks)),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(cases(16))]

    #[test]
    fn every_watcher_sees_the_one_history(steps in prop::collection::vec(step(), 1..50)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new("watches").await;
            for step in steps {
                match step {
                    Step::Put(name, label) => world.put(&format!("m{name}"), &label.to_string()).await,
                    Step::Remove(name) => world.remove(&format!("m{name}")).await,
                    Step::Look(client, marks) => world.look(client, marks).await,
                    Step::Restart => world.restart().await,
                }
            }
            for client in 0..world.clients.len() {
                world.check(client).await;
            }
        });
    }
}

/// Action, name, number, and whether the label `c` is 1.
type Seen = (&'static str, String, String, bool);

/// Watches until an object `end` comes.
async fn watch(maps: Api<DynamicObject>, wish: WatchParams, begin: String) -> Vec<Seen> {
    let mut events = maps.watch(&wish, &begin).await.unwrap().boxed();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|(_, name, ..): &Seen| name != "end") {
        let event = in_time(events.try_next()).await.unwrap().expect("the watch goes on");
        let (action, map) = match event {
            WatchEvent::Added(map) => ("ADDED", map),
            WatchEvent::Modified(map) => ("MODIFIED", map),
            WatchEvent::Deleted(map) => ("DELETED", map),
            other => panic!("{other:?}"),
        };
        let one = map.labels().get("c").is_some_and(|label| label == "1");
        seen.push((action, map.name_any(), map.resource_version().unwrap(), one));
    }
    seen
}

async fn write(maps: Api<DynamicObject>, writer: usize) {
    for index in 0..20 {
        let name = format!("w{writer}-{}", index % 4);
        let label = (index % 3).to_string();
        let map = object(json!({"metadata": {"name": name, "labels": {"c": label}}}));
        let patch = Patch::Merge(&map);
        if maps.patch(&name, &PatchParams::default(), &patch).await.is_err() {
            maps.create(&PostParams::default(), &map).await.unwrap();
        }
        if index % 7 == 6 {
            maps.delete(&name, &DeleteParams::default()).await.unwrap();
        }
    }
}

/// Many write at once, on a disk; all who watch meanwhile see the same, the selecting ones their part of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_make_one_history_for_all_who_watch() {
    let scratch = Scratch::new("writers");
    let cluster = Cluster::start_in(&scratch.0, |_| {}).await;
    let maps = cluster.api("v1", "ConfigMap");
    let begin = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let (all, part) = (WatchParams::default(), WatchParams::default().labels("c=1"));
    let wishes = [all.clone(), part.clone(), all, part];
    let watchers = wishes.map(|wish| tokio::spawn(watch(maps.clone(), wish, begin.clone())));
    let writers = (0..6).map(|writer| tokio::spawn(write(maps.clone(), writer)));
    in_time(join_all(writers)).await.into_iter().for_each(|done| done.unwrap());
    let end = object(json!({"metadata": {"name": "end", "labels": {"c": "1"}}}));
    maps.create(&PostParams::default(), &end).await.unwrap();
    let mut seen = Vec::new();
    for watcher in watchers {
        seen.push(watcher.await.unwrap());
    }
    assert!(seen[0].len() > 100 && seen[0].is_sorted_by_key(|it| it.2.parse::<u64>().unwrap()));
    assert_eq!(seen[0], seen[2]);
    assert_eq!(seen[1], seen[3]);
    let [all, part] = [&seen[0], &seen[1]].map(|seen| -> Vec<&Seen> {
        seen.iter().filter(|(action, _, _, one)| *action != "DELETED" && *one).collect()
    });
    let version =
        |seen: Vec<&Seen>| -> Vec<String> { seen.iter().map(|it| it.2.clone()).collect() };
    assert_eq!(version(all), version(part));
}
