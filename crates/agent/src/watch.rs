//! The loop.

use crate::Options;
use crate::announce::Announcer;
use crate::events::Teller;
use crate::node::{Error, Node};
use client::{Client, Event, Kind, Replica, Watch, Watcher, watch_kinds_in_pieces};
use futures::FutureExt;
use kernel::netlink::{Changed, Monitor};
use model::Touched;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info};

/// How soon a failed change is tried again, at first and at the longest.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// How long changes that go on coming are gathered before they are made.
const LONGEST_BURST: Duration = Duration::from_millis(20);
/// How many turns other tasks get to bring another event before there is none.
const TURNS: u32 = 3;

/// Follows the API and the kernel for ever.
pub(crate) async fn follow(client: Client, options: Options) -> Result<(), Error> {
    let mut watcher = watch_kinds_in_pieces(&client, &watches(&options.node));
    let teller = Teller::new(client.clone(), &options.node);
    let mut node = Node::open(options, teller)?;
    let (links, rules) = node.monitors()?;
    let (mut links, mut rules) = (async_fd(links)?, async_fd(rules)?);
    let mut replica = Replica::default();
    wait_for_first_lists(&mut watcher, &mut replica, &mut node).await;
    node.compile(replica.world());
    info!("all objects known");
    let mut announcer = Announcer::new(client);
    let mut retry = Retry::default();
    retry.after(node.reconcile());
    let mut lifeline = None;
    loop {
        if let Some(fresh) = node.lifeline() {
            lifeline = Some(stream(fresh)?);
        }
        for process in node.take_writers() {
            rules.get_mut().ignore_child(process);
        }
        announcer.compare(replica.world().node(node.name()), node.announcement());
        tokio::select! {
            event = watcher.next() => {
                let touched = absorb(&mut replica, &mut watcher, &mut node, event).await;
                if touched.contains(&Touched::Node(node.name().into())) {
                    announcer.forget();
                }
                retry.after(node.update(replica.world(), &touched));
            }
            changed = heard(&mut links) => node.suspect(&changed),
            changed = heard(&mut rules) => node.suspect(&changed),
            () = end_of(&mut lifeline) => node.is_lost(),
            outcome = announcer.ended() => if let Err(failure) = outcome {
                error!(error = %chain(&failure), "the Node object cannot be annotated: tried again soon");
            },
            () = retry.due() => {}
            () = until(node.due()) => retry.after(node.finish()),
        }
        if node.is_in_doubt() && !retry.is_waiting() {
            retry.after(node.reconcile());
        }
    }
}

/// Pods elsewhere do not matter here: Services know them as endpoints. Virtual IPs are the edge's business.
fn watches(node: &str) -> [Watch; 5] {
    let own_pods = Watch { fields: Some(format!("spec.nodeName={node}")), ..Kind::POD.into() };
    let (services, slices) = (Kind::SERVICE.into(), Kind::ENDPOINT_SLICE.into());
    [Kind::NODE.into(), own_pods, services, slices, Kind::SERVICE_CIDR.into()]
}

/// A half-known cluster must not be programmed: it would take away what is there and right.
async fn wait_for_first_lists(watcher: &mut Watcher, replica: &mut Replica, node: &mut Node) {
    loop {
        match watcher.next().await {
            Event::Synced => return,
            event => {
                node.report.heard(&event);
                drop(replica.absorb(event));
            }
        }
    }
}

/// Takes in this event and all others that are already there, so that a burst is one change.
///
/// What is there is in the hands of the connection's own task, one piece at a time: it gets its turns here.
async fn absorb(
    replica: &mut Replica,
    watcher: &mut Watcher,
    node: &mut Node,
    first: Event,
) -> BTreeSet<Touched> {
    let (mut touched, mut next, mut idle) = (BTreeSet::new(), Some(first), 0);
    let end = Instant::now() + LONGEST_BURST;
    loop {
        if let Some(event) = next {
            node.report.heard(&event);
            touched.extend(replica.absorb(event));
            idle = 0;
        } else if idle < TURNS {
            idle += 1;
            tokio::task::yield_now().await;
        } else {
            return touched;
        }
        if Instant::now() >= end {
            return touched;
        }
        next = watcher.next().now_or_never();
    }
}

#[expect(deprecated, reason = "a monitor keeps its one descriptor for life: nothing to be unsound")]
fn async_fd(monitor: Monitor) -> Result<AsyncFd<Monitor>, Error> {
    AsyncFd::new(monitor).map_err(Error::Notifications)
}

fn stream(stream: std::os::unix::net::UnixStream) -> Result<UnixStream, Error> {
    let nonblocking = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
    nonblocking.map_err(Error::Notifications)
}

/// Waits until the other end, which says nothing, has gone.
async fn end_of(lifeline: &mut Option<UnixStream>) {
    match lifeline {
        Some(stream) => {
            // What cannot be read has ended, too.
            stream.readable().await.ok();
            *lifeline = None;
        }
        None => std::future::pending().await,
    }
}

/// Waits until somebody else changed something. What cannot be read counts as changed.
async fn heard(monitor: &mut AsyncFd<Monitor>) -> Changed {
    loop {
        let Ok(mut ready) = monitor.readable_mut().await else { return Changed::EVERYTHING };
        let changed = ready.get_inner_mut().drain().unwrap_or(Changed::EVERYTHING);
        ready.clear_ready();
        if changed.any() {
            return changed;
        }
    }
}

/// Waits for a moment, or for ever.
async fn until(moment: Option<std::time::Instant>) {
    match moment {
        Some(moment) => sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// When to try again what failed.
#[derive(Default)]
struct Retry {
    wait: Duration,
    at: Option<Instant>,
}

impl Retry {
    fn after(&mut self, outcome: Result<(), Error>) {
        match outcome {
            Ok(()) if self.is_waiting() => {}
            Ok(()) => self.wait = Duration::ZERO,
            Err(failure) => {
                self.wait = (self.wait * 2).clamp(FIRST_RETRY, LONGEST_RETRY);
                self.at = Some(Instant::now() + self.wait);
                error!(error = %chain(&failure), again_in = ?self.wait, "not as it should be");
            }
        }
    }

    fn is_waiting(&self) -> bool {
        self.at.is_some()
    }

    async fn due(&mut self) {
        match self.at {
            Some(at) => {
                sleep_until(at).await;
                self.at = None;
            }
            None => std::future::pending().await,
        }
    }
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
