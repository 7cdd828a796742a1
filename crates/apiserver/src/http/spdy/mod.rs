//! Streams over one connection (SPDY/3.1): what kubectl's port-forward speaks, and what older clients exec with.
//!
//! ```text
//! connection ─► reader ─► streams as the client opens them ─► whoever serves them
//!            ◄─ writer ◄─ frames ◄──────────────────────────────┘
//! ```
//!
//! There is no flow control: Kubernetes' clients have none either.

mod frame;

use bytes::Bytes;
use frame::{Frame, Reader, Writer};
use std::collections::BTreeMap;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tracing::debug;

/// A stream that the client opened.
#[derive(Debug)]
pub(super) struct Stream {
    headers: Vec<(String, String)>,
    /// Ends where the client has no more to say.
    pub(super) input: mpsc::Receiver<Bytes>,
    pub(super) output: Output,
}

impl Stream {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Our half of a stream.
#[derive(Debug, Clone)]
pub(super) struct Output {
    stream: u32,
    orders: mpsc::Sender<Order>,
}

impl Output {
    /// False: the connection is gone.
    pub(super) async fn send(&self, bytes: Bytes) -> bool {
        self.order(bytes, false).await
    }

    /// Nothing follows.
    pub(super) async fn close(&self) {
        self.order(Bytes::new(), true).await;
    }

    async fn order(&self, bytes: Bytes, last: bool) -> bool {
        self.orders.send(Order::Data { stream: self.stream, bytes, last }).await.is_ok()
    }
}

#[derive(Debug)]
enum Order {
    Accept(u32),
    Data { stream: u32, bytes: Bytes, last: bool },
    Pong(u32),
}

/// Serves a connection until either side ends it; the streams come out as they are opened.
pub(super) fn serve(
    connection: impl AsyncRead + AsyncWrite + Send + 'static,
) -> mpsc::Receiver<Stream> {
    let (from, to) = tokio::io::split(connection);
    let (orders, ordered) = mpsc::channel(16);
    let (opened, streams) = mpsc::channel(16);
    tokio::spawn(write(to, ordered));
    tokio::spawn(read(from, orders, opened));
    streams
}

async fn write(mut to: impl AsyncWrite + Unpin, mut orders: mpsc::Receiver<Order>) {
    let mut writer = Writer::default();
    while let Some(order) = orders.recv().await {
        let frame = match order {
            Order::Accept(stream) => writer.reply(stream),
            Order::Data { stream, bytes, last } => writer.data(stream, last, &bytes),
            Order::Pong(id) => writer.ping(id),
        };
        let written = to.write_all(&frame).await;
        if written.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    // The other side may have gone first.
    to.shutdown().await.ok();
}

async fn read(
    mut from: impl AsyncRead + Unpin,
    orders: mpsc::Sender<Order>,
    opened: mpsc::Sender<Stream>,
) {
    let mut reader = Reader::new();
    let mut inputs: BTreeMap<u32, mpsc::Sender<Bytes>> = BTreeMap::new();
    loop {
        match reader.next() {
            Ok(Some(frame)) => {
                if !take(frame, &mut inputs, &orders, &opened).await {
                    return;
                }
            }
            Ok(None) => {
                if !matches!(from.read_buf(reader.buffer()).await, Ok(1..)) {
                    return;
                }
            }
            Err(fault) => return debug!(%fault, "a connection ends"),
        }
    }
}

/// False: the connection shall end.
async fn take(
    frame: Frame,
    inputs: &mut BTreeMap<u32, mpsc::Sender<Bytes>>,
    orders: &mpsc::Sender<Order>,
    opened: &mpsc::Sender<Stream>,
) -> bool {
    match frame {
        Frame::Open { stream, last, headers } => {
            let (to, input) = mpsc::channel(16);
            if !last {
                inputs.insert(stream, to);
            }
            let output = Output { stream, orders: orders.clone() };
            orders.send(Order::Accept(stream)).await.is_ok()
                && opened.send(Stream { headers, input, output }).await.is_ok()
        }
        Frame::Data { stream, last, bytes } => {
            if let Some(to) = inputs.get(&stream).filter(|_| !bytes.is_empty()) {
                // One that nobody reads any more is of no interest.
                to.send(bytes).await.ok();
            }
            if last {
                inputs.remove(&stream);
            }
            true
        }
        Frame::Reset { stream } => {
            inputs.remove(&stream);
            true
        }
        // Odd numbers are the client's.
        Frame::Ping { id } if id % 2 == 1 => orders.send(Order::Pong(id)).await.is_ok(),
        Frame::Ping { .. } | Frame::Goodbye | Frame::Other => true,
    }
}
