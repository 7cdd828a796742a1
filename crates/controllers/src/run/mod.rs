//! The loop: events in, decisions, writes out.
//!
//! ```text
//!   watch ──► Cluster ──dirty──► Queue ──due──► reconcile::plan ──► writes, all at once ──► API
//!               ▲                  ▲                                    │
//!               │                  └── failed: later; again: at its time┤
//!               └────────────── what the API answered ─────────────────┘
//! ```
//!
//! No event is taken in while writes are out. So what the API answered is known before anything that happened after
//! it, and no decision is made on a view that lacks our own writes. Events that come in meanwhile coalesce.

mod execute;

use crate::cluster::{Cluster, LEASES};
use crate::error::Error;
use crate::event::{Recorder, told};
use crate::names::Names;
use crate::queue::Queue;
use crate::reconcile::{self, Now, node_life};
use crate::settings::Settings;
use crate::task::Task;
use crate::write::Write;
use client::{Client, Event, Kind, Watcher};
use execute::{Failure, execute, read};
use futures::{FutureExt, StreamExt, stream};
use jiff::Timestamp;
use model::ObjectKey;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

/// Requests on their way at the same time.
const AT_ONCE: usize = 32;
/// Tasks decided before new events are looked at.
const BATCH: usize = 64;
/// Events taken in before work goes on.
const EVENTS: usize = 4096;

/// Runs the controllers for ever; they end when the future is dropped. An API that is away is waited for.
pub async fn run(client: Client, settings: Settings) -> Result<(), Error> {
    settings.check()?;
    let watcher = client::watch_kinds(&client, &settings.watches());
    let mut controllers = Controllers {
        recorder: Recorder::new(client.clone(), None),
        client,
        watcher,
        cluster: Cluster::default(),
        queue: Queue::default(),
        names: Names::new(settings.seed),
        settings,
        start: Instant::now(),
        synced: false,
        away: false,
    };
    loop {
        controllers.turn().await;
    }
}

struct Controllers {
    client: Client,
    recorder: Recorder,
    watcher: Watcher,
    cluster: Cluster,
    queue: Queue,
    names: Names,
    settings: Settings,
    start: Instant,
    /// All kinds were listed: what is not known does not exist.
    synced: bool,
    /// The last question whether a node is dead got no answer.
    away: bool,
}

/// A write and the task that wanted it.
type Order = (Task, Write);

impl Controllers {
    async fn turn(&mut self) {
        for _ in 0..EVENTS {
            let Some(event) = self.watcher.next().now_or_never() else { break };
            self.take_in(event);
        }
        for task in self.cluster.take_dirty() {
            if self.settings.controllers.contains(&task.controller()) {
                self.queue.push(task);
            }
        }
        let due = if self.synced { self.queue.take(self.start.elapsed(), BATCH) } else { vec![] };
        if due.is_empty() {
            self.wait().await;
        } else {
            self.work(due).await;
        }
    }

