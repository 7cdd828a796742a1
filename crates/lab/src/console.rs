//! Who holds a container's input open: a process beside each container that people can talk to.
//!
//! ```text
//!   supervisor ── frames ──► socket ─┐
//!                                    ├─► pipe or terminal ──► container
//!   log ◄── (of a terminal only) ────┘
//! ```
//!
//! It outlives the kubelet, as the container does, and ends with the container. Its standard files are the listening
//! socket, its end of the pipe or terminal, and the container's log.

pub(crate) mod frame;

use frame::Frame;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

/// The hidden subcommand of `podway` that holds a container's input.
pub const SUBCOMMAND: &str = "lab-console";
/// Octets of a terminal's output read at once.
const PIECE: usize = 32 << 10;

/// What a container wants to be talked to by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// `stdin`: it hears what people say.
    pub input: bool,
    /// `stdinOnce`: its input ends with the first who spoke.
    pub once: bool,
    /// `tty`: input and output are one terminal.
    pub terminal: bool,
}

impl Manner {
    /// A terminal's input ends by a key.
    fn ends_with_guest(self) -> bool {
        self.once && !self.terminal
    }

    /// The words of [`SUBCOMMAND`] that say it.
    pub(crate) fn arguments(self) -> Vec<String> {
        let words = [("--input", self.input), ("--once", self.once), ("--terminal", self.terminal)];
        words.into_iter().filter(|(_, wanted)| *wanted).map(|(word, _)| word.to_owned()).collect()
    }
}

/// Serves until the container has gone. Its standard files are the listener, the container's end and the log.
pub fn run(manner: Manner) -> io::Result<()> {
    let listener = UnixListener::from(copy(io::stdin())?);
    let (end, log) = (copy(io::stdout())?, File::from(copy(io::stderr())?));
    listener.set_nonblocking(true)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = tokio::net::UnixListener::from_std(listener)?;
        match manner.terminal {
            true => hold_terminal(manner, listener, end, log).await,
            false => hold_pipe(manner, listener, end).await,
        }
    })
}

fn copy(file: impl AsFd) -> io::Result<OwnedFd> {
    file.as_fd().try_clone_to_owned()
}

async fn hold_pipe(
    manner: Manner,
    listener: tokio::net::UnixListener,
    end: OwnedFd,
) -> io::Result<()> {
    let (frames, heard) = mpsc::channel(8);
    // A pipe that nobody reads any more is in error.
    let watched = watch_errors(end.try_clone()?)?;
    let end = pipe::Sender::from_owned_fd(end)?;
    tokio::select! {
        ended = watched.ready(Interest::ERROR) => drop(ended?),
        failed = accept(manner, listener, frames) => failed?,
        // Once the input has ended nothing is left to hold.
        () = speak(manner, heard, end, |_| {}) => {}
    }
    Ok(())
}

#[expect(deprecated, reason = "an owned descriptor stays the same for life")]
fn watch_errors(end: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(end, Interest::ERROR)
}

async fn hold_terminal(
    manner: Manner,
    listener: tokio::net::UnixListener,
    front: OwnedFd,
    log: File,
) -> io::Result<()> {
    let (frames, heard) = mpsc::channel(8);
    let own = |end: OwnedFd| tokio::fs::File::from_std(File::from(end));
    let (reader, writer) = (own(front.try_clone()?), own(front.try_clone()?));
    let resize = move |(columns, rows)| {
        // A terminal that cannot be resized stays as it is.
        kernel::terminal::resize(&front, columns, rows).ok();
    };
    tokio::select! {
        () = note(reader, log) => {}
        failed = accept(manner, listener, frames) => failed?,
        () = async { speak(manner, heard, writer, resize).await; std::future::pending().await } => {}
    }
    Ok(())
}

/// Until the end of the output, which is an error where it is a terminal's.
async fn note(mut from: tokio::fs::File, log: File) {
    let mut log = tokio::fs::File::from_std(log);
    let mut piece = vec![0; PIECE];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        // A log that cannot be written must not hold up the container.
        log.write_all(&piece[..length]).await.ok();
        log.flush().await.ok();
    }
}

/// Hears whoever comes, each by itself.
async fn accept(
    manner: Manner,
    listener: tokio::net::UnixListener,
    frames: mpsc::Sender<Frame>,
) -> io::Result<()> {
    loop {
        let (guest, _) = listener.accept().await?;
        let frames = frames.clone();
        tokio::spawn(async move {
            hear(manner, guest, &frames).await;
        });
    }
}

/// Passes on what a guest says; one that has spoken and leaves has said all. One whose end is not the input's hears an
/// octet when he has said all: there is nothing for him to stay for.
async fn hear(manner: Manner, mut guest: UnixStream, frames: &mpsc::Sender<Frame>) {
    let mut speaks = false;
    while let Ok(Some(frame)) = frame::read(&mut guest).await {
        let is_speech = !matches!(frame, Frame::Size(..));
        if is_speech {
            speaks = frame != Frame::End;
        }
        if (manner.input || !is_speech) && frames.send(frame).await.is_err() {
            return;
        }
        if is_speech && !speaks && !manner.ends_with_guest() {
            guest.write_u8(0).await.ok();
            return;
        }
    }
    if speaks {
        // The container may have gone.
        frames.send(Frame::End).await.ok();
    }
}

