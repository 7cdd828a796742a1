//! When a log grew: containers write their logs themselves, so the kubelet notes beside each how long it was when.
//!
//! `NAME.times` beside `NAME.log` is a list of marks of 16 bytes: nanoseconds since 1970 and a length, little-endian.
//! A line is as old as the first mark beyond its begin.

use kernel::directory::Watch;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const SIZE: usize = 16;

/// The marks of one log.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    file: PathBuf,
    /// Lengths and times, both growing.
    marks: Vec<(u64, i64)>,
}

impl Marks {
    /// Of a log `NAME.log`.
    pub(crate) fn of(log: &Path) -> Marks {
        let mut marks = Marks { file: log.with_extension("times"), marks: Vec::new() };
        marks.refresh();
        marks
    }

    /// Reads them again. Those that cannot be read are as good as none.
    pub(crate) fn refresh(&mut self) {
        let bytes = fs::read(&self.file).unwrap_or_default();
        let mark = |mark: &[u8]| {
            let (time, length) = mark.split_first_chunk()?;
            Some((u64::from_le_bytes(length.try_into().ok()?), i64::from_le_bytes(*time)))
        };
        self.marks = bytes.chunks_exact(SIZE).filter_map(mark).collect();
    }

    /// When the byte at this place was written, in nanoseconds since 1970; now, where that is not noted yet.
    pub(crate) fn time_at(&self, place: u64) -> i64 {
        let at = self.marks.partition_point(|(length, _)| *length <= place);
        self.marks.get(at).map_or_else(now, |(_, time)| *time)
    }

    pub(crate) fn append(log: &Path, time: i64, length: u64) -> io::Result<()> {
        let mut file =
            File::options().create(true).append(true).open(log.with_extension("times"))?;
        file.write_all(&[time.to_le_bytes(), length.to_le_bytes()].concat())
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Marks the logs of a directory as they grow, until it is dropped.
pub(super) async fn keep(directory: PathBuf) {
    let kept = async {
        fs::create_dir_all(&directory)?;
        let changes =
            super::container::until_readable(Watch::new(&directory).map_err(io::Error::other)?)?;
        let mut lengths = BTreeMap::new();
        loop {
            mark_all(&directory, &mut lengths)?;
            changes.readable().await?.clear_ready();
            changes.get_ref().drain().map_err(io::Error::other)?;
        }
    };
    let ended: io::Result<()> = kept.await;
    if let Err(error) = ended {
        tracing::warn!(directory = %directory.display(), %error, "lines of logs have no times");
    }
}

fn mark_all(directory: &Path, lengths: &mut BTreeMap<PathBuf, u64>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|it| it != "log") {
            continue;
        }
        // One that was just moved away has its marks.
        let Ok(length) = fs::metadata(&path).map(|it| it.len()) else { continue };
        let known = match lengths.get(&path) {
            Some(known) => *known,
            // A kubelet before this one may have marked it.
            None => Marks::of(&path).marks.last().map_or(0, |(length, _)| *length),
        };
        if length > known {
            Marks::append(&path, now(), length)?;
        }
        lengths.insert(path, length);
    }
    Ok(())
}

/// The log of the run before makes room for that of the next.
pub(super) fn turn(log: &Path) -> io::Result<()> {
    for path in [log.to_owned(), log.with_extension("times")] {
        let (Some(name), Some(kind)) = (path.file_stem(), path.extension()) else { continue };
        let mut previous = name.to_owned();
        previous.push(".previous.");
        previous.push(kind);
        match fs::rename(&path, path.with_file_name(previous)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_as_old_as_the_first_mark_beyond_it() {
        let directory = std::env::temp_dir().join(format!("podway-marks-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let log = directory.join("c.log");
        for (time, length) in [(10, 4), (20, 9)] {
            Marks::append(&log, time, length).unwrap();
        }
        let marks = Marks::of(&log);
        for (place, time) in [(0, 10), (3, 10), (4, 20), (8, 20)] {
            assert_eq!(marks.time_at(place), time, "{place}");
        }
        assert!(marks.time_at(9) > 1_000_000_000, "not noted yet");
        fs::write(&log, "x").unwrap();
        turn(&log).unwrap();
        assert_eq!(Marks::of(&log).marks, []);
        assert_eq!(Marks::of(&directory.join("c.previous.log")).time_at(0), 10);
        turn(&log).unwrap();
        fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn a_log_that_grows_is_marked() {
        let directory = std::env::temp_dir().join(format!("podway-growing-{}", std::process::id()));
        let task = tokio::spawn(keep(directory.clone()));
        let log = directory.join("c.log");
        let grow = |file: &mut File| file.write_all(b"line\n").unwrap();
        let marked = async {
            while Marks::of(&log).marks.len() < 2 {
                // The directory is made by the other side.
                let file = File::options().create(true).append(true).open(&log);
                file.ok().iter_mut().for_each(grow);
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), marked).await.unwrap();
        let length = fs::metadata(&log).unwrap().len();
        assert!(Marks::of(&log).marks.iter().all(|(marked, _)| *marked <= length));
        task.abort();
        fs::remove_dir_all(directory).unwrap();
    }
}
