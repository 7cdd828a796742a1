//! A connection to whichever of several servers answers first.
//!
//! ```text
//!  first ──────────────────────► answers late: dropped
//!        beside │ second ──► answers: has the client
//!  refused ──► third, at once
//! ```

use crate::limits::{Limits, Permit};
use futures::stream::{FuturesUnordered, StreamExt};
use kernel::stream::{Transport, begin_connect};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// One that may be connected to for a client, held for as long as the attempt or the connection lasts.
pub trait Server: Send {
    fn connect(&self) -> impl Future<Output = io::Result<TcpStream>> + Send;

    /// It has not answered yet, and another one is about to be tried beside it.
    fn is_slow(&self);

    fn failed(&self, error: &io::Error);
}

/// How hard a connection is tried for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Without an answer for so long, another server is tried as well (RFC 8305, section 5: Connection Attempt Delay).
    pub beside: Duration,
    /// For one attempt.
    pub attempt: Duration,
    /// For all of them; `None`: as long as they take.
    pub whole: Option<Duration>,
    /// The first one included.
    pub attempts: usize,
}

/// What opening a connection took.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Attempts after one that failed.
    pub retries: u64,
    /// Attempts beside one that took long.
    pub hedges: u64,
}

/// `next`: whom to try, none of them twice unless it is worth it. No connection: nobody took it.
///
/// The first attempt has the descriptor that is the connection's own; those beside it are only made while there are
/// some to spare.
pub async fn dial<S: Server>(
    pace: Pace,
    limits: &Limits,
    mut next: impl FnMut() -> Option<S>,
) -> (Option<(S, TcpStream)>, Effort) {
    let mut allowance = Allowance { pace, limits, begin: Instant::now(), attempts: 0 };
    let mut running = FuturesUnordered::new();
    let mut start = |running: &mut FuturesUnordered<_>| {
        let allowed = allowance.take(running.is_empty());
        let begun = allowed.and_then(|allowed| Some(attempt(next()?, pace.beside, allowed)));
        let is_begun = begun.is_some();
        running.extend(begun);
        u64::from(is_begun)
    };
    let mut effort = Effort::default();
    start(&mut running);
    while !running.is_empty() {
        tokio::select! {
            Some((server, outcome)) = running.next() => match outcome {
                Ok(stream) => return (Some((server, stream)), effort),
                Err(error) => {
                    server.failed(&error);
                    effort.retries += start(&mut running);
                }
            },
            () = sleep(pace.beside) => effort.hedges += start(&mut running),
        }
    }
    (None, effort)
}

/// How many attempts there may still be.
struct Allowance<'a> {
    pace: Pace,
    limits: &'a Limits,
    begin: Instant,
    attempts: usize,
}

/// How long an attempt may take, and its descriptor.
type Allowed = (Duration, Option<Permit>);

impl Allowance<'_> {
    /// `alone`: no other attempt is under way.
    fn take(&mut self, alone: bool) -> Option<Allowed> {
        let Pace { attempt, whole, attempts, .. } = self.pace;
        let left = whole.map_or(attempt, |whole| whole.saturating_sub(self.begin.elapsed()));
        if self.attempts == attempts || left.is_zero() {
            return None;
        }
        let permit = if alone { None } else { Some(self.limits.attempt()?) };
        self.attempts += 1;
        Some((attempt.min(left), permit))
    }
}

async fn attempt<S: Server>(
    server: S,
    beside: Duration,
    (patience, permit): Allowed,
) -> (S, io::Result<TcpStream>) {
    let outcome = {
        let mut connect = pin!(server.connect());
        match timeout(beside.min(patience), &mut connect).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => {
                server.is_slow();
                let late = timeout(patience.saturating_sub(beside), connect).await;
                late.unwrap_or_else(|_elapsed| Err(ErrorKind::TimedOut.into()))
            }
        }
    };
    drop(permit);
    (server, outcome)
}

/// Does not wait to fill packets (`TCP_NODELAY`).
pub async fn connect(to: SocketAddr, transport: Transport) -> io::Result<TcpStream> {
    let stream = TcpStream::from_std(begin_connect(to, transport)?)?;
    stream.writable().await?;
    match stream.take_error()? {
        Some(error) => Err(error),
        None => Ok(stream),
    }
}

