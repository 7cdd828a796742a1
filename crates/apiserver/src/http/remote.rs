//! A command's input and output over SPDY, a stream each: `v4.channel.k8s.io` as clients before WebSockets speak it
//! (`k8s.io/kubelet/pkg/cri/streaming/remotecommand`).

use super::spdy::{self, Stream};
use super::upgrade;
use super::websocket::{failure, outcome, terminal_size};
use crate::containers::{Output, Session};
use crate::error::Error;
use hyper::upgrade::OnUpgrade;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;

pub(super) const PROTOCOLS: [&str; 1] = ["v4.channel.k8s.io"];
/// A client that takes longer to open its streams is gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many streams the client opens, as its request says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streams(usize);

impl Streams {
    pub(super) fn of(query: &str) -> Self {
        let flag = |wanted: &str| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            pairs.any(|(name, value)| name == wanted && matches!(&*value, "true" | "1"))
        };
        let terminal = flag("tty");
        let wanted = ["stdin", "stdout"].iter().filter(|name| flag(name)).count();
        // The error stream is always there; a terminal has sizes, and no errors beside its output.
        Self(1 + wanted + usize::from(terminal || flag("stderr")))
    }
}

pub(super) async fn serve(upgrade: OnUpgrade, wanted: Streams, session: Result<Session, Error>) {
    let Some(connection) = upgrade::upgraded(upgrade).await else { return };
    let mut opened = spdy::serve(connection);
    let mut streams = BTreeMap::new();
    while streams.len() < wanted.0 {
        let Ok(Some(stream)) = tokio::time::timeout(PATIENCE, opened.recv()).await else { return };
        let kind = stream.header("streamtype").unwrap_or_default().to_owned();
        streams.insert(kind, stream);
    }
    let status = match session {
        Ok(session) => {
            tokio::select! {
                status = carry(session, &mut streams) => status,
                // Nobody opens more streams: this ends with the connection.
                _ = opened.recv() => return,
            }
        }
        Err(error) => error.status(),
    };
    if let Some(error) = streams.remove("error") {
        error.output.send(status.to_string().into()).await;
        error.output.close().await;
    }
}

async fn carry(session: Session, streams: &mut BTreeMap<String, Stream>) -> serde_json::Value {
    let Session { input, mut output, size, end } = session;
    if let Some(Stream { input: from, .. }) = streams.remove("stdin") {
        tokio::spawn(relay(from, input));
    }
    if let Some(Stream { input: mut from, .. }) = streams.remove("resize") {
        tokio::spawn(async move {
            while let Some(text) = from.recv().await {
                let Some(wanted) = terminal_size(&text) else { continue };
                if size.send(wanted).await.is_err() {
                    return;
                }
            }
        });
    }
    while let Some((kind, bytes)) = output.recv().await {
        let name = if kind == Output::Standard { "stdout" } else { "stderr" };
        if let Some(stream) = streams.get(name) {
            stream.output.send(bytes).await;
        }
    }
    for name in ["stdout", "stderr"] {
        if let Some(stream) = streams.get(name) {
            stream.output.close().await;
        }
    }
    end.await.map_or_else(|_dropped| failure(None), outcome)
}

async fn relay(mut from: mpsc::Receiver<bytes::Bytes>, to: mpsc::Sender<bytes::Bytes>) {
    while let Some(bytes) = from.recv().await {
        if to.send(bytes).await.is_err() {
            return;
        }
    }
}
