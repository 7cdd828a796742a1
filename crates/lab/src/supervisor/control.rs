//! The control socket: one request and one answer a connection.

use super::cluster::Cluster;
use super::events::{Event, Events};
use crate::message::{Answer, Request};
use crate::{Error, Result, layout};
use std::io;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;

/// Accepts requests and puts them into the supervisor's queue.
pub(super) fn listen(events: Events) -> Result<()> {
    let listener = UnixListener::bind(layout::CONTROL);
    let listener = listener.map_err(Error::file("listen on", layout::CONTROL))?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(serve(stream, events.clone()))),
                Err(error) => tracing::warn!(%error, "cannot accept on the control socket"),
            }
        }
    });
    Ok(())
}

async fn serve(stream: UnixStream, events: Events) {
    if let Err(error) = exchange(stream, &events).await {
        tracing::warn!(%error, "a request was not answered");
    }
}

async fn exchange(mut stream: UnixStream, events: &Events) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new(&mut stream).read_line(&mut line).await?;
    let request: Request = serde_json::from_str(&line)?;
    let (reply, answer) = oneshot::channel();
    let ended = || io::Error::other("the lab is ending");
    events.send(Event::Asked(request, reply)).map_err(|_closed| ended())?;
    let answer = answer.await.map_err(|_closed| ended())?;
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

/// Does what is asked.
pub(super) async fn answer(cluster: &mut Cluster, request: Request) -> Answer {
    let outcome = match request {
        Request::Kubeconfig => Ok(Answer::Kubeconfig(cluster.kubeconfig())),
        Request::Status => cluster.status().await.map(Answer::Status),
        Request::Locate(target) => cluster.locate(&target).await.map(Answer::Place),
        Request::Kill { node } => cluster.cut_power(&node).await.map(|()| Answer::Done),
        Request::Start { node } => cluster.restart(&node).map(|()| Answer::Done),
        Request::Agent { node, arguments } => {
            cluster.restart_agent(&node, arguments).map(|()| Answer::Done)
        }
    };
    outcome.unwrap_or_else(|error| match error {
        Error::NoTarget { target, .. } => Answer::NoTarget(target),
        Error::Down { target } => Answer::Down(target),
        Error::Up { target } => Answer::Up(target),
        error => Answer::Failed(crate::error::chain(&error)),
    })
}
