//! Which back ends a client is offered to, and how hard.

use super::backend::{Backend, Lease};
use super::pool::Pool;
use crate::config;
use kernel::stream::Transport;
use relay::{Effort, Limits, Pace, Server, is_servers_fault};
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;

/// How often all back ends are tried before a client is given up.
///
/// A node port picks an endpoint anew for each attempt: where one of three pods died a moment ago, a back end that
/// did not answer may answer the next time.
const ROUNDS: usize = 3;

/// No connection: no back end took it.
pub(super) async fn dial(pool: &Pool, limits: &Limits) -> (Option<(Lease, TcpStream)>, Effort) {
    let (mut tried, mut rounds) = (Vec::new(), 1);
    let next = || {
        let next = pool.choose(&mut tried);
        if next.is_some() || rounds == ROUNDS {
            return next;
        }
        rounds += 1;
        tried.clear();
        pool.choose(&mut tried)
    };
    relay::dial(pace(pool.dial), limits, next).await
}

fn pace(config::Dial { timeout, hedge_after, retries }: config::Dial) -> Pace {
    Pace {
        beside: hedge_after.max(Duration::from_millis(1)),
        attempt: timeout,
        whole: None,
        attempts: retries.map_or(usize::MAX, |retries| retries.saturating_add(1)),
    }
}

impl Server for Lease {
    async fn connect(&self) -> io::Result<TcpStream> {
        relay::connect(self.config.address, Transport::Tcp).await
    }

    fn is_slow(&self) {
        Backend::is_slow(self);
    }

    /// Tells the health check, unless the fault is our own.
    fn failed(&self, error: &io::Error) {
        if is_servers_fault(error) {
            Backend::failed(self);
        } else {
            tracing::warn!(backend = self.config.name, %error, "cannot connect");
        }
    }
}