    async fn wait(&mut self) {
        let next = self.queue.next().filter(|_| self.synced);
        let alarm = async {
            match next {
                Some(time) => sleep_until(self.start + time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = self.watcher.next() => self.take_in(event),
            () = alarm => {}
        }
        self.note_sleep(next);
    }

    /// Who was stopped himself, as by SIGSTOP or with his whole machine, has heard nobody, and knows nothing of the nodes.
    fn note_sleep(&mut self, planned: Option<Duration>) {
        let now = self.start.elapsed();
        if planned.is_some_and(|planned| now > planned + self.settings.node_monitor_grace / 2) {
            self.cluster.pardon(now);
        }
    }

    fn take_in(&mut self, event: Event) {
        let now = self.start.elapsed();
        match event {
            Event::Applied { kind, object } => self.cluster.apply(kind, &object, now),
            Event::Deleted { kind, object } => {
                if let Some(key) = crate::record::key(&object) {
                    self.cluster.remove(kind, &key, now);
                }
            }
            Event::Restarted { kind, objects } => {
                self.cluster.restart(kind, &objects, now);
                self.queue.hurry();
            }
            Event::Synced => {
                if !std::mem::replace(&mut self.synced, true) {
                    self.cluster.touch_left_over();
                }
            }
            Event::Listing { .. } | Event::Listed { .. } => {}
        }
    }

    async fn work(&mut self, due: Vec<Task>) {
        let doubted = self.confirm_silences(&due).await;
        let mut orders = Vec::new();
        for task in due.into_iter().filter(|task| !doubted.contains(task)) {
            self.queue.succeeded(&task);
            orders.extend(self.decide(task));
        }
        self.carry_out(orders).await;
    }

    fn decide(&mut self, task: Task) -> Vec<Order> {
        let now = Now { uptime: self.start.elapsed(), wall: Timestamp::now() };
        let outcome =
            reconcile::plan(&mut self.cluster, &task, &self.settings, &mut self.names, now);
        if let Some(again) = outcome.again {
            self.queue.push_at(task.clone(), now.uptime + again);
        }
        outcome.writes.into_iter().map(|write| (task.clone(), write)).collect()
    }

    /// Before a node is held to be dead the API itself is asked: our watch may be the one that is late.
    /// Gives back the tasks for which there was no answer.
    async fn confirm_silences(&mut self, due: &[Task]) -> BTreeSet<Task> {
        let now = self.start.elapsed();
        let overdue = due.iter().filter_map(|task| match task {
            Task::NodeLife(node) => Some((task.clone(), node.clone())),
            _ => None,
        });
        let overdue = overdue.filter(|(_, node)| {
            let deadline = node_life::deadline(&self.cluster, node, &self.settings);
            deadline.is_some_and(|deadline| deadline <= now)
        });
        let client = &self.client;
        let asked = overdue.map(|(task, node)| async move {
            let key = ObjectKey { namespace: LEASES.into(), name: node };
            (task, read(client, Kind::LEASE, &key).await)
        });
        let asked: Vec<_> = asked.collect();
        let answers: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
        let mut doubted = BTreeSet::new();
        for (task, answer) in answers {
            self.note_contact(answer.as_ref().err());
            match answer {
                Ok(lease) => self.learn(Kind::LEASE, lease.as_ref()),
                Err(failure) => {
                    self.postpone(task.clone(), &failure);
                    doubted.insert(task);
                }
            }
        }
        doubted
    }

    /// What others need goes first; a task that failed there waits with the rest.
    async fn carry_out(&mut self, orders: Vec<Order>) {
        let (first, then): (Vec<_>, Vec<_>) = orders
            .into_iter()
            .partition(|(_, write)| matches!(write, Write::Ensure(_) | Write::Entrust { .. }));
        let mut failed = self.send(first).await;
        let then = then.into_iter().filter(|(task, _)| !failed.contains_key(task)).collect();
        failed.extend(self.send(then).await);
        for (task, failure) in failed {
            self.postpone(task, &failure);
        }
    }

    /// Sends them all at once; gives back the tasks that failed.
    async fn send(&mut self, orders: Vec<Order>) -> BTreeMap<Task, Failure> {
        let client = &self.client;
        let sent = orders.into_iter().map(|(task, write)| async move {
            let answer = execute(client, &write).await;
            (task, write, answer)
        });
        let sent: Vec<_> = sent.collect();
        let answers = stream::iter(sent).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
        let mut failed = BTreeMap::new();
        let (mut granted, mut refused) = (BTreeSet::new(), BTreeMap::new());
        for (task, write, answer) in answers {
            debug!(?task, ?write, "wrote");
            self.tell(&task, &write, &answer);
            let is_need = reconcile::is_need(&task, &write);
            match answer {
                Ok(object) => {
                    self.settle(&write, object.as_ref());
                    granted.extend(is_need.then_some(task));
                }
                Err(failure) => {
                    self.undo(&write, &failure).await;
                    match failure.refusal().filter(|_| is_need) {
                        Some(why) => drop(refused.insert(task, why.to_owned())),
                        None => drop(failed.insert(task, failure)),
                    }
                }
            }
        }
        self.note_needs(&granted, refused);
        failed
    }

    /// What came of a write that people should hear of.
    fn tell(&mut self, task: &Task, write: &Write, answer: &Result<Option<Value>, Failure>) {
        let answer = match answer {
            Ok(object) => Ok(object.as_ref()),
            Err(failure) => match failure.refusal() {
                Some(why) => Err(why),
                None => return,
            },
        };
        for event in told(&self.cluster, task, write, answer) {
            self.recorder.tell(event);
        }
    }

    /// What workloads need and the API gave, or did not.
    fn note_needs(&mut self, granted: &BTreeSet<Task>, refused: BTreeMap<Task, String>) {
        for task in granted.iter().filter(|task| !refused.contains_key(task)) {
            self.cluster.end_trouble(task);
        }
        for (task, why) in refused {
            warn!(?task, why, "the API refused what is needed, will ask again");
            self.cluster.note_refusal(task, &why, self.start.elapsed());
        }
    }

    /// Takes in what the API made of a write.
    fn settle(&mut self, write: &Write, object: Option<&Value>) {
        if let Write::Delete { kind, key, .. } = write {
            self.cluster.doom(*kind, key);
        } else if let Write::Evict { pod, .. } = write {
            self.cluster.doom(Kind::POD, pod);
        } else if let Some(kind) = write.kind() {
            self.learn(kind, object);
        }
    }

    /// Takes back what was assumed and, where the cluster is not as we knew it, reads again what the write was about.
    async fn undo(&mut self, write: &Write, failure: &Failure) {
        match write {
            Write::Bind { pod, .. } => self.cluster.forget_assumed(pod),
            Write::Patch { kind: Kind::NODE, key, .. } => self.cluster.forget_subnet(&key.name),
            _ => {}
        }
        let (Some(kind), Some(key)) = (write.kind(), write.key()) else { return };
        if !failure.is_race() {
            return;
        }
        match read(&self.client, kind, &key).await {
            Ok(Some(object)) => self.learn(kind, Some(&object)),
            Ok(None) => self.cluster.remove(kind, &key, self.start.elapsed()),
            Err(error) => debug!(%kind, %key, %error, "cannot read again"),
        }
    }

    fn learn(&mut self, kind: Kind, object: Option<&Value>) {
        if let Some(object) = object {
            self.cluster.apply(kind, object, self.start.elapsed());
        }
    }

    fn postpone(&mut self, task: Task, failure: &Failure) {
        let wait = self.queue.failed(task.clone(), self.start.elapsed());
        if failure.is_race() {
            debug!(?task, ?wait, "somebody else was first");
        } else {
            let error = failure as &dyn std::error::Error;
            warn!(?task, ?wait, error, "write failed, will try again");
        }
    }

    /// While the API is away nobody can renew a Lease, so that time does not count against the nodes.
    fn note_contact(&mut self, failure: Option<&Failure>) {
        let away = failure.is_some();
        if self.away && !away {
            self.cluster.pardon(self.start.elapsed());
        }
        self.away = away;
    }
}
