//! Probes by gRPC's health protocol: <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>

use super::{Outcome, at, spelled};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, TE, USER_AGENT};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

const LARGEST_ANSWER: usize = 64 << 10;

/// Asks `grpc.health.v1.Health/Check`.
pub(super) async fn ask(host: &str, port: u16, service: &str, patience: Duration) -> Outcome {
    let (deadline, at) = (Instant::now() + patience, at(host, port));
    let patience = spelled(patience);
    // The kubelet of Kubernetes dials again and again until the time is up.
    let Ok(Ok(stream)) = timeout_at(deadline, TcpStream::connect((host, port))).await else {
        let why = format!("within {patience}: context deadline exceeded");
        return Outcome::Failed(format!("timeout: failed to connect service {at:?} {why}"));
    };
    match timeout_at(deadline, check(stream, &at, service)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => {
            let why = format!("rpc error: code = Unavailable desc = {error}");
            Outcome::Failed(format!("error: health rpc probe failed: {why}"))
        }
        Err(_late) => {
            Outcome::Failed(format!("timeout: health rpc did not complete within {patience}"))
        }
    }
}

type Trouble = Box<dyn std::error::Error + Send + Sync>;

async fn check(stream: TcpStream, at: &str, service: &str) -> Result<Outcome, Trouble> {
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
    let request = hyper::Request::post(format!("http://{at}/grpc.health.v1.Health/Check"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, "kube-probe/1.36")
        .body(Full::new(message(service)))?;
    let driver = tokio::spawn(connection);
    let answer = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, LARGEST_ANSWER).collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let ends = if trailers.contains_key(STATUS) { trailers } else { head.headers };
        Ok::<_, Trouble>(judge(&ends, &body.to_bytes()))
    };
    let outcome = answer.await;
    driver.abort();
    outcome
}

const STATUS: &str = "grpc-status";

/// `ends`: the trailers, or where there is nothing but them, the headers.
fn judge(ends: &HeaderMap, body: &[u8]) -> Outcome {
    let text = |name| ends.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let (code, why) = (text(STATUS), text("grpc-message"));
    match code {
        "0" => serving(body),
        "12" => Outcome::Failed(format!(
            "error: this server does not implement the grpc health protocol \
             (grpc.health.v1.Health): {why}"
        )),
        _ => {
            let name = code.parse().ok().and_then(|code: usize| CODES.get(code));
            let name = name.unwrap_or(&"Unknown");
            let why = format!("rpc error: code = {name} desc = {why}");
            Outcome::Failed(format!("error: health rpc probe failed: {why}"))
        }
    }
}

/// By number: <https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// `HealthCheckResponse {status = 1}`: a status that is left out is the one with number 0.
fn serving(answer: &[u8]) -> Outcome {
    let name = match answer.get(5..).unwrap_or_default() {
        [] | [8, 0] => "UNKNOWN",
        [8, 1] => return Outcome::Passed,
        [8, 2] => "NOT_SERVING",
        _ => "SERVICE_UNKNOWN",
    };
    Outcome::Failed(format!("service unhealthy (responded with {name:?})"))
}

/// `HealthCheckRequest {service = 1}` in protobuf, with gRPC's prefix: not compressed, four bytes of length.
fn message(service: &str) -> Bytes {
    let mut text = Vec::new();
    if !service.is_empty() {
        text.push(1 << 3 | 2);
        let mut length = service.len();
        while length > 0x7f {
            text.push(0x80 | u8::try_from(length & 0x7f).unwrap_or(0));
            length >>= 7;
        }
        text.push(u8::try_from(length).unwrap_or(0));
        text.extend(service.as_bytes());
    }
    let length = u32::try_from(text.len()).unwrap_or(0).to_be_bytes();
    [&[0][..], &length, &text].concat().into()
}
