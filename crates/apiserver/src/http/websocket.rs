//! A command's input and output over one WebSocket, a channel each: `v5.channel.k8s.io` and `v4.channel.k8s.io`.
//!
//! A message's first byte says the channel (`k8s.io/apimachinery/pkg/util/remotecommand`).

use super::upgrade::{self, Socket};
use crate::containers::{Output, Session};
use crate::error::Error;
use bytes::Bytes;
use futures::stream::SplitSink;
use futures::{SinkExt, StreamExt};
use hyper::upgrade::OnUpgrade;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};
use tracing::debug;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Version 5: the channel that the next byte names is closed.
const CLOSE: u8 = 255;

/// The versions that we speak.
pub(super) const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// Carries input and output until the command or the connection ends; a command that could not be started is told
/// in the same way, because clients take an answer without a WebSocket for a server that has none.
pub(super) async fn serve(upgrade: OnUpgrade, session: Result<Session, Error>) {
    let Some(socket) = upgrade::socket(upgrade).await else { return };
    match session {
        Ok(session) => carry(socket, session).await,
        Err(error) => conclude(socket.split().0, &error.status()).await,
    }
}

type Sink = SplitSink<Socket, Message>;

async fn carry(socket: Socket, session: Session) {
    let Session { input, mut output, size, end } = session;
    let (mut sink, mut source) = socket.split();
    let mut input = Some(input);
    loop {
        tokio::select! {
            piece = output.recv() => {
                let Some((kind, bytes)) = piece else { break };
                let channel = if kind == Output::Standard { STDOUT } else { STDERR };
                if sink.send(message(channel, &bytes)).await.is_err() {
                    return;
                }
            }
            received = source.next() => match received {
                Some(Ok(Message::Binary(bytes))) => receive(&bytes, &mut input, &size).await,
                Some(Ok(Message::Text(text))) => receive(text.as_bytes(), &mut input, &size).await,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
        }
    }
    let status = end.await.map_or_else(|_dropped| failure(None), outcome);
    conclude(sink, &status).await;
}

async fn conclude(mut sink: Sink, status: &Value) {
    let told = sink.send(message(ERROR, status.to_string().as_bytes())).await;
    let goodbye = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    if let Err(error) = told.and(sink.send(Message::Close(Some(goodbye))).await) {
        debug!(%error, "the client did not wait for the end");
    }
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    Message::Binary([&[channel], bytes].concat().into())
}

async fn receive(
    bytes: &[u8],
    input: &mut Option<mpsc::Sender<Bytes>>,
    size: &mpsc::Sender<(u16, u16)>,
) {
    match bytes.split_first() {
        Some((&STDIN, rest)) if !rest.is_empty() => {
            if let Some(to) = input
                && to.send(Bytes::copy_from_slice(rest)).await.is_err()
            {
                *input = None;
            }
        }
        Some((&RESIZE, rest)) => {
            if let Some(wanted) = terminal_size(rest) {
                // A command that ended needs no terminal any more.
                size.send(wanted).await.ok();
            }
        }
        Some((&CLOSE, [STDIN])) => *input = None,
        _ => {}
    }
}

/// Columns and rows.
pub(super) fn terminal_size(text: &[u8]) -> Option<(u16, u16)> {
    let wanted: Value = serde_json::from_slice(text).ok()?;
    let side = |name: &str| wanted[name].as_u64().and_then(|side| u16::try_from(side).ok());
    Some((side("Width")?, side("Height")?))
}

/// The `Status` that tells a command's exit code.
pub(super) fn outcome(code: i32) -> Value {
    if code == 0 { json!({"metadata": {}, "status": "Success"}) } else { failure(Some(code)) }
}

pub(super) fn failure(code: Option<i32>) -> Value {
    let Some(code) = code else {
        return json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "message": "the command's end was not heard"});
    };
    json!({
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}
