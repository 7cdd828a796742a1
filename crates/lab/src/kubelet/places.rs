//! Where a container finds its mounts, though the machine may have no such place: the nearest directory that is there
//! gets a double in the lab's own `/run`, which holds all that the directory does and what is missing, and shows
//! instead of it. Nothing is written elsewhere. What a container adds to a double, commands in it see, too.
//!
//! ```text
//!   mounts ──► plan: steps (pure) ──► make: doubles ──► binds, which the new process does one after the other
//! ```

use crate::layout;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

/// Links that one path may lead through, as with the kernel.
const LINKS: usize = 40;

/// What of a container's files is its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mounts {
    /// What shows, and where.
    pub(crate) wanted: Vec<(PathBuf, PathBuf)>,
    /// Where its doubles are.
    pub(crate) doubles: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Directory,
    File,
}

/// What there is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Is(Sort),
    Link(PathBuf),
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// In a directory that is the lab's own.
    Make(PathBuf, Sort),
    Double {
        of: PathBuf,
        /// Where its entries are, before anything shows at another place.
        source: PathBuf,
        /// Relative to it.
        missing: Vec<(PathBuf, Sort)>,
    },
    Bind(PathBuf, PathBuf),
}

impl Mounts {
    /// Makes the places, for [`kernel::spawn::Place::binds`]. What cannot be where it should, a directory where there
    /// is a file for example, is left out.
    pub(crate) fn binds(&self) -> kernel::Result<Vec<(PathBuf, PathBuf)>> {
        let sorted =
            |(from, to): &(PathBuf, PathBuf)| Some((from.clone(), to.clone(), sort(from)?));
        let wanted: Vec<_> = self.wanted.iter().filter_map(sorted).collect();
        let mut binds = Vec::new();
        for step in plan(wanted, look) {
            let path = match &step {
                Step::Make(path, _) | Step::Double { of: path, .. } | Step::Bind(_, path) => path,
            };
            let operation = "make a place for a volume at";
            let failed = |source| kernel::Error::File { operation, path: path.clone(), source };
            binds.extend(self.make(&step).map_err(failed)?);
        }
        Ok(binds)
    }

    fn make(&self, step: &Step) -> io::Result<Vec<(PathBuf, PathBuf)>> {
        match step {
            Step::Make(path, sort) => make(path, *sort).map(|()| Vec::new()),
            Step::Bind(from, to) => Ok(vec![(from.clone(), to.clone())]),
            Step::Double { of, source, missing } => {
                let name = of.to_string_lossy().replace('%', "%25").replace('/', "%2F");
                let double = self.doubles.join(name);
                let mut binds = fill(&double, of, source)?;
                for (path, sort) in missing {
                    make(&double.join(path), *sort)?;
                }
                binds.push((double, of.clone()));
                Ok(binds)
            }
        }
    }
}

/// Parents come before what is below them, whatever the order of the mounts.
fn plan(mut mounts: Vec<(PathBuf, PathBuf, Sort)>, look: impl Fn(&Path) -> Seen) -> Vec<Step> {
    mounts.sort_by_key(|(_, to, _)| to.components().count());
    let mut steps = Vec::new();
    let mut shown = Vec::new();
    for (from, to, sort) in mounts {
        let Some((place, nearest)) = resolve(&to, |path| look(&real(&shown, path))) else {
            continue;
        };
        if place == Path::new("/") {
            continue;
        }
        match nearest {
            None if look(&real(&shown, &place)) != Seen::Is(sort) => continue,
            None => {}
            Some(nearest) => make_room(&mut steps, &shown, &place, nearest, sort),
        }
        steps.push(Step::Bind(from.clone(), place.clone()));
        shown.push((from, place));
    }
    steps
}

