//! What connections to Services carry, by front end and endpoint (`--connection-accounting`): a thread of its own
//! that hears of every connection that ends and looks at those that there are when somebody asks.
//!
//! Neither programming nor other care waits for it. Where connections end faster than it hears, the kernel says that
//! it has dropped some: that is counted, and a look at the connections that are left puts the sums right but for those
//! that were never seen.

mod ledger;

pub(crate) use ledger::{Account, Accounts, Endpoint};

use crate::care::{about_connections, changes_about_connections};
use crate::metrics::Metrics;
use kernel::conntrack::{self, Ended, Which};
use kernel::netlink::Socket;
use kernel::route;
use ledger::{Census, Ledger};
use program::{Change, Program};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

/// After events were lost: how long others may gather before all connections are looked at.
const RECOVERY: Duration = Duration::from_secs(1);

/// The door to the thread, which ends with its last one.
#[derive(Debug, Clone)]
pub(crate) struct Accountant(UnboundedSender<Message>);

#[derive(Debug)]
enum Message {
    Everything(Box<Program>),
    Changes(Vec<Change>),
    Tell(oneshot::Sender<Accounts>),
}

impl Accountant {
    /// In the network namespace of the calling thread.
    pub(crate) fn start(metrics: Arc<Metrics>) -> Self {
        let (sender, receiver) = unbounded_channel();
        let thread = std::thread::Builder::new().name("accounting".to_owned());
        let started = thread.spawn(move || {
            if let Err(error) = run(metrics, receiver) {
                warn!(error = %crate::watch::chain(&*error), "connections are not accounted for");
            }
        });
        if let Err(error) = started {
            warn!(%error, "connections are not accounted for");
        }
        Accountant(sender)
    }

    /// The kernel has the whole program.
    pub(crate) fn compared(&self, program: &Program) {
        self.send(Message::Everything(Box::new(about_connections(program))));
    }

    /// The kernel has these changes.
    pub(crate) fn changed(&self, changes: &[Change]) {
        let changes = changes_about_connections(changes);
        if !changes.is_empty() {
            self.send(Message::Changes(changes));
        }
    }

    /// The sums as they are now; `None` where there is no accounting.
    pub(crate) async fn accounts(&self) -> Option<Accounts> {
        let (sender, receiver) = oneshot::channel();
        self.send(Message::Tell(sender));
        receiver.await.ok()
    }

    fn send(&self, message: Message) {
        // A thread that could not start has said so.
        self.0.send(message).ok();
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn run(metrics: Arc<Metrics>, messages: UnboundedReceiver<Message>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Worker::open(metrics)?.follow(messages).await })
}

struct Worker {
    metrics: Arc<Metrics>,
    ended: AsyncFd<Ended>,
    socket: Socket,
    ledger: Ledger,
    /// When to look at all connections because some ended unheard.
    recover: Option<Instant>,
}

impl Worker {
    #[expect(
        deprecated,
        reason = "the socket keeps its one descriptor for life: nothing to be unsound"
    )]
    fn open(metrics: Arc<Metrics>) -> Result<Self, Failure> {
        let (ended, socket) = (AsyncFd::new(Ended::listen()?)?, Socket::netfilter()?);
        Ok(Worker { metrics, ended, socket, ledger: Ledger::default(), recover: None })
    }

    /// Until nobody is left who could ask.
    async fn follow(mut self, mut messages: UnboundedReceiver<Message>) -> Result<(), Failure> {
        loop {
            let outcome = tokio::select! {
                message = messages.recv() => match message {
                    Some(message) => self.take(message),
                    None => return Ok(()),
                },
                ready = self.ended.readable_mut() => {
                    // Cleared before it is read to the end: what comes meanwhile wakes again.
                    ready?.clear_ready();
                    self.hear()
                }
                () = until(self.recover) => self.hear(),
            };
            if let Err(error) = outcome {
                warn!(error = %crate::watch::chain(&error), "connections are not accounted for as they should be");
            }
        }
    }

    fn take(&mut self, message: Message) -> kernel::Result<()> {
        match message {
            Message::Everything(program) => {
                self.ledger.follow(&program);
                self.learn_addresses()
            }
            Message::Changes(changes) => {
                changes.into_iter().for_each(|change| self.ledger.change(change));
                self.learn_addresses()
            }
            Message::Tell(sender) => {
                self.look()?;
                // Who asked may have gone.
                sender.send(self.ledger.accounts()).ok();
                Ok(())
            }
        }
    }

    /// Takes in what has ended, and looks at everything where some of it was lost a while ago.
    fn hear(&mut self) -> kernel::Result<()> {
        let ledger = &mut self.ledger;
        let mut number = 0;
        let lost = self.ended.get_mut().drain(|connection| {
            number += 1;
            ledger.end(&connection);
        })?;
        self.note(number, lost);
        match self.recover {
            Some(time) if time <= Instant::now() => self.look(),
            _ => Ok(()),
        }
    }

    fn note(&mut self, number: u64, lost: bool) {
        self.metrics.connection_events.add(number);
        if lost {
            self.metrics.connection_events_lost.add(1);
            self.recover.get_or_insert_with(|| Instant::now() + RECOVERY);
        }
    }

    /// Everything that has ended before the look, then all that is there, then what ended meanwhile.
    fn look(&mut self) -> kernel::Result<()> {
        self.recover = None;
        self.hear()?;
        let (ledger, mut census) = (&self.ledger, Census::default());
        conntrack::connections(&mut self.socket, Which::Both, |connection| {
            ledger.count(&mut census, connection);
            false
        })?;
        let mut late = Vec::new();
        let lost = self.ended.get_mut().drain(|connection| late.push(connection))?;
        let number = u64::try_from(late.len()).unwrap_or(u64::MAX);
        self.note(number, lost);
        self.ledger.settle(census, &late);
        Ok(())
    }

    fn learn_addresses(&mut self) -> kernel::Result<()> {
        if self.ledger.needs_addresses() {
            let addresses = route::addresses(&mut Socket::route()?)?;
            self.ledger.learn(addresses.iter().map(|address| address.net.addr()));
        }
        Ok(())
    }
}

/// Waits for a moment, or for ever.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
