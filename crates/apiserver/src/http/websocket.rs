//! A command's input and output over one WebSocket, a channel each: `v5.channel.k8s.io` and `v4.channel.k8s.io`.
//!
//! A message's first byte says the channel (`k8s.io/apimachinery/pkg/util/remotecommand`).

use super::reply::Response;
use crate::containers::{Output, Session};
use crate::error::Error;
use bytes::Bytes;
use futures::stream::SplitSink;
use futures::{SinkExt, StreamExt};
use http_body_util::{Either, Full};
use hyper::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role};
use tracing::debug;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Version 5: the channel that the next byte names is closed.
const CLOSE: u8 = 255;

/// The versions that we speak.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// A request that asks for a WebSocket.
#[derive(Debug)]
pub(super) struct Handshake {
    accept: String,
    protocol: &'static str,
}

impl Handshake {
    pub(super) fn of<T>(request: &Request<T>) -> Result<Self, Error> {
        let headers = request.headers();
        let bad = |message: &str| Error::BadRequest { message: message.to_owned() };
        let key = headers.get(SEC_WEBSOCKET_KEY);
        let (Some(key), true) = (key, has(headers, "websocket")) else {
            return Err(bad("Upgrade request required"));
        };
        let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
        let offered = offered.filter_map(|value| value.to_str().ok());
        let mut offered = offered.flat_map(|value| value.split(',')).map(str::trim);
        let protocol = offered.find_map(|name| PROTOCOLS.into_iter().find(|own| *own == name));
        let protocol = protocol.ok_or_else(|| {
            bad("none of the WebSocket protocols is served: v5.channel.k8s.io, v4.channel.k8s.io")
        })?;
        Ok(Self { accept: derive_accept_key(key.as_bytes()), protocol })
    }

    pub(super) fn accept(self) -> Response {
        let mut response = hyper::Response::new(Either::Left(Full::new(Bytes::new())));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(self.protocol));
        if let Ok(accept) = HeaderValue::try_from(self.accept) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        response
    }
}

fn has(headers: &HeaderMap, protocol: &str) -> bool {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|upgrade| upgrade.eq_ignore_ascii_case(protocol))
}

/// Carries input and output until the command or the connection ends; a command that could not be started is told
/// in the same way, because clients take an answer without a WebSocket for a server that has none.
pub(super) async fn serve(upgrade: OnUpgrade, session: Result<Session, Error>) {
    match upgrade.await {
        Ok(upgraded) => {
            let socket =
                WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
            match session {
                Ok(session) => carry(socket, session).await,
                Err(error) => conclude(socket.split().0, &error.status()).await,
            }
        }
        Err(error) => debug!(%error, "no WebSocket after all"),
    }
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;
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
            let wanted: Value = serde_json::from_slice(rest).unwrap_or_default();
            let side = |name: &str| wanted[name].as_u64().and_then(|side| u16::try_from(side).ok());
            if let (Some(columns), Some(rows)) = (side("Width"), side("Height")) {
                // A command that ended needs no terminal any more.
                size.send((columns, rows)).await.ok();
            }
        }
        Some((&CLOSE, [STDIN])) => *input = None,
        _ => {}
    }
}

/// The `Status` that tells a command's exit code.
fn outcome(code: i32) -> Value {
    if code == 0 { json!({"metadata": {}, "status": "Success"}) } else { failure(Some(code)) }
}

fn failure(code: Option<i32>) -> Value {
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
    fn the_client_chooses_the_protocol() {
        let request = |protocols: &str| {
            Request::builder()
                .header(UPGRADE, "websocket")
                .header(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
                .header(SEC_WEBSOCKET_PROTOCOL, protocols)
                .body(())
                .unwrap()
        };
        for (offered, chosen) in [
            ("v5.channel.k8s.io", Some("v5.channel.k8s.io")),
            ("v1.x, v4.channel.k8s.io, v5.channel.k8s.io", Some("v4.channel.k8s.io")),
            ("channel.k8s.io", None),
        ] {
            let handshake = Handshake::of(&request(offered)).ok();
            assert_eq!(handshake.map(|it| it.protocol), chosen);
        }
        let accepted = Handshake::of(&request("v5.channel.k8s.io")).unwrap().accept();
        // The example of RFC 6455 §1.3.
        assert_eq!(accepted.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(Handshake::of(&Request::new(())).unwrap_err().code(), 400);
    }
}
