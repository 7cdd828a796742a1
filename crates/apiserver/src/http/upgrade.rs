//! Requests that become conversations: over a WebSocket, or over SPDY as older clients speak it.

use super::reply::Response;
use crate::error::Error;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http_body_util::{Either, Full};
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use hyper::upgrade::OnUpgrade;
use hyper::upgrade::Upgraded;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};
use tracing::debug;

const SPDY: &str = "SPDY/3.1";
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// Bytes of a tunnel that are on their way at once.
const PIECE: usize = 64 << 10;

/// Whether the client asks for a WebSocket.
pub(super) fn is_wanted<T>(request: &Request<T>) -> bool {
    request.headers().contains_key(SEC_WEBSOCKET_KEY)
}

/// How the client wants to talk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Handshake {
    WebSocket { accept: String, protocol: &'static str },
    Spdy { protocol: &'static str },
}

impl Handshake {
    /// The first of the client's protocols that is one of ours: those of WebSockets, or those within SPDY. One without
    /// a name is for clients that name none.
    pub(super) fn of<T>(
        request: &Request<T>,
        websocket: &[&'static str],
        spdy: &[&'static str],
    ) -> Result<Self, Error> {
        let headers = request.headers();
        let bad = |message: String| Error::BadRequest { message };
        let upgrade =
            headers.get(UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if upgrade.eq_ignore_ascii_case(SPDY) {
            let protocol = chosen(headers, &STREAM_PROTOCOL, spdy);
            let refused = || bad(format!("none of the protocols is served: {}", spdy.join(", ")));
            return Ok(Self::Spdy { protocol: protocol.ok_or_else(refused)? });
        }
        let key = headers.get(SEC_WEBSOCKET_KEY);
        let (Some(key), true) = (key, upgrade.eq_ignore_ascii_case("websocket")) else {
            return Err(bad("Upgrade request required".into()));
        };
        let protocol = chosen(headers, &SEC_WEBSOCKET_PROTOCOL, websocket);
        let refused =
            || bad(format!("none of the WebSocket protocols is served: {}", websocket.join(", ")));
        let accept = derive_accept_key(key.as_bytes());
        Ok(Self::WebSocket { accept, protocol: protocol.ok_or_else(refused)? })
    }

    pub(super) fn protocol(&self) -> &'static str {
        match self {
            Self::WebSocket { protocol, .. } | Self::Spdy { protocol } => protocol,
        }
    }

    pub(super) fn accept(self) -> Response {
        let mut response = hyper::Response::new(Either::Left(Full::new(Bytes::new())));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        match self {
            Self::WebSocket { accept, protocol } => {
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                if !protocol.is_empty() {
                    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
                }
                if let Ok(accept) = HeaderValue::try_from(accept) {
                    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
                }
            }
            Self::Spdy { protocol } => {
                headers.insert(UPGRADE, HeaderValue::from_static(SPDY));
                headers.insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
            }
        }
        response
    }
}

/// Offers may stand in one header or in several.
fn chosen(headers: &HeaderMap, name: &HeaderName, own: &[&'static str]) -> Option<&'static str> {
    let offered = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let offered = offered.flat_map(|value| value.split(',')).map(str::trim);
    let none = (!headers.contains_key(name)).then_some("");
    offered.chain(none).find_map(|name| own.iter().copied().find(|own| *own == name))
}

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The WebSocket, once the client has our answer.
pub(super) async fn socket(upgrade: OnUpgrade) -> Option<Socket> {
    let upgraded = upgraded(upgrade).await?;
    Some(WebSocketStream::from_raw_socket(upgraded, Role::Server, None).await)
}

/// The bare connection, once the client has our answer.
pub(super) async fn upgraded(upgrade: OnUpgrade) -> Option<TokioIo<Upgraded>> {
    match upgrade.await {
        Ok(upgraded) => Some(TokioIo::new(upgraded)),
        Err(error) => {
            debug!(%error, "no conversation after all");
            None
        }
    }
}

/// Bytes that go through a WebSocket in binary messages.
pub(super) fn tunnel(socket: Socket) -> DuplexStream {
    let (near, far) = tokio::io::duplex(PIECE);
    tokio::spawn(carry(socket, far));
    near
}

async fn carry(socket: Socket, far: DuplexStream) {
    let (mut sink, mut source) = socket.split();
    let (mut from, mut to) = tokio::io::split(far);
    let inwards = async {
        while let Some(Ok(message)) = source.next().await {
            let done = match message {
                Message::Binary(bytes) => to.write_all(&bytes).await.is_err(),
                Message::Close(_) => true,
                _ => false,
            };
            if done {
                break;
            }
        }
    };
    let outwards = async {
        while let Some(piece) = piece(&mut from).await {
            if sink.send(Message::Binary(piece)).await.is_err() {
                return;
            }
        }
        // The client may have gone first.
        sink.send(Message::Close(None)).await.ok();
    };
    tokio::select! {
        () = inwards => {}
        () = outwards => {}
    }
}

/// The next bytes; none: there are no more.
pub(super) async fn piece(from: &mut (impl AsyncRead + Unpin)) -> Option<Bytes> {
    let mut piece = bytes::BytesMut::with_capacity(PIECE);
    matches!(from.read_buf(&mut piece).await, Ok(1..)).then(|| piece.freeze())
}

/// Writes all that comes, then says that there is no more.
pub(super) async fn pour(
    mut from: tokio::sync::mpsc::Receiver<Bytes>,
    mut to: impl AsyncWrite + Unpin,
) {
    while let Some(bytes) = from.recv().await {
        let written = to.write_all(&bytes).await;
        if written.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    // What reads it may have gone.
    to.shutdown().await.ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPOKEN: [&str; 3] = ["v5.channel.k8s.io", "v4.channel.k8s.io", ""];

    #[test]
    fn the_client_chooses_the_protocol() {
        let request = |upgrade: &str, header: HeaderName, protocols: &str| {
            Request::builder()
                .header(UPGRADE, upgrade)
                .header(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
                .header(header, protocols)
                .body(())
                .unwrap()
        };
        for (offered, chosen) in [
            ("v5.channel.k8s.io", Some("v5.channel.k8s.io")),
            ("v1.x, v4.channel.k8s.io, v5.channel.k8s.io", Some("v4.channel.k8s.io")),
            ("channel.k8s.io", None),
        ] {
            let request = request("websocket", SEC_WEBSOCKET_PROTOCOL, offered);
            let handshake = Handshake::of(&request, &SPOKEN, &[]).ok();
            assert_eq!(handshake.map(|it| it.protocol()), chosen);
        }
        let offer = request("websocket", SEC_WEBSOCKET_PROTOCOL, SPOKEN[0]);
        let accepted = Handshake::of(&offer, &SPOKEN, &[]).unwrap().accept();
        // The example of RFC 6455 §1.3.
        assert_eq!(accepted.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let offer = request("SPDY/3.1", STREAM_PROTOCOL, "portforward.k8s.io");
        let accepted = Handshake::of(&offer, &SPOKEN, &["portforward.k8s.io"]).unwrap().accept();
        assert_eq!(accepted.headers()[STREAM_PROTOCOL], "portforward.k8s.io");
        let mut unnamed = request("websocket", CONNECTION, "Upgrade");
        let handshake = Handshake::of(&unnamed, &SPOKEN, &[]).unwrap();
        assert!(!handshake.accept().headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
        unnamed.headers_mut().remove(UPGRADE);
        assert_eq!(Handshake::of(&unnamed, &SPOKEN, &[]).unwrap_err().code(), 400);
        let unnamed = request("websocket", CONNECTION, "Upgrade");
        assert_eq!(Handshake::of(&unnamed, &SPOKEN[..2], &[]).unwrap_err().code(), 400);
        let bare = Request::new(());
        assert_eq!(Handshake::of(&bare, &SPOKEN, &[]).unwrap_err().code(), 400);
    }
}
