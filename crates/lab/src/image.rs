//! What stands for the images of a lab, which pulls none: programs of this machine, or the built-in server. Pure, but
//! for [`StandIn::check`].

mod reference;

pub use reference::Reference;

use crate::layout;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Something that stands for an image: `IMAGE=PROGRAM [ARGUMENT…]`, or `IMAGE` for the built-in server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandIn {
    image: Reference,
    program: Option<Program>,
}

/// What the entry point of an image is here, and its arguments where a container has none of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub path: PathBuf,
    pub arguments: Vec<String>,
}

/// What stands for which image in a lab.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Images {
    /// Later ones go before earlier ones.
    pub stand_ins: Vec<StandIn>,
    /// There are no others. Without, the built-in server stands for every other image.
    pub only: bool,
}

/// What an image is in a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    Program(&'a Program),
    BuiltIn,
    /// No registry of the lab has it.
    Absent,
    /// Its name is none.
    Malformed,
}

/// Why something cannot stand for an image.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error(
        "{0:?} is no name of an image: write [HOST/]PATH[:TAG][@DIGEST], or HOST/PATH/* for all below"
    )]
    Name(String),
    #[error("{}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} cannot be run: it is no file with the permission to be", .0.display())]
    NotExecutable(PathBuf),
    /// A lab has a `/run` of its own.
    #[error("{} is not seen inside of a lab: put it elsewhere than below /run", .0.display())]
    Hidden(PathBuf),
}

impl FromStr for StandIn {
    type Err = Problem;

    fn from_str(text: &str) -> Result<StandIn, Problem> {
        let (image, program) = match text.split_once('=') {
            Some((image, words)) => (image, Some(Program::of(words))),
            None => (text, None),
        };
        let image = Reference::pattern(image).ok_or_else(|| Problem::Name(image.to_owned()))?;
        Ok(StandIn { image, program })
    }
}

impl Program {
    fn of(line: &str) -> Program {
        let mut words = line.split_ascii_whitespace().map(str::to_owned);
        let path = words.next().map(PathBuf::from).unwrap_or_default();
        Program { path, arguments: words.collect() }
    }
}

impl StandIn {
    /// With the program's path as it is from everywhere, once it is sure that a lab can run it.
    pub fn check(self) -> Result<StandIn, Problem> {
        let Some(Program { path, arguments }) = self.program else { return Ok(self) };
        let unreadable = |source| Problem::Unreadable { path: path.clone(), source };
        let whole = path.canonicalize().map_err(unreadable)?;
        let metadata = whole.metadata().map_err(unreadable)?;
        if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
            return Err(Problem::NotExecutable(path));
        }
        if whole.starts_with(layout::RUN) {
            return Err(Problem::Hidden(path));
        }
        Ok(StandIn { program: Some(Program { path: whole, arguments }), ..self })
    }
}

impl Images {
    pub(crate) fn find(&self, image: &str) -> Found<'_> {
        let Some(wanted) = Reference::parse(image) else { return Found::Malformed };
        let stands = |it: &&StandIn| it.image.covers(&wanted);
        match self.stand_ins.iter().rev().find(stands) {
            Some(StandIn { program: Some(program), .. }) => Found::Program(program),
            None if self.only => Found::Absent,
            Some(_) | None => Found::BuiltIn,
        }
    }

    /// These after those of a lab before.
    pub(crate) fn after(self, before: Images) -> Images {
        let stand_ins = before.stand_ins.into_iter().chain(self.stand_ins).collect();
        Images { stand_ins, only: before.only || self.only }
    }
}

impl<'a> Found<'a> {
    pub(crate) fn program(self) -> Option<&'a Program> {
        match self {
            Found::Program(program) => Some(program),
            _ => None,
        }
    }
}

/// A command of a container, whose program may be the image's, by its path there: only the last part of it is known.
pub(crate) fn of_image(mut words: Vec<String>, program: Option<&Path>) -> Vec<String> {
    let name = |word: &str| Path::new(word).file_name().map(ToOwned::to_owned);
    if let (Some(program), Some(first)) = (program, words.first_mut())
        && name(first).as_deref() == program.file_name()
    {
        *first = program.to_string_lossy().into_owned();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(words: &[&str], only: bool) -> Images {
        let stand_ins = words.iter().map(|word| word.parse().unwrap()).collect();
        Images { stand_ins, only }
    }

    #[test]
    fn the_last_that_covers_an_image_stands_for_it() {
        let words = ["a.io/x/*", "a.io/x/tool=/t", "a.io/x/tool:2=/u", "nginx=/n", "a.io/b:1"];
        let all = images(&words, false);
        let only = images(&words, true);
        let digest = format!("a.io/x/tool:1@sha256:{}", "0".repeat(64));
        let programs = ["/t", "/u", "/n"].map(Program::of);
        let program = |path: &str| {
            Found::Program(programs.iter().find(|it| it.path == Path::new(path)).unwrap())
        };
        for (image, free, strict) in [
            ("a.io/x/tool", program("/t"), program("/t")),
            ("a.io/x/tool:1", program("/t"), program("/t")),
            (&digest, program("/t"), program("/t")),
            ("a.io/x/tool:2", program("/u"), program("/u")),
            ("a.io/x/other:2", Found::BuiltIn, Found::BuiltIn),
            ("a.io/xx/other", Found::BuiltIn, Found::Absent),
            ("a.io/b:1", Found::BuiltIn, Found::BuiltIn),
            ("a.io/b", Found::BuiltIn, Found::Absent),
            ("docker.io/library/nginx:1.27", program("/n"), program("/n")),
            ("docker.io/other/nginx", Found::BuiltIn, Found::Absent),
            ("Bad Name", Found::Malformed, Found::Malformed),
        ] {
            assert_eq!((all.find(image), only.find(image)), (free, strict), "{image}");
        }
        let later = images(&["nginx"], true).after(all);
        assert_eq!((later.find("nginx"), later.find("y")), (Found::BuiltIn, Found::Absent));
    }

    #[test]
    fn what_cannot_be_run_stands_for_nothing() {
        for (text, expected) in [
            ("a=/nosuch/program", "/nosuch/program"),
            ("a=/etc/passwd", "/etc/passwd cannot be run"),
            ("a=/usr", "/usr cannot be run"),
            ("a=", ""),
        ] {
            let refusal = text.parse::<StandIn>().unwrap().check().unwrap_err().to_string();
            assert!(refusal.starts_with(expected), "{text}: {refusal}");
        }
        let checked = "a=/usr/bin/../bin/env -i A=1".parse::<StandIn>().unwrap().check().unwrap();
        let Program { path, arguments } = checked.program.unwrap();
        assert!(path.is_absolute() && !path.to_string_lossy().contains(".."));
        assert_eq!(arguments, ["-i", "A=1"]);
        assert!("Bad=x".parse::<StandIn>().is_err() && "=x".parse::<StandIn>().is_err());
    }

    #[test]
    fn programs_are_known_by_their_last_name() {
        let program = Some(Path::new("/opt/agnhost"));
        for (words, expected) in [
            (vec!["/agnhost", "pause"], "/opt/agnhost pause"),
            (vec!["agnhost"], "/opt/agnhost"),
            (vec!["/bin/sh", "-c", "/agnhost"], "/bin/sh -c /agnhost"),
            (vec![], ""),
        ] {
            let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
            assert_eq!(of_image(words.clone(), program).join(" "), expected);
            assert_eq!(of_image(words.clone(), None), words);
        }
    }
}