fn make_room(
    steps: &mut Vec<Step>,
    shown: &[(PathBuf, PathBuf)],
    place: &Path,
    nearest: PathBuf,
    sort: Sort,
) {
    let source = real(shown, &nearest);
    if is_own(&source) {
        return steps.push(Step::Make(real(shown, place), sort));
    }
    let rest = place.strip_prefix(&nearest).unwrap_or(place).to_owned();
    let known = steps.iter_mut().find_map(|step| match step {
        Step::Double { of, missing, .. } if *of == nearest => Some(missing),
        _ => None,
    });
    match known {
        Some(missing) => missing.push((rest, sort)),
        None => steps.push(Step::Double { of: nearest, source, missing: vec![(rest, sort)] }),
    }
}

/// Where that is which shows at a path.
fn real(shown: &[(PathBuf, PathBuf)], path: &Path) -> PathBuf {
    let mut within = shown.iter().rev();
    match within.find_map(|(from, to)| Some((from, path.strip_prefix(to).ok()?))) {
        Some((from, rest)) if rest.as_os_str().is_empty() => from.clone(),
        Some((from, rest)) => from.join(rest),
        None => path.to_owned(),
    }
}

/// The place without links and `..`; and where it is not there, the nearest directory above that is.
/// None: there is no such directory, or the links have no end.
fn resolve(path: &Path, look: impl Fn(&Path) -> Seen) -> Option<(PathBuf, Option<PathBuf>)> {
    let reversed = |path: &Path| -> Vec<PathBuf> {
        path.components().rev().map(|part| PathBuf::from(part.as_os_str())).collect()
    };
    let (mut place, mut nearest, mut links) = (PathBuf::from("/"), None, 0);
    let mut left = reversed(path);
    while let Some(part) = left.pop() {
        match part.components().next()? {
            Component::ParentDir => {
                place.pop();
                nearest = nearest.filter(|it| *it != place);
            }
            Component::Normal(_) => match look(&place.join(&part)) {
                Seen::Link(target) => {
                    left.extend(reversed(&target));
                    links += 1;
                }
                Seen::Nothing => {
                    nearest.get_or_insert_with(|| place.clone());
                    place.push(part);
                }
                Seen::Is(Sort::File) if !left.is_empty() => return None,
                // Also what shows in a directory that has to be made.
                Seen::Is(_) => {
                    nearest = None;
                    place.push(part);
                }
            },
            Component::RootDir => place = PathBuf::from("/"),
            _ => {}
        }
        if links > LINKS {
            return None;
        }
    }
    Some((place, nearest))
}

fn is_own(path: &Path) -> bool {
    path.starts_with(layout::RUN)
}

fn look(path: &Path) -> Seen {
    match fs::symlink_metadata(path) {
        Err(_) => Seen::Nothing,
        Ok(it) if it.is_symlink() => fs::read_link(path).map_or(Seen::Nothing, Seen::Link),
        Ok(it) => Seen::Is(if it.is_dir() { Sort::Directory } else { Sort::File }),
    }
}

/// What is to show.
fn sort(from: &Path) -> Option<Sort> {
    let metadata = fs::metadata(from).ok()?;
    Some(if metadata.is_dir() { Sort::Directory } else { Sort::File })
}

fn make(path: &Path, sort: Sort) -> io::Result<()> {
    match sort {
        Sort::Directory => fs::create_dir_all(path),
        Sort::File => {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::File::options().create(true).append(true).open(path).map(drop)
        }
    }
}

