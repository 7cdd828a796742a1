//! Logs of containers, and commands in them, for the API.

use super::events::Ends;
use super::exec;
use crate::layout;
use apiserver::containers::{Container, ContainerRequest, LogOptions, Refusal};
use bytes::Bytes;
use kernel::directory::Watch;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// Bytes of a log read at once.
const PIECE: usize = 64 << 10;

/// Does what the API wants of a container; `init` is the first process of its node, if the power is on.
pub(super) async fn serve(request: ContainerRequest, init: Option<u32>, ends: Ends) {
    // Whoever asked may have gone meanwhile.
    match request {
        ContainerRequest::Logs { container, options, reply } => {
            reply.send(logs(&container, options)).ok();
        }
        ContainerRequest::Exec { container, command, terminal, reply } => {
            let session = init.ok_or_else(|| Refusal(format!("node {} is down", container.node)));
            let session =
                session.and_then(|init| exec::start(&container, init, &command, terminal, &ends));
            reply.send(session).ok();
        }
    }
}

fn logs(container: &Container, options: LogOptions) -> Result<mpsc::Receiver<Bytes>, Refusal> {
    let mut log = Log::open(container).map_err(|error| refusal(container, &error))?;
    if let Some(lines) = options.tail_lines {
        log.skip_to_last(lines).map_err(|error| refusal(container, &error))?;
    }
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        if let Err(error) = log.send(options.follow, sender).await {
            tracing::warn!(%error, "a log cannot be read any more");
        }
    });
    Ok(receiver)
}

fn refusal(container: &Container, error: &dyn std::fmt::Display) -> Refusal {
    let Container { namespace, pod, name, .. } = container;
    Refusal(format!("the log of {namespace}/{pod}/{name}: {error}"))
}

struct Log {
    file: File,
    directory: PathBuf,
    /// Read already, to be sent first.
    begun: Vec<u8>,
}

impl Log {
    fn open(container: &Container) -> io::Result<Log> {
        let directory = layout::pod_logs(&container.node, &container.namespace, &container.pod);
        // Its name comes from the pod's object, which holds no paths; but see that it is none.
        let name = container.name.replace('/', "");
        let file = File::open(directory.join(format!("{name}.log")))?;
        Ok(Log { file, directory, begun: Vec::new() })
    }

    fn skip_to_last(&mut self, lines: usize) -> io::Result<()> {
        self.file.read_to_end(&mut self.begun)?;
        let text = self.begun.strip_suffix(b"\n").unwrap_or(&self.begun);
        let breaks = text.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
        let start = match lines {
            0 => self.begun.len(),
            lines => breaks.map(|(at, _)| at + 1).nth(lines - 1).unwrap_or(0),
        };
        self.begun.drain(..start);
        Ok(())
    }

    async fn send(mut self, follow: bool, to: mpsc::Sender<Bytes>) -> io::Result<()> {
        let changes = changes_of(&self.directory)?;
        loop {
            let mut piece = std::mem::take(&mut self.begun);
            (&self.file).take(PIECE as u64).read_to_end(&mut piece)?;
            let ended = piece.is_empty();
            if !ended && to.send(piece.into()).await.is_err() || ended && !follow {
                return Ok(());
            }
            if !ended {
                continue;
            }
            tokio::select! {
                () = to.closed() => return Ok(()),
                ready = changes.readable() => {
                    ready?.clear_ready();
                    changes.get_ref().drain().map_err(io::Error::other)?;
                }
            }
            if !self.directory.exists() {
                return Ok(());
            }
        }
    }
}

#[expect(deprecated, reason = "a Watch keeps its one descriptor for life")]
fn changes_of(directory: &Path) -> io::Result<AsyncFd<Watch>> {
    AsyncFd::new(Watch::new(directory).map_err(io::Error::other)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_last_lines() {
        let directory = std::env::temp_dir().join(format!("podway-tail-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        for (text, lines, left) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 1, "c"),
            ("a\nb\n", 9, "a\nb\n"),
            ("a\n", 0, ""),
            ("", 3, ""),
        ] {
            let path = directory.join("c.log");
            fs::write(&path, text).unwrap();
            let file = File::open(&path).unwrap();
            let mut log = Log { file, directory: directory.clone(), begun: Vec::new() };
            log.skip_to_last(lines).unwrap();
            assert_eq!(String::from_utf8(log.begun).unwrap(), left);
        }
        fs::remove_dir_all(directory).unwrap();
    }
}
