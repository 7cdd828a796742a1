//! A container's log, read for the API: from its last lines on, with times, and on as it grows.

use crate::kubelet::marks::Marks;
use crate::layout;
use apiserver::containers::{Container, LogOptions};
use bytes::Bytes;
use kernel::directory::Watch;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};

/// Bytes of a log read at once.
const PIECE: usize = 64 << 10;

pub(super) struct Log {
    file: File,
    directory: PathBuf,
    /// Read already, to be sent first.
    begun: Vec<u8>,
    follow: Option<watch::Receiver<bool>>,
    lines: Lines,
}

impl Log {
    pub(super) fn open(container: &Container, options: LogOptions) -> io::Result<Log> {
        let directory = layout::pod_logs(&container.node, &container.namespace, &container.pod);
        // Its name comes from the pod's object, which holds no paths; but see that it is none.
        let mut name = container.name.replace('/', "");
        if options.previous {
            name.push_str(".previous");
        }
        Log::open_in(directory, &name, options)
    }

    fn open_in(directory: PathBuf, name: &str, options: LogOptions) -> io::Result<Log> {
        let LogOptions { follow, since, timestamps, tail_lines, .. } = options;
        let path = directory.join(format!("{name}.log"));
        let file = File::open(&path)?;
        let lines =
            Lines { marks: Marks::of(&path), since, timestamps, start: 0, line: Vec::new() };
        let mut log = Log { file, directory, begun: Vec::new(), follow, lines };
        if let Some(count) = tail_lines {
            log.skip_to_last(count)?;
        }
        Ok(log)
    }

    fn skip_to_last(&mut self, lines: usize) -> io::Result<()> {
        self.file.read_to_end(&mut self.begun)?;
        let text = self.begun.strip_suffix(b"\n").unwrap_or(&self.begun);
        let breaks = text.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
        let start = match lines {
            0 => self.begun.len(),
            lines => breaks.map(|(at, _)| at + 1).nth(lines - 1).unwrap_or(0),
        };
        self.lines.start = start as u64;
        self.begun.drain(..start);
        Ok(())
    }

    pub(super) async fn send(mut self, to: mpsc::Sender<Bytes>) -> io::Result<()> {
        let changes = changes_of(&self.directory)?;
        let mut ended = self.follow.is_none();
        loop {
            let mut piece = std::mem::take(&mut self.begun);
            (&self.file).take(PIECE as u64).read_to_end(&mut piece)?;
            let none = piece.is_empty();
            let shown = if none && ended { self.lines.last() } else { self.lines.whole(piece) };
            if !shown.is_empty() && to.send(shown.into()).await.is_err() || none && ended {
                return Ok(());
            }
            if !none {
                continue;
            }
            tokio::select! {
                () = to.closed() => return Ok(()),
                () = until_ended(&mut self.follow) => ended = true,
                ready = changes.readable() => {
                    ready?.clear_ready();
                    changes.get_ref().drain().map_err(io::Error::other)?;
                }
            }
            ended |= !self.directory.exists();
        }
    }
}

async fn until_ended(follow: &mut Option<watch::Receiver<bool>>) {
    match follow {
        // Who no longer says anything has gone.
        Some(ended) => drop(ended.wait_for(|ended| *ended).await),
        None => std::future::pending().await,
    }
}

#[expect(deprecated, reason = "a Watch keeps its one descriptor for life")]
fn changes_of(directory: &Path) -> io::Result<AsyncFd<Watch>> {
    AsyncFd::new(Watch::new(directory).map_err(io::Error::other)?)
}

/// Which lines are shown, and how.
struct Lines {
    marks: Marks,
    since: Option<i64>,
    timestamps: bool,
    /// Where the line begins that is not whole yet.
    start: u64,
    line: Vec<u8>,
}

