//! Responses: a whole body or one that streams.

use super::accept::Medium;
use super::metrics::UnderWay;
use crate::error::Error;
use crate::protobuf;
use crate::yaml;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde_json::Value;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

pub(super) type Response = hyper::Response<Either<Full<Bytes>, Stream>>;

const JSON: &str = "application/json";

/// What a request is answered with.
#[derive(Debug)]
pub(super) struct Reply {
    code: u16,
    media: String,
    warnings: Vec<String>,
    body: Either<Bytes, Stream>,
}

impl Reply {
    pub(super) fn json(value: &Value) -> Self {
        Self::bytes(value.to_string().into())
    }

    /// JSON that is encoded already.
    pub(super) fn bytes(body: Bytes) -> Self {
        let (media, warnings) = (JSON.to_owned(), Vec::new());
        Self { code: 200, media, warnings, body: Either::Left(body) }
    }

    pub(super) fn text(text: &'static str) -> Self {
        Self::bytes(Bytes::from_static(text.as_bytes())).media("text/plain; charset=utf-8")
    }

    pub(super) fn error(error: &Error) -> Self {
        let reply = match error {
            Error::NoPage => Self::text("404 page not found\n"),
            _ => Self::json(&error.status()),
        };
        reply.code(error.code())
    }

    /// A body that comes in pieces.
    pub(super) fn stream(pieces: Stream) -> Self {
        let (media, warnings) = (JSON.to_owned(), Vec::new());
        Self { code: 200, media, warnings, body: Either::Right(pieces) }
    }

    /// JSON in another medium; all else is what it is.
    pub(super) fn written(self, medium: Medium) -> Result<Self, Error> {
        let Either::Left(json) = &self.body else { return Ok(self) };
        let body = match medium {
            _ if self.media != JSON => return Ok(self),
            Medium::Json => return Ok(self),
            Medium::Yaml => {
                serde_json::from_slice(json).map(|it| yaml::text(&it)).map_err(internal)?.into()
            }
            Medium::Protobuf => protobuf::encode(json).map_err(internal)?,
        };
        Ok(Self { body: Either::Left(body), media: medium.essence().to_owned(), ..self })
    }

    pub(super) fn code(self, code: u16) -> Self {
        Self { code, ..self }
    }

    pub(super) fn media(self, media: &str) -> Self {
        Self { media: media.to_owned(), ..self }
    }

    /// Sentences that `kubectl` prints beside the result (RFC 7234 §5.5).
    pub(super) fn warn(self, warnings: Vec<String>) -> Self {
        Self { warnings, ..self }
    }

    pub(super) fn into_response(self) -> Response {
        let body = match self.body {
            Either::Left(whole) => Either::Left(Full::new(whole)),
            Either::Right(stream) => Either::Right(stream),
        };
        let mut response = hyper::Response::new(body);
        *response.status_mut() = self.code.try_into().expect("codes are between 200 and 507");
        let media = HeaderValue::try_from(self.media).unwrap_or(HeaderValue::from_static(JSON));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, media);
        for warning in self.warnings {
            if let Ok(value) = HeaderValue::try_from(format!("299 - {warning:?}")) {
                headers.append("warning", value);
            }
        }
        headers.insert("cache-control", HeaderValue::from_static("no-cache, private"));
        response
    }
}

/// A response whose request is counted as answered when all of it is sent.
pub(super) fn counted(mut response: Response, under_way: Option<UnderWay>) -> Response {
    let under_way = under_way.map(|it| it.answered(response.status().as_u16()));
    if let Either::Right(stream) = response.body_mut() {
        stream.under_way = under_way;
    }
    response
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::Internal { message: error.to_string() }
}

/// A body that arrives in pieces.
#[derive(Debug)]
pub(super) struct Stream {
    pieces: mpsc::Receiver<Bytes>,
    /// Bytes that may still come.
    left: usize,
    under_way: Option<UnderWay>,
}

impl Stream {
    /// All that comes.
    pub(super) fn of(pieces: mpsc::Receiver<Bytes>) -> Self {
        Self::up_to(None, pieces)
    }

    /// So many bytes at most.
    pub(super) fn up_to(limit: Option<usize>, pieces: mpsc::Receiver<Bytes>) -> Self {
        Self { pieces, left: limit.unwrap_or(usize::MAX), under_way: None }
    }
}

impl Stream {
    /// The next piece; none: there are no more.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut *self).poll_frame(cx)).await?;
        frame.ok()?.into_data().ok()
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let stream = self.get_mut();
        if stream.left == 0 {
            return Poll::Ready(None);
        }
        stream.pieces.poll_recv(cx).map(|piece| {
            piece.map(|mut piece| {
                piece.truncate(stream.left);
                stream.left -= piece.len();
                Ok(Frame::data(piece))
            })
        })
    }
}
