//! A command's input and output over one WebSocket, a channel each, and logs, which have no channels.
//!
//! A message's first byte says the channel (`k8s.io/apimachinery/pkg/util/remotecommand`). Where the protocol's name has
//! base64 in it, as browsers like it, messages are texts, and a digit says the channel. Names before version 4 tell in
//! words how a command failed, and nothing of one that succeeded; version 5 can close a channel.

use super::reply::Stream;
use super::upgrade::{self, Socket};
use crate::containers::{Output, Session};
use crate::error::Error;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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

/// Protocols of commands; who names none means the first one that there was.
pub(super) const PROTOCOLS: [&str; 6] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "",
];
/// Protocols of what is only read.
pub(super) const READING: [&str; 3] = ["binary.k8s.io", "base64.binary.k8s.io", ""];

/// What a protocol's name says of its messages.
#[derive(Debug, Clone, Copy)]
struct Manner {
    in_base64: bool,
    tells_status: bool,
}

impl Manner {
    fn of(protocol: &str) -> Self {
        Self { in_base64: protocol.contains("base64"), tells_status: protocol.starts_with('v') }
    }

    fn message(self, channel: u8, bytes: &[u8]) -> Message {
        match self.in_base64 {
            true => Message::text(format!("{channel}{}", STANDARD.encode(bytes))),
            false => Message::binary([&[channel], bytes].concat()),
        }
    }

    /// As the client meant it; nothing, where that cannot be read.
    fn read(self, bytes: Bytes) -> Bytes {
        if !self.in_base64 {
            return bytes;
        }
        let read = |(digit, rest): (&u8, &[u8])| {
            let channel = digit.checked_sub(b'0')?;
            Some([&[channel], STANDARD.decode(rest).ok()?.as_slice()].concat().into())
        };
        bytes.split_first().and_then(read).unwrap_or_default()
    }
}

/// Tells all of it, a message for each piece.
pub(super) async fn tell(upgrade: OnUpgrade, protocol: &'static str, mut pieces: Stream) {
    let Some(socket) = upgrade::socket(upgrade).await else { return };
    let (mut sink, mut source) = socket.split();
    let in_base64 = Manner::of(protocol).in_base64;
    loop {
        tokio::select! {
            piece = pieces.next() => {
                let Some(piece) = piece else { break };
                let message = match in_base64 {
                    true => Message::text(STANDARD.encode(piece)),
                    false => Message::binary(piece),
                };
                if sink.send(message).await.is_err() {
                    return;
                }
            }
            received = source.next() => {
                if matches!(received, Some(Ok(Message::Close(_)) | Err(_)) | None) {
                    return;
                }
            }
        }
    }
    part(sink).await;
}

/// Carries input and output until the command or the connection ends; a command that could not be started is told
/// in the same way, because clients take an answer without a WebSocket for a server that has none.
pub(super) async fn serve(
    upgrade: OnUpgrade,
    protocol: &'static str,
    session: Result<Session, Error>,
) {
    let Some(socket) = upgrade::socket(upgrade).await else { return };
    let manner = Manner::of(protocol);
    match session {
        Ok(session) => carry(socket, manner, session).await,
        Err(error) => conclude(socket.split().0, manner, &error.status()).await,
    }
}

type Sink = SplitSink<Socket, Message>;

async fn carry(socket: Socket, manner: Manner, session: Session) {
    let Session { input, mut output, size, end } = session;
    let (mut sink, mut source) = socket.split();
    let mut input = Some(input);
    loop {
        tokio::select! {
            piece = output.recv() => {
                let Some((kind, bytes)) = piece else { break };
                let channel = if kind == Output::Standard { STDOUT } else { STDERR };
                if sink.send(manner.message(channel, &bytes)).await.is_err() {
                    return;
                }
            }
            received = source.next() => match received {
                Some(Ok(message @ (Message::Binary(_) | Message::Text(_)))) => {
                    receive(&manner.read(message.into_data()), &mut input, &size).await;
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
        }
    }
    let status = end.await.map_or_else(|_dropped| failure(None), outcome);
    conclude(sink, manner, &status).await;
}

async fn conclude(mut sink: Sink, manner: Manner, status: &Value) {
    let told = match manner.tells_status {
        true => Some(status.to_string()),
        false if status["status"] == "Success" => None,
        false => status["message"].as_str().map(str::to_owned),
    };
    if let Some(told) = told
        && let Err(error) = sink.send(manner.message(ERROR, told.as_bytes())).await
    {
        debug!(%error, "the client did not wait for the outcome");
    }
    part(sink).await;
}

async fn part(mut sink: Sink) {
    let goodbye = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    if let Err(error) = sink.send(Message::Close(Some(goodbye))).await {
        debug!(%error, "the client did not wait for the end");
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_the_protocol_has_them() {
        for (protocol, expected, read) in [
            ("v5.channel.k8s.io", Message::binary(&b"\x01hi"[..]), &b"\x00ho"[..]),
            ("channel.k8s.io", Message::binary(&b"\x01hi"[..]), b"\x00ho"),
            ("", Message::binary(&b"\x01hi"[..]), b"\x00ho"),
            ("v4.base64.channel.k8s.io", Message::text("1aGk="), b"0aG8="),
            ("base64.channel.k8s.io", Message::text("1aGk="), b"0aG8="),
        ] {
            let manner = Manner::of(protocol);
            assert_eq!(manner.message(STDOUT, b"hi"), expected, "{protocol}");
            assert_eq!(&*manner.read(Bytes::from_static(read)), b"\x00ho", "{protocol}");
        }
        for bad in [&b""[..], b"!aG8=", b"0a"] {
            assert_eq!(Manner::of("base64.channel.k8s.io").read(Bytes::from_static(bad)), "");
        }
    }
}
