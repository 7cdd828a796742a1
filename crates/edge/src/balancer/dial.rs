//! Opening a connection to some healthy back end, as soon as one answers.

use super::backend::Lease;
use super::pool::Pool;
use crate::config::Dial;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use std::io::{self, ErrorKind};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

/// How often all back ends are tried before a client is given up.
///
/// A node port picks an endpoint anew for each attempt: where one of three pods died a moment ago, a back end that
/// did not answer may answer the next time.
const ROUNDS: usize = 3;

/// What opening a connection took.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Effort {
    pub(super) retries: u64,
    pub(super) hedges: u64,
}

/// An attempt, and how it came out.
type Outcome = (Lease, io::Result<TcpStream>);

/// A race between back ends: the next one starts when one failed or takes long.
struct Race<'a> {
    pool: &'a Pool,
    /// In this round.
    tried: Vec<usize>,
    rounds: usize,
    attempts: usize,
    running: FuturesUnordered<BoxFuture<'static, Outcome>>,
}

/// `None`: no back end took the connection.
pub(super) async fn dial(pool: &Pool) -> (Option<(Lease, TcpStream)>, Effort) {
    let mut race =
        Race { pool, tried: Vec::new(), rounds: 1, attempts: 0, running: FuturesUnordered::new() };
    let mut effort = Effort::default();
    race.start();
    let mut hedge_at = Instant::now() + pool.dial.hedge_after;
    while !race.running.is_empty() {
        tokio::select! {
            Some((lease, outcome)) = race.running.next() => match outcome {
                Ok(stream) => {
                    lease.opened();
                    return (Some((lease, stream)), effort);
                }
                Err(error) => {
                    blame(&lease, &error);
                    effort.retries += u64::from(race.start());
                    hedge_at = Instant::now() + pool.dial.hedge_after;
                }
            },
            () = sleep_until(hedge_at) => {
                effort.hedges += u64::from(race.start());
                hedge_at = Instant::now() + pool.dial.hedge_after.max(Duration::from_millis(1));
            }
        }
    }
    (None, effort)
}

impl Race<'_> {
    /// Whether there was another back end to try.
    fn start(&mut self) -> bool {
        let most = self.pool.dial.retries.map(|retries| retries.saturating_add(1));
        if most.is_some_and(|most| self.attempts >= most) {
            return false;
        }
        let Some(lease) = self.choose() else { return false };
        self.attempts += 1;
        self.running.push(attempt(lease, self.pool.dial).boxed());
        true
    }

    fn choose(&mut self) -> Option<Lease> {
        let next = self.pool.choose(&mut self.tried);
        if next.is_some() || self.rounds == ROUNDS {
            return next;
        }
        self.rounds += 1;
        self.tried.clear();
        self.pool.choose(&mut self.tried)
    }
}

async fn attempt(lease: Lease, dial: Dial) -> Outcome {
    let connect = TcpStream::connect(lease.config.address);
    tokio::pin!(connect);
    let quick = timeout(dial.hedge_after.min(dial.timeout), &mut connect).await;
    let outcome = match quick {
        Ok(outcome) => outcome,
        Err(_elapsed) => {
            lease.is_slow();
            let rest = dial.timeout.saturating_sub(dial.hedge_after);
            let late = timeout(rest, connect).await;
            late.unwrap_or_else(|_elapsed| Err(ErrorKind::TimedOut.into()))
        }
    };
    (lease, outcome)
}

/// Tells the health check, unless the fault is our own (no ports, descriptors or memory left).
fn blame(lease: &Lease, error: &io::Error) {
    let theirs = matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
    );
    if theirs {
        lease.failed();
    } else {
        tracing::warn!(backend = lease.config.name, %error, "cannot connect");
    }
}