/// Whether it is the server that cannot be reached, and not the machine that lacks ports, descriptors or memory.
pub fn is_servers_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tokio::net::TcpListener;

    const BESIDE: Duration = Duration::from_millis(60);
    /// Long enough for a busy machine, and never waited for.
    const LONG: Duration = Duration::from_secs(30);

    /// What becomes of an attempt.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Fate {
        Answers,
        AnswersAfter(Duration),
        Refuses,
        IsSilent,
    }
    use Fate::{Answers, AnswersAfter, IsSilent, Refuses};

    struct Fake {
        number: usize,
        fate: Fate,
        open: SocketAddr,
        /// Written by all attempts.
        told: Arc<Mutex<Vec<String>>>,
    }

    impl Fake {
        fn tell(&self, what: &str) {
            self.told.lock().unwrap().push(format!("{} {what}", self.number));
        }
    }

    impl Server for Fake {
        async fn connect(&self) -> io::Result<TcpStream> {
            self.tell("tried");
            match self.fate {
                Answers => {}
                AnswersAfter(time) => sleep(time).await,
                Refuses => return Err(ErrorKind::ConnectionRefused.into()),
                IsSilent => std::future::pending().await,
            }
            connect(self.open, Transport::Tcp).await
        }

        fn is_slow(&self) {
            self.tell("slow");
        }

        fn failed(&self, error: &io::Error) {
            self.tell(if error.kind() == ErrorKind::TimedOut { "timed out" } else { "failed" });
        }
    }

    /// What becomes of each attempt; who has the client, retries and hedges, and what the servers are told.
    type Row = (&'static [Fate], Option<usize>, (u64, u64), &'static [&'static str]);

    struct Dialled {
        winner: Option<usize>,
        effort: (u64, u64),
        told: Vec<String>,
        took: Duration,
    }

    fn dialled(pace: Pace, limits: &Limits, fates: &[Fate]) -> Dialled {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let told = Arc::default();
        let begin = Instant::now();
        let (connection, effort) = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let open = listener.local_addr().unwrap();
            let mut all = fates.iter().enumerate();
            let next = || {
                let (number, fate) = all.next()?;
                Some(Fake { number, fate: *fate, open, told: Arc::clone(&told) })
            };
            dial(pace, limits, next).await
        });
        let winner = connection.map(|(server, _stream)| server.number);
        let told = told.lock().unwrap().clone();
        Dialled { winner, effort: (effort.retries, effort.hedges), told, took: begin.elapsed() }
    }

    fn pace() -> Pace {
        Pace { beside: BESIDE, attempt: LONG, whole: Some(LONG), attempts: 16 }
    }

    #[test]
    fn who_answers_first_has_the_client() {
        const LATE: Fate = AnswersAfter(BESIDE.saturating_mul(5));
        let plenty = Limits::new(1024);
        let rows: [Row; 7] = [
            (&[Answers, Answers], Some(0), (0, 0), &["0 tried"]),
            (
                &[Refuses, Refuses, Answers],
                Some(2),
                (2, 0),
                &["0 tried", "0 failed", "1 tried", "1 failed", "2 tried"],
            ),
            (&[IsSilent, Answers], Some(1), (0, 1), &["0 tried", "0 slow", "1 tried"]),
            (&[LATE, IsSilent], Some(0), (0, 1), &["0 tried", "0 slow", "1 tried", "1 slow"]),
            (&[LATE], Some(0), (0, 0), &["0 tried", "0 slow"]),
            (&[Refuses], None, (0, 0), &["0 tried", "0 failed"]),
            (&[], None, (0, 0), &[]),
        ];
        for (fates, winner, effort, told) in rows {
            let done = dialled(pace(), &plenty, fates);
            assert_eq!((done.winner, done.effort), (winner, effort), "{fates:?}");
            assert_eq!(done.told, told, "{fates:?}");
            assert!(done.took < LONG, "{fates:?}: {:?}", done.took);
        }
    }

    #[test]
    fn all_have_an_end() {
        let plenty = Limits::new(1024);
        let whole = 4 * BESIDE;
        let done = dialled(Pace { whole: Some(whole), ..pace() }, &plenty, &[IsSilent; 32]);
        assert_eq!(done.winner, None);
        assert!(done.took >= whole && done.took < LONG, "{:?}", done.took);
        let timed_out = done.told.iter().filter(|it| it.ends_with("timed out")).count();
        assert_eq!(timed_out as u64, 1 + done.effort.1, "{:?}", done.told);
        let few = Pace { attempts: 2, ..pace() };
        assert_eq!(dialled(few, &plenty, &[Refuses, Refuses, Answers]).winner, None);
    }

    #[test]
    fn nobody_is_tried_beside_another_without_descriptors() {
        let none = Limits::new(0);
        let late = AnswersAfter(3 * BESIDE);
        let done = dialled(pace(), &none, &[late, Answers]);
        assert_eq!((done.winner, done.effort), (Some(0), (0, 0)));
        // Whoever failed has given his back.
        let done = dialled(pace(), &none, &[Refuses, Answers]);
        assert_eq!((done.winner, done.effort), (Some(1), (1, 0)));
        let one = Limits::new(128 + 1);
        let done = dialled(pace(), &one, &[late, IsSilent, Answers]);
        assert_eq!((done.winner, done.effort), (Some(0), (0, 1)));
        assert_eq!(one.free(), 1);
    }
}
