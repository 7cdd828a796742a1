//! What a client sees of the cluster, event by event.

use client::{Client, Event, Kind, Watch, Watcher, watch_kinds};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The longest that anything here may take: hundreds of pods come up one after the other on a busy machine.
const DEADLINE: Duration = Duration::from_secs(300);

pub(crate) struct View {
    watcher: Watcher,
    objects: BTreeMap<(Kind, String), Value>,
    synced: bool,
}

impl View {
    pub(crate) const KINDS: &[Kind] = &[
        Kind::NODE,
        Kind::POD,
        Kind::DEPLOYMENT,
        Kind::REPLICA_SET,
        Kind::REPLICATION_CONTROLLER,
        Kind::STATEFUL_SET,
        Kind::DAEMON_SET,
        Kind::CONTROLLER_REVISION,
        Kind::JOB,
        Kind::CRON_JOB,
        Kind::ENDPOINT_SLICE,
    ];

    pub(crate) fn of(client: &Client, kinds: &[Kind]) -> Self {
        let watches: Vec<_> = kinds.iter().copied().map(Watch::from).collect();
        View { watcher: watch_kinds(client, &watches), objects: BTreeMap::new(), synced: false }
    }

    /// Waits until it looks like that.
    pub(crate) async fn until(&mut self, what: &str, looks: impl Fn(&View) -> bool) {
        self.through(what, looks, |_| true).await;
    }

    /// The same, and on the way it must always look like `always`.
    pub(crate) async fn through(
        &mut self,
        what: &str,
        looks: impl Fn(&View) -> bool,
        always: impl Fn(&View) -> bool,
    ) {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while !self.synced || !looks(self) {
            let event = tokio::time::timeout_at(deadline, self.watcher.next()).await;
            let Ok(event) = event else { panic!("never {what}: {:#?}", self.objects) };
            self.take_in(event);
            assert!(!self.synced || always(self), "on the way to {what}: {:#?}", self.objects);
        }
    }

    fn take_in(&mut self, event: Event) {
        let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
        match event {
            Event::Applied { kind, object } => {
                self.objects.insert((kind, name(&object)), object);
            }
            Event::Deleted { kind, object } => {
                self.objects.remove(&(kind, name(&object)));
            }
            Event::Restarted { kind, objects } => {
                self.objects.retain(|(found, _), _| *found != kind);
                for object in objects {
                    self.objects.insert((kind, name(&object)), object);
                }
            }
            Event::Synced => self.synced = true,
            Event::Listing { .. } | Event::Listed { .. } => {}
        }
    }

    pub(crate) fn all(&self, kind: Kind) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |((found, _), _)| *found == kind).map(|(_, object)| object)
    }

    pub(crate) fn one(&self, kind: Kind, name: &str) -> &Value {
        &self.objects[&(kind, name.to_owned())]
    }

    pub(crate) fn slices(&self, service: &str) -> Vec<&Value> {
        let of =
            |slice: &&Value| slice["metadata"]["labels"]["kubernetes.io/service-name"] == service;
        self.all(Kind::ENDPOINT_SLICE).filter(of).collect()
    }

    /// Names of the pods that the Service sends traffic to.
    pub(crate) fn ready_endpoints(&self, service: &str) -> BTreeSet<String> {
        let slices = self.slices(service);
        let endpoints = slices.iter().flat_map(|slice| slice["endpoints"].as_array()).flatten();
        let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
        ready.map(|endpoint| endpoint["targetRef"]["name"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn images(&self) -> BTreeSet<&str> {
        let pods = self.all(Kind::POD);
        let images = pods.filter_map(|pod| pod.pointer("/spec/containers/0/image")?.as_str());
        images.collect()
    }

    /// How many pods each node has.
    pub(crate) fn spread(&self) -> BTreeMap<&str, usize> {
        let mut spread = BTreeMap::new();
        for node in self.all(Kind::POD).filter_map(|pod| pod["spec"]["nodeName"].as_str()) {
            *spread.entry(node).or_default() += 1;
        }
        spread
    }
}