/// Says it to the container. With a terminal the input ends by a key, not by those who leave.
async fn speak(
    manner: Manner,
    mut heard: mpsc::Receiver<Frame>,
    mut to: impl AsyncWrite + Unpin,
    resize: impl Fn((u16, u16)),
) {
    while let Some(frame) = heard.recv().await {
        match frame {
            Frame::Input(octets) => {
                if to.write_all(&octets).await.is_err() || to.flush().await.is_err() {
                    return;
                }
            }
            Frame::End if manner.ends_with_guest() => return,
            Frame::End => {}
            Frame::Size(columns, rows) => resize((columns, rows)),
        }
    }
}

/// Where the sockets of a pod are: below what its node keeps.
pub(crate) fn directory(root: &Path, uid: &str) -> PathBuf {
    root.join("consoles").join(uid)
}

/// Where a container's socket is.
pub(crate) fn socket(root: &Path, uid: &str, container: &str) -> PathBuf {
    directory(root, uid).join(container.replace('/', ""))
}

/// A path of any length, as addresses of sockets need it: the directory is named by its descriptor.
pub(crate) fn reach<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    use std::os::fd::AsRawFd;
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    let directory = File::open(path.parent().ok_or_else(missing)?)?;
    let within = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string());
    act(&within.join(path.file_name().ok_or_else(missing)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::time::Duration;

    #[test]
    fn paths_may_be_long() {
        let root = std::env::temp_dir().join(format!("podway-{}", std::process::id()));
        let path = socket(&root, &"u".repeat(60), &"c".repeat(60));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let listener = reach(&path, |path| UnixListener::bind(path)).unwrap();
        reach(&path, |path| std::os::unix::net::UnixStream::connect(path)).unwrap();
        drop(listener);
        std::fs::remove_dir_all(root).unwrap();
    }

    /// What a container that is talked to in this manner hears, until its input ends or a while has passed.
    async fn heard(manner: Manner, guests: &[&[Frame]]) -> (String, bool) {
        let path = std::env::temp_dir().join(format!("podway-{:p}-{}", guests, std::process::id()));
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let (mut container, end) = io::pipe().unwrap();
        let holder = tokio::spawn(hold_pipe(manner, listener, end.into()));
        for frames in guests {
            let mut guest = UnixStream::connect(&path).await.unwrap();
            for frame in *frames {
                guest.write_all(&frame.encode()).await.unwrap();
            }
            drop(guest);
        }
        let said: usize = guests
            .iter()
            .flat_map(|frames| *frames)
            .map(|frame| match frame {
                Frame::Input(octets) => octets.len(),
                _ => 0,
            })
            .sum();
        let task = tokio::task::spawn_blocking(move || {
            let mut text = vec![0; said];
            container.read_exact(&mut text).unwrap();
            (String::from_utf8(text).unwrap(), container)
        });
        let (text, mut container) = task.await.unwrap();
        let rest = tokio::task::spawn_blocking(move || container.read(&mut [0]).unwrap());
        let ends = tokio::time::timeout(Duration::from_millis(500), rest).await.is_ok();
        holder.abort();
        std::fs::remove_file(path).unwrap();
        (text, ends)
    }

    #[tokio::test]
    async fn input_goes_on_or_ends_with_the_first_guest() {
        let manner = Manner { input: true, once: false, terminal: false };
        let say = |text: &'static str| Frame::Input(bytes::Bytes::from_static(text.as_bytes()));
        for (once, guests, expected) in [
            (false, &[&[say("a"), Frame::End][..], &[say("b")]][..], ("ab", false)),
            (true, &[&[say("a"), Frame::Size(1, 1), say("b")]], ("ab", true)),
            (true, &[&[Frame::Size(1, 1), say("a"), Frame::End]], ("a", true)),
        ] {
            let (text, ends) = heard(Manner { once, ..manner }, guests).await;
            assert_eq!((&*text, ends), expected, "{guests:?}");
        }
    }

    #[tokio::test]
    async fn the_holder_ends_with_the_container() {
        let path = std::env::temp_dir().join(format!("podway-end-{}", std::process::id()));
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let (container, end) = io::pipe().unwrap();
        let manner = Manner { input: true, once: false, terminal: false };
        let holder = tokio::spawn(hold_pipe(manner, listener, end.into()));
        drop(container);
        tokio::time::timeout(Duration::from_secs(20), holder).await.unwrap().unwrap().unwrap();
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn a_terminal_is_noted_and_heard() {
        let path = std::env::temp_dir().join(format!("podway-tty-{}", std::process::id()));
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let log = path.with_extension("log");
        let kernel::terminal::Terminal { front, back } =
            kernel::terminal::Terminal::open().unwrap();
        let manner = Manner { input: true, once: true, terminal: true };
        let holder =
            tokio::spawn(hold_terminal(manner, listener, front, File::create(&log).unwrap()));
        let mut guest = UnixStream::connect(&path).await.unwrap();
        let frames = [Frame::Size(80, 24), Frame::Input("hi\n".into())];
        for frame in frames {
            guest.write_all(&frame.encode()).await.unwrap();
        }
        drop(guest);
        let container = tokio::task::spawn_blocking(move || {
            let mut back = File::from(back);
            let mut line = [0; 3];
            back.read_exact(&mut line).unwrap();
            back.write_all(b"ho\n").unwrap();
            line
        });
        assert_eq!(&container.await.unwrap(), b"hi\n");
        tokio::time::timeout(Duration::from_secs(20), holder).await.unwrap().unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "hi\r\nho\r\n");
        std::fs::remove_file(path).unwrap();
        std::fs::remove_file(log).unwrap();
    }
}
