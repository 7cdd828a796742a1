//! Virtual routers: [`wire::machine::vrrp::Router`] with real sockets, addresses and time.

mod driver;
mod port;

use crate::Error;
use crate::config::{Interface, VirtualIp};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::SystemTime;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use wire::machine::vrrp::{Config, State};

/// The thread on which all virtual routers run: what the balancer does cannot hold them up.
#[derive(Debug)]
pub(crate) struct Routers {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Routers {
    /// In the network namespace of the calling thread.
    pub(crate) fn start() -> Result<Self, Error> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            // Either way, by a word or by the sender's end, it is over.
            runtime.block_on(stopped).ok();
        };
        let thread = std::thread::Builder::new().name("vrrp".into()).spawn(run);
        let thread = Some(thread.map_err(Error::Thread)?);
        Ok(Routers { handle, stop: Some(stop), thread })
    }

    pub(crate) fn add(
        &self,
        interface: &Interface,
        config: Config,
        changed: &Arc<Notify>,
    ) -> Router {
        let (commands, receiver) = mpsc::unbounded_channel();
        let (role, observed) = watch::channel(Role::default());
        let (done, finished) = oneshot::channel();
        let observer = driver::Observer { role, changed: Arc::clone(changed) };
        let task = driver::run(interface.name.clone(), config.clone(), receiver, observer);
        drop(self.handle.spawn(async move {
            task.await;
            // Nobody waits where the whole edge goes without a farewell.
            done.send(()).ok();
        }));
        Router { config, commands, role: observed, finished }
    }
}

impl Drop for Routers {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the virtual routers panicked");
        }
    }
}

/// Where a virtual router stands, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Role {
    pub(crate) state: State,
    pub(crate) since: SystemTime,
}

impl Default for Role {
    fn default() -> Self {
        Role { state: State::Initialize, since: SystemTime::now() }
    }
}

/// A running virtual router. Dropping it makes it resign.
#[derive(Debug)]
pub(crate) struct Router {
    config: Config,
    /// Closing it is the command to resign.
    commands: mpsc::UnboundedSender<Config>,
    role: watch::Receiver<Role>,
    finished: oneshot::Receiver<()>,
}

impl Router {
    /// Takes over what can change without an election. `None`, and it resigns: only a new router can.
    pub(crate) fn configured(mut self, config: &Config) -> Option<Self> {
        let version = std::mem::discriminant;
        let same = self.config.vrid == config.vrid
            && self.config.source == config.source
            && version(&self.config.interval) == version(&config.interval);
        if same && self.config != *config {
            self.config = config.clone();
            // A router that has ended with its runtime has nothing to change any more.
            self.commands.send(config.clone()).ok();
        }
        same.then_some(self)
    }

    pub(crate) fn role(&self) -> Role {
        *self.role.borrow()
    }

    /// Resigns, and waits until the others know and the addresses are gone.
    pub(crate) async fn resign(self) {
        drop(self.commands);
        // An error: it ended before, with its runtime.
        self.finished.await.ok();
    }
}

/// The part of a virtual IP that concerns its router.
pub(crate) fn config_of(interface: &Interface, vip: &VirtualIp) -> Config {
    Config {
        vrid: vip.vrid,
        priority: vip.priority,
        interval: vip.interval,
        preempt: vip.preempt,
        source: interface.address,
        addresses: vip.addresses.clone(),
    }
}
