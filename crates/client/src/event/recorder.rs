//! Notes on their way to the API, beside everything else.

use super::Event;
use super::correlate::{Correlator, Note};
use crate::{Client, Error, Kind};
use jiff::Timestamp;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

/// Notes that wait; more are lost.
const QUEUE: usize = 1000;
/// How long the API may take, and how often and how soon it is asked again.
const PATIENCE: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 12;
const PAUSE: Duration = Duration::from_secs(10);

/// Tells Events and never waits: an API that does not answer costs Events and nothing else.
pub struct Recorder {
    correlator: Correlator,
    start: Instant,
    notes: mpsc::Sender<Note>,
    /// Ends with the recorder.
    _writer: JoinSet<()>,
}

impl Recorder {
    /// `host`: the node that it speaks for, if it is one's.
    #[must_use]
    pub fn new(client: Client, host: Option<String>) -> Self {
        let (notes, waiting) = mpsc::channel(QUEUE);
        let mut writer = JoinSet::new();
        writer.spawn(write_all(client, host, waiting));
        let correlator = Correlator::default();
        Recorder { correlator, start: Instant::now(), notes, _writer: writer }
    }

    pub fn tell(&mut self, event: Event) {
        let now = self.start.elapsed();
        let Some(note) = self.correlator.admit(event, now, Timestamp::now()) else { return };
        if let Err(lost) = self.notes.try_send(note) {
            debug!(%lost, "too many Events at once");
        }
    }
}

async fn write_all(client: Client, host: Option<String>, mut notes: mpsc::Receiver<Note>) {
    while let Some(note) = notes.recv().await {
        write(&client, host.as_deref(), &note).await;
    }
}

async fn write(client: &Client, host: Option<&str>, note: &Note) {
    for _attempt in 0..ATTEMPTS {
        match timeout(PATIENCE, put(client, host, note)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) if !matches!(error, Error::Unreachable { .. }) => {
                return debug!(?note, %error, "the API does not want an Event");
            }
            outcome => debug!(?outcome, "the API did not take an Event"),
        }
        sleep(PAUSE).await;
    }
}

/// One that is to be counted may have expired, or never have come.
async fn put(client: &Client, host: Option<&str>, note: &Note) -> crate::Result<()> {
    if note.count > 1 {
        let (namespace, patch) = (Some(note.namespace()), note.to_patch());
        let patched = crate::patch_merge(client, Kind::EVENT, namespace, &note.name, &patch);
        match patched.await {
            Err(Error::NotFound { .. }) => {}
            answer => return answer.map(drop),
        }
    }
    crate::create(client, &note.to_object(host)).await.map(drop)
}
