//! Talking to a container: its log as it grows, and what people say to it.

use super::containers::logs;
use crate::console::frame::{Frame, LONGEST};
use crate::console::{reach, socket};
use crate::layout;
use apiserver::containers::{Container, LogOptions, Output, Refusal, Session};
use bytes::Bytes;
use std::io;
use std::path::PathBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{mpsc, oneshot, watch};

/// `talks`: the client has something to say.
pub(super) fn start(
    container: &Container,
    talks: bool,
    ended: watch::Receiver<bool>,
) -> Result<Session, Refusal> {
    let (follow, tail_lines) = (Some(ended), Some(0));
    let mut pieces = logs(container, LogOptions { follow, tail_lines, ..LogOptions::default() })?;
    let (input, inputs) = mpsc::channel(8);
    let (outputs, output) = mpsc::channel(8);
    let (size, sizes) = mpsc::channel(8);
    let (told, end) = oneshot::channel();
    let socket = socket(&layout::node_root(&container.node), &container.uid, &container.name);
    let (done, left) = oneshot::channel();
    tokio::spawn(speak(socket, talks, (inputs, sizes), done));
    tokio::spawn(async move {
        let mut left = std::pin::pin!(until_left(left));
        loop {
            let piece = tokio::select! {
                piece = pieces.recv() => piece,
                () = &mut left => None,
            };
            let Some(piece) = piece else { break };
            if outputs.send((Output::Standard, piece)).await.is_err() {
                return;
            }
        }
        // Whoever listened may have gone.
        told.send(0).ok();
    });
    Ok(Session { input, output, size, end })
}

/// Who only stops to speak does not leave.
async fn until_left(left: oneshot::Receiver<()>) {
    if left.await.is_err() {
        std::future::pending::<()>().await;
    }
}

type Ways = (mpsc::Receiver<Bytes>, mpsc::Receiver<(u16, u16)>);

/// Until the client has gone, or has said all to a container that goes on to listen to others: then he is `done`. A
/// container that is not made to be talked to hears nothing.
async fn speak(
    socket: PathBuf,
    talks: bool,
    (mut inputs, mut sizes): Ways,
    done: oneshot::Sender<()>,
) {
    let (mut answer, mut console) = match connect(socket) {
        Ok(console) => {
            let (answer, console) = console.into_split();
            (Some(answer), Some(console))
        }
        Err(_nobody) => (None, None),
    };
    let (mut speaks, mut resizes) = (true, true);
    while speaks || resizes {
        let frames = tokio::select! {
            piece = inputs.recv(), if speaks => {
                speaks = piece.is_some();
                match piece {
                    _ if !talks => Vec::new(),
                    Some(piece) => pieces(&piece),
                    None => vec![Frame::End],
                }
            }
            answer = heard(&mut answer) => {
                if answer {
                    done.send(()).ok();
                }
                return;
            }
            size = sizes.recv(), if resizes => {
                resizes = size.is_some();
                size.map(|(columns, rows)| Frame::Size(columns, rows)).into_iter().collect()
            }
        };
        for frame in frames {
            if let Some(to) = &mut console
                && to.write_all(&frame.encode()).await.is_err()
            {
                console = None;
            }
        }
    }
}

fn pieces(input: &Bytes) -> Vec<Frame> {
    input.chunks(LONGEST).map(|piece| Frame::Input(input.slice_ref(piece))).collect()
}

/// Whether the console says that all is said, before it goes. Without one, never.
async fn heard(answer: &mut Option<OwnedReadHalf>) -> bool {
    match answer {
        Some(answer) => answer.read_u8().await.is_ok(),
        None => std::future::pending().await,
    }
}

fn connect(socket: PathBuf) -> io::Result<UnixStream> {
    let connected = reach(&socket, |path| std::os::unix::net::UnixStream::connect(path))?;
    connected.set_nonblocking(true)?;
    UnixStream::from_std(connected)
}
