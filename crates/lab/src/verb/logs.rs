//! `podway lab logs`

use super::Running;
use crate::message::{Answer, Request};
use crate::{Error, Result, Target, layout};
use kernel::directory::Watch;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Writes the logs of a target to `out`: of a node's programs, of a pod's containers, or, without a target, of the
/// supervisor. A line begins with the name of what wrote it where there are several.
///
/// With `follow` it goes on with what is added, to the end of the lab.
pub fn logs(name: &str, target: Option<&Target>, follow: bool, out: &mut dyn Write) -> Result<()> {
    let lab = Running::find(name)?;
    let directory = directory(&lab, target)?;
    let changes = Watch::new(&directory)?;
    let mut tails = Tails { directory, several: target.is_some(), files: BTreeMap::new() };
    tails.pass(out).map_err(Error::Printed)?;
    while follow && changes.wait(&lab.supervisor)? {
        tails.pass(out).map_err(Error::Printed)?;
    }
    Ok(())
}

fn directory(lab: &Running, target: Option<&Target>) -> Result<PathBuf> {
    let inside = match target {
        None => return Ok(lab.slot.directory.clone()),
        Some(Target::Node(node)) => layout::node_logs(node),
        Some(target @ Target::Pod { namespace, name }) => {
            let Answer::Place(place) = lab.ask(&Request::Locate(target.clone()))? else {
                return Err(lab.strange());
            };
            layout::pod_logs(&place.node.unwrap_or_default(), namespace, name)
        }
        Some(Target::Client | Target::Underlay) => PathBuf::new(),
    };
    match (lab.path(&inside), target) {
        (path, _) if path.is_dir() && !inside.as_os_str().is_empty() => Ok(path),
        (_, Some(target)) => Err(Error::NoLogs { target: target.clone() }),
        (path, None) => Ok(path),
    }
}

/// The log files of a directory, each read up to somewhere.
struct Tails {
    directory: PathBuf,
    several: bool,
    files: BTreeMap<PathBuf, Tail>,
}

struct Tail {
    file: File,
    /// The begin of a line whose end is not written yet.
    begun: Vec<u8>,
}

impl Tails {
    /// Writes the whole lines that were added since the last call.
    fn pass(&mut self, out: &mut dyn Write) -> io::Result<()> {
        for path in logs_in(&self.directory)? {
            if let Entry::Vacant(new) = self.files.entry(path) {
                let file = File::open(new.key())?;
                new.insert(Tail { file, begun: Vec::new() });
            }
        }
        for (path, tail) in &mut self.files {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            for line in tail.lines()? {
                if self.several {
                    write!(out, "{name}: ")?;
                }
                out.write_all(&line)?;
            }
        }
        out.flush()
    }
}

impl Tail {
    fn lines(&mut self) -> io::Result<Vec<Vec<u8>>> {
        self.file.read_to_end(&mut self.begun)?;
        let end = self.begun.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let rest = self.begun.split_off(end);
        let whole = std::mem::replace(&mut self.begun, rest);
        Ok(whole.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect())
    }
}

fn logs_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    let paths = entries.into_iter().map(|entry| entry.path());
    Ok(paths.filter(|path| path.extension().is_some_and(|it| it == "log")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_and_once() {
        let directory = std::env::temp_dir().join(format!("podway-logs-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let file = |name: &str| {
            File::options().create(true).append(true).open(directory.join(name)).unwrap()
        };
        let (mut agent, mut edge) = (file("agent.log"), file("edge.log"));
        let mut tails =
            Tails { directory: directory.clone(), several: true, files: BTreeMap::new() };
        let mut pass = || {
            let mut out = Vec::new();
            tails.pass(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        agent.write_all(b"one\ntw").unwrap();
        edge.write_all(b"1\n").unwrap();
        assert_eq!(pass(), "agent: one\nedge: 1\n");
        agent.write_all(b"o\n").unwrap();
        file("more.log").write_all(b"x\n").unwrap();
        assert_eq!(pass(), "agent: two\nmore: x\n");
        assert_eq!(pass(), "");
        fs::remove_dir_all(directory).unwrap();
    }
}
