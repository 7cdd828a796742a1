//! Probes over HTTP, with and without TLS.

use super::{Outcome, at, refused, words};
use apiserver::tls;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

/// Too slow, as Go's client says it.
const LATE: &str = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";

/// What is asked for, of whom.
pub(super) struct Request {
    pub(super) https: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
}

impl Request {
    pub(super) async fn ask(&self, patience: Duration) -> Outcome {
        let answer = timeout(patience, self.status()).await;
        let why = match answer {
            // "Any code greater than or equal to 200 and less than 400 indicates success."
            Ok(Ok(200..400)) => return Outcome::Passed,
            Ok(Ok(status)) => {
                return Outcome::Failed(format!("HTTP probe failed with statuscode: {status}"));
            }
            Ok(Err(why)) => why,
            Err(_late) => LATE.to_owned(),
        };
        let scheme = if self.https { "https" } else { "http" };
        let (at, path) = (at(&self.host, self.port), self.path());
        Outcome::Failed(format!("Get \"{scheme}://{at}{path}\": {why}"))
    }

    /// The number of the answer, or why there is none.
    async fn status(&self) -> Result<u16, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| refused(&self.host, self.port, &words(&error)))?;
        let peer = stream.peer_addr().map_err(|error| words(&error))?;
        if !self.https {
            return self.get(stream, peer).await;
        }
        let name = self.header(HOST.as_str()).unwrap_or(&self.host);
        self.get(tls(stream, name, peer.ip()).await?, peer).await
    }

    fn path(&self) -> String {
        match self.path.starts_with('/') {
            true => self.path.clone(),
            false => format!("/{}", self.path),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let named = self.headers.iter().find(|(it, _)| it.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    async fn get(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: SocketAddr,
    ) -> Result<u16, String> {
        let mut request = hyper::Request::get(self.path());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let defaults = [
            (HOST, peer.to_string()),
            (USER_AGENT, "kube-probe/1.36".into()),
            (ACCEPT, "*/*".into()),
        ];
        for (name, value) in defaults {
            if self.header(name.as_str()).is_none() {
                request = request.header(name, value);
            }
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(said)?;
        let driver = tokio::spawn(connection);
        let answer = sender.send_request(request).await;
        driver.abort();
        Ok(answer.map_err(said)?.status().as_u16())
    }
}

/// Why a conversation broke off.
fn said(error: hyper::Error) -> String {
    let source = std::error::Error::source(&error);
    match source.and_then(|source| source.downcast_ref::<std::io::Error>()) {
        Some(broken) => words(broken),
        None if error.is_incomplete_message() || error.is_closed() => "EOF".to_owned(),
        None => error.to_string(),
    }
}

/// Over TLS with whoever is there: a probe asks whether somebody answers, not who it is.
async fn tls(
    stream: TcpStream,
    name: &str,
    address: IpAddr,
) -> Result<TlsStream<TcpStream>, String> {
    tls::to_anybody(stream, name, address).await.map_err(|error| words(&error))
}