impl Lines {
    /// Of what was read next, and what was left before, the whole lines.
    fn whole(&mut self, piece: Vec<u8>) -> Vec<u8> {
        if !self.timestamps && self.since.is_none() {
            return piece;
        }
        self.line.extend(piece);
        let end = self.line.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let rest = self.line.split_off(end);
        let whole = std::mem::replace(&mut self.line, rest);
        self.marks.refresh();
        let mut shown = Vec::new();
        for line in whole.split_inclusive(|byte| *byte == b'\n') {
            self.show(line, &mut shown);
        }
        shown
    }

    /// A line that will not become whole any more.
    fn last(&mut self) -> Vec<u8> {
        let (line, mut shown) = (std::mem::take(&mut self.line), Vec::new());
        if !line.is_empty() {
            self.show(&line, &mut shown);
        }
        shown
    }

    fn show(&mut self, line: &[u8], shown: &mut Vec<u8>) {
        let time = self.marks.time_at(self.start);
        self.start += line.len() as u64;
        if self.since.is_some_and(|since| time < since) {
            return;
        }
        if self.timestamps {
            let time = jiff::Timestamp::from_nanosecond(time.into()).unwrap_or_default();
            shown.extend(time.strftime("%Y-%m-%dT%H:%M:%S%.9fZ ").to_string().into_bytes());
        }
        shown.extend(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A directory with a log of these pieces, each written a second after the one before.
    fn log(name: &str, pieces: &[&str]) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("podway-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("c.log");
        let mut text = String::new();
        for (second, piece) in (1..).zip(pieces) {
            text.push_str(piece);
            Marks::append(&path, second * 1_000_000_000, text.len() as u64).unwrap();
        }
        fs::write(path, text).unwrap();
        directory
    }

    #[tokio::test]
    async fn what_is_asked_for_is_shown() {
        let pieces = ["a\nb\n", "c", "c\nd\n", "e"];
        let directory = log("shown", &pieces);
        let options = |change: fn(&mut LogOptions)| {
            let mut options = LogOptions::default();
            change(&mut options);
            options
        };
        for (options, expected) in [
            (options(|_| {}), "a\nb\ncc\nd\ne"),
            (options(|it| it.tail_lines = Some(2)), "d\ne"),
            (options(|it| it.tail_lines = Some(0)), ""),
            (options(|it| it.since = Some(2_000_000_000)), "cc\nd\ne"),
            (options(|it| it.since = Some(2_500_000_000)), "d\ne"),
            (options(|it| it.since = Some(i64::MAX)), ""),
            (
                options(|it| (it.tail_lines, it.timestamps) = (Some(3), true)),
                "1970-01-01T00:00:02.000000000Z cc\n1970-01-01T00:00:03.000000000Z d\n1970-01-01T00:00:04.000000000Z e",
            ),
        ] {
            let about = format!("{options:?}");
            let log = Log::open_in(directory.clone(), "c", options).unwrap();
            let (sender, mut receiver) = mpsc::channel(100);
            log.send(sender).await.unwrap();
            let mut shown = Vec::new();
            while let Some(piece) = receiver.recv().await {
                shown.extend(piece);
            }
            assert_eq!(String::from_utf8(shown).unwrap(), expected, "{about}");
        }
        fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn a_followed_log_ends_with_its_run() {
        let directory = log("followed", &["a\n"]);
        let (ended, follow) = watch::channel(false);
        let options = LogOptions { follow: Some(follow), ..LogOptions::default() };
        let log = Log::open_in(directory.clone(), "c", options).unwrap();
        let (sender, mut receiver) = mpsc::channel(100);
        let task = tokio::spawn(log.send(sender));
        assert_eq!(receiver.recv().await.unwrap(), "a\n");
        fs::write(directory.join("c.log"), "a\nb").unwrap();
        assert_eq!(receiver.recv().await.unwrap(), "b");
        ended.send_replace(true);
        assert_eq!(receiver.recv().await, None);
        task.await.unwrap().unwrap();
        fs::remove_dir_all(directory).unwrap();
    }
}
