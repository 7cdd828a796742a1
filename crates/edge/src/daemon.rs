//! The edge as a whole: what runs follows the configuration, the status follows what runs.

use crate::Error;
use crate::balancer::{Carrier, Listener};
use crate::config::{Interface, VirtualIp};
use crate::router::{Router, Routers, config_of};
use crate::status::Status;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval};

/// How often the counters in the status are renewed when nothing else happens.
const COUNTERS: Duration = Duration::from_secs(1);

/// Follows `config` until `shutdown` completes; then resigns, and returns when the addresses are gone.
///
/// Runs in the network namespace of the calling thread, which must stay the namespace of the runtime's
/// threads. Everything that can fail in between is tried again and logged.
///
/// # Errors
/// The threads of the virtual routers and of the balancer cannot be started.
pub async fn run(
    interface: Interface,
    mut config: watch::Receiver<Vec<VirtualIp>>,
    status: watch::Sender<Vec<Status>>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let mut edge = Edge::start(interface)?;
    edge.apply(config.borrow_and_update().clone());
    let mut counters = interval(COUNTERS);
    counters.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Ok(()) = config.changed() => edge.apply(config.borrow_and_update().clone()),
            () = edge.changed.notified() => {}
            _ = counters.tick() => {}
        }
        status.send_replace(edge.status());
    }
    edge.shut_down().await;
    Ok(())
}

/// Virtual routers and listeners that run. Dropping it ends them all.
#[derive(Debug)]
pub struct Edge {
    interface: Interface,
    vips: BTreeMap<String, Running>,
    changed: Arc<Notify>,
    routers: Routers,
    carrier: Arc<Carrier>,
}

#[derive(Debug)]
struct Running {
    router: Router,
    /// By name.
    listeners: BTreeMap<String, Listener>,
}

impl Edge {
    /// # Errors
    /// The threads of the virtual routers and of the balancer cannot be started.
    pub fn start(interface: Interface) -> Result<Self, Error> {
        let routers = Routers::start()?;
        let carrier = Arc::new(Carrier::start().map_err(Error::Thread)?);
        Ok(Edge { interface, vips: BTreeMap::new(), changed: Arc::default(), routers, carrier })
    }

    /// Makes what runs be `wanted`. What is the same goes on untouched, a changed set of back ends keeps
    /// its connections, and only another identifier or version of VRRP makes a router resign.
    pub fn apply(&mut self, wanted: Vec<VirtualIp>) {
        self.vips.retain(|name, _running| wanted.iter().any(|vip| vip.name == *name));
        for vip in wanted {
            let mut running = self.vips.remove(&vip.name);
            let listeners = running.as_mut().map(|it| std::mem::take(&mut it.listeners));
            let listeners = self.listen(&vip, listeners.unwrap_or_default());
            let config = config_of(&self.interface, &vip);
            let kept = running.map(|it| it.router).and_then(|router| router.configured(&config));
            let router =
                kept.unwrap_or_else(|| self.routers.add(&self.interface, config, &self.changed));
            self.vips.insert(vip.name, Running { router, listeners });
        }
        self.changed.notify_one();
    }

    fn listen(
        &self,
        vip: &VirtualIp,
        mut old: BTreeMap<String, Listener>,
    ) -> BTreeMap<String, Listener> {
        let addresses = vip.addresses.as_slice();
        let listen = |config: &crate::config::Listener| {
            let listener = match old.remove(&config.name) {
                Some(mut listener) => {
                    listener.apply(config.clone(), addresses);
                    listener
                }
                None => Listener::start(config.clone(), addresses, &self.changed, &self.carrier),
            };
            (config.name.clone(), listener)
        };
        vip.listeners.iter().map(listen).collect()
    }

    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        let status = |(name, running): (&String, &Running)| {
            let role = running.router.role();
            Status {
                name: name.clone(),
                state: role.state,
                since: role.since,
                listeners: running.listeners.values().map(Listener::status).collect(),
            }
        };
        self.vips.iter().map(status).collect()
    }

    /// Resigns from every virtual router, and waits until the others know and the addresses are gone.
    pub async fn shut_down(self) {
        let Edge { vips, routers, .. } = self;
        // The listeners stay open until the addresses are gone: a client is never refused.
        let (resigning, listeners): (Vec<_>, Vec<_>) =
            vips.into_values().map(|it| (it.router.resign(), it.listeners)).unzip();
        futures::future::join_all(resigning).await;
        drop((listeners, routers));
    }
}
