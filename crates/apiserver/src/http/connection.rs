//! A connection: who is at its other end, and HTTP/1.1 or HTTP/2 on it until either side ends it.

use super::answer;
use super::reply::Response;
use crate::access::tokens::ISSUER;
use crate::access::{Access, User};
use crate::server::{ApiServer, Stream};
use hyper::Request;
use hyper::header::AUTHORIZATION;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tracing::debug;

/// A client that takes longer to say who it is is gone.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Who asks, as far as the connection itself tells.
#[derive(Debug, Clone)]
enum Caller {
    Known(User),
    /// Each request has to bring a token.
    Unknown(Arc<Access>),
}

pub(crate) async fn serve_connection(server: Arc<ApiServer>, stream: Stream) {
    match stream {
        Stream::Open(stream) => {
            converse(server, hasten(stream), Caller::Known(User::administrator())).await;
        }
        Stream::Unix(stream) => {
            converse(server, stream, Caller::Known(User::administrator())).await;
        }
        Stream::Guarded(stream, access) => {
            let handshake = access.acceptor().accept(hasten(stream));
            match tokio::time::timeout(HANDSHAKE, handshake).await {
                Ok(Ok(stream)) => {
                    let certificates = stream.get_ref().1.peer_certificates();
                    let user = certificates.and_then(|chain| User::of_certificate(chain.first()?));
                    let caller = user.map_or(Caller::Unknown(access), Caller::Known);
                    converse(server, stream, caller).await;
                }
                Ok(Err(error)) => debug!(%error, "no TLS"),
                Err(_elapsed) => debug!("a TLS handshake took too long"),
            }
        }
    }
}

fn hasten(stream: TcpStream) -> TcpStream {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot switch off Nagle's algorithm");
    }
    stream
}

async fn converse<S>(server: Arc<ApiServer>, stream: S, caller: Caller)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let user = caller.user(&server, &request);
        let server = server.clone();
        async move { Ok::<Response, Infallible>(answer(server, request, user).await) }
    });
    let connection = auto::Builder::new(TokioExecutor::new());
    let connection = connection.serve_connection_with_upgrades(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        debug!(%error, "connection ended");
    }
}

impl Caller {
    fn user<T>(&self, server: &ApiServer, request: &Request<T>) -> Option<User> {
        match self {
            Self::Known(user) => Some(user.clone()),
            Self::Unknown(access) => {
                let header = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
                let token = header.strip_prefix("Bearer ")?.trim();
                let account = || server.user_of_token(token, &[ISSUER.to_owned()]);
                access.user_of_token(token).or_else(|| account().map(|(user, _)| user))
            }
        }
    }
}