/// Gives a double an entry for each of the directory's, and tells what is to show there.
fn fill(double: &Path, of: &Path, source: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    fs::create_dir_all(double)?;
    fs::set_permissions(double, fs::metadata(source)?.permissions())?;
    // One that may be entered and not read has nothing that could be listed.
    let entries = fs::read_dir(source).into_iter().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    // The double is below `/run`, which so shows without what the double already holds.
    names.sort_by_key(|name| name != "run");
    let mut binds = Vec::new();
    for name in names {
        let entry = double.join(&name);
        match look(&source.join(&name)) {
            Seen::Link(target) => match symlink(target, &entry) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            },
            Seen::Is(sort) => {
                make(&entry, sort)?;
                binds.push((of.join(&name), entry));
            }
            // It has gone meanwhile.
            Seen::Nothing => {}
        }
    }
    Ok(binds)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with few files.
    fn machine(path: &Path) -> Seen {
        match path.to_str().unwrap() {
            "/" | "/etc" | "/run" | "/var" | "/srv" | "/srv/a" | "/run/v" | "/run/x" => {
                Seen::Is(Sort::Directory)
            }
            "/etc/hosts" => Seen::Is(Sort::File),
            "/var/run" => Seen::Link("/run".into()),
            "/etc/resolv.conf" => Seen::Link("../run/resolved/conf".into()),
            "/loop" => Seen::Link("loop".into()),
            _ => Seen::Nothing,
        }
    }

    fn text(step: Step) -> String {
        let mark = |sort| if sort == Sort::Directory { "/" } else { "" };
        match step {
            Step::Make(path, sort) => format!("make {}{}", path.display(), mark(sort)),
            Step::Bind(from, to) => format!("{} at {}", from.display(), to.display()),
            Step::Double { of, source, missing } => {
                let missing = missing.iter();
                let missing = missing.map(|(it, sort)| format!("{}{}", it.display(), mark(*sort)));
                let missing = missing.collect::<Vec<_>>().join(" ");
                format!("{} from {} with {missing}", of.display(), source.display())
            }
        }
    }

    #[test]
    fn places_that_have_to_be_made() {
        use Sort::{Directory, File};
        type Row<'a> = (&'a [(&'a str, &'a str, Sort)], &'a [&'a str]);
        let rows: [Row<'_>; 15] = [
            (&[("/run/v", "/etc", Directory)], &["/run/v at /etc"]),
            (&[("/run/h", "/etc/hosts", File)], &["/run/h at /etc/hosts"]),
            (&[("/run/v", "/etc/hosts", Directory)], &[]),
            (&[("/run/v", "/etc/hosts/x", Directory)], &[]),
            (&[("/run/v", "/", Directory)], &[]),
            (&[("/run/v", "/loop/x", Directory)], &[]),
            (&[("/run/v", "/a/b", Directory)], &["/ from / with a/b/", "/run/v at /a/b"]),
            (&[("/run/v", "/etc/../a", Directory)], &["/ from / with a/", "/run/v at /a"]),
            (&[("/run/f", "/etc/a/f", File)], &["/etc from /etc with a/f", "/run/f at /etc/a/f"]),
            (&[("/run/v", "/var/run/a/b", Directory)], &["make /run/a/b/", "/run/v at /run/a/b"]),
            (
                &[("/run/f", "/etc/resolv.conf", File)],
                &["make /run/resolved/conf", "/run/f at /run/resolved/conf"],
            ),
            (
                &[
                    ("/run/w", "/a/c", Directory),
                    ("/run/x", "/a", Directory),
                    ("/run/y", "/d", Directory),
                ],
                &[
                    "/ from / with a/ d/",
                    "/run/x at /a",
                    "/run/y at /d",
                    "make /run/x/c/",
                    "/run/w at /a/c",
                ],
            ),
            (
                &[
                    ("/run/v", "/a/b/c", Directory),
                    ("/run/x", "/a/b", Directory),
                    ("/run/x", "/a/d", Directory),
                ],
                &[
                    "/ from / with a/b/ a/d/",
                    "/run/x at /a/b",
                    "/run/x at /a/d",
                    "make /run/x/c/",
                    "/run/v at /a/b/c",
                ],
            ),
            (
                &[("/srv", "/etc", Directory), ("/run/v", "/etc/a/b", Directory)],
                &["/srv at /etc", "/etc/a from /srv/a with b/", "/run/v at /etc/a/b"],
            ),
            (
                &[("/run/v", "/a", Directory), ("/run/v", "/etc/b", Directory)],
                &["/ from / with a/", "/run/v at /a", "/etc from /etc with b/", "/run/v at /etc/b"],
            ),
        ];
        for (mounts, expected) in rows {
            let mount = |(from, to, sort): &(&str, &str, Sort)| {
                (PathBuf::from(from), PathBuf::from(to), *sort)
            };
            let steps = plan(mounts.iter().map(mount).collect(), machine);
            assert_eq!(steps.into_iter().map(text).collect::<Vec<_>>(), expected, "{mounts:?}");
        }
    }
}
