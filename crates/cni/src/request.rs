//! What a runtime asks for through the environment.

use crate::Error;
use crate::result::Version;
use std::path::PathBuf;

/// `IFNAMSIZ` of linux/if.h, without the final NUL.
const LONGEST_INTERFACE: usize = 15;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Add,
    Del,
    Check,
    Status,
    Gc,
    Version,
}

impl Verb {
    fn parse(text: &str) -> Option<Verb> {
        Some(match text {
            "ADD" => Verb::Add,
            "DEL" => Verb::Del,
            "CHECK" => Verb::Check,
            "STATUS" => Verb::Status,
            "GC" => Verb::Gc,
            "VERSION" => Verb::Version,
            _ => return None,
        })
    }

    /// Fails where the configuration's version of CNI does not have this verb yet.
    pub fn require(self, version: Version) -> Result<(), Error> {
        let first = match self {
            Verb::Add | Verb::Del | Verb::Version => Version::V0_3_0,
            Verb::Check => Version::V0_4_0,
            Verb::Status | Verb::Gc => Version::V1_1_0,
        };
        if version < first { Err(Error::VerbTooNew { verb: self, version }) } else { Ok(()) }
    }
}

/// One interface of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    pub container: String,
    pub interface: String,
    /// The container's network namespace; DEL may come without.
    pub netns: Option<PathBuf>,
}

impl Attachment {
    /// The namespace, which ADD and CHECK have always.
    pub(crate) fn netns(&self) -> Result<&std::path::Path, Error> {
        self.netns.as_deref().ok_or(Error::Environment { name: "CNI_NETNS", problem: "is missing" })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Add(Attachment),
    Del(Attachment),
    Check(Attachment),
    Status,
    Gc,
    Version,
}

impl Request {
    pub fn parse(variable: impl Fn(&str) -> Option<String>) -> Result<Request, Error> {
        let verb = required(&variable, "CNI_COMMAND")?;
        let unknown = Error::Environment {
            name: "CNI_COMMAND",
            problem: "is none of ADD, DEL, CHECK, STATUS, GC, VERSION",
        };
        Ok(match Verb::parse(&verb).ok_or(unknown)? {
            Verb::Add => Request::Add(attachment(&variable, true)?),
            Verb::Del => Request::Del(attachment(&variable, false)?),
            Verb::Check => Request::Check(attachment(&variable, true)?),
            Verb::Status => Request::Status,
            Verb::Gc => Request::Gc,
            Verb::Version => Request::Version,
        })
    }

    #[must_use]
    pub fn verb(&self) -> Verb {
        match self {
            Request::Add(_) => Verb::Add,
            Request::Del(_) => Verb::Del,
            Request::Check(_) => Verb::Check,
            Request::Status => Verb::Status,
            Request::Gc => Verb::Gc,
            Request::Version => Verb::Version,
        }
    }
}

fn attachment(
    variable: &impl Fn(&str) -> Option<String>,
    needs_netns: bool,
) -> Result<Attachment, Error> {
    let netns = if needs_netns {
        Some(required(variable, "CNI_NETNS")?)
    } else {
        variable("CNI_NETNS").filter(|path| !path.is_empty())
    };
    Ok(Attachment {
        container: container_id(required(variable, "CNI_CONTAINERID")?)?,
        interface: interface_name(required(variable, "CNI_IFNAME")?)?,
        netns: netns.map(PathBuf::from),
    })
}

fn required(
    variable: &impl Fn(&str) -> Option<String>,
    name: &'static str,
) -> Result<String, Error> {
    let value = variable(name).filter(|value| !value.is_empty());
    value.ok_or(Error::Environment { name, problem: "is missing" })
}

/// "Must start with an alphanumeric character, optionally followed by any combination of one or more alphanumeric
/// characters, underscore (), dot (.) or hyphen (-)."
fn container_id(id: String) -> Result<String, Error> {
    let good = |octet: u8| octet.is_ascii_alphanumeric() || b"_.-".contains(&octet);
    if id.starts_with(|first: char| first.is_ascii_alphanumeric()) && id.bytes().all(good) {
        return Ok(id);
    }
    Err(Error::Environment { name: "CNI_CONTAINERID", problem: "is no container id" })
}

/// What `dev_valid_name` of the kernel takes.
fn interface_name(name: String) -> Result<String, Error> {
    let bad = |octet: u8| octet == b'/' || octet == b':' || !octet.is_ascii_graphic();
    if name.len() > LONGEST_INTERFACE || name == "." || name == ".." || name.bytes().any(bad) {
        return Err(Error::Environment { name: "CNI_IFNAME", problem: "is no interface name" });
    }
    Ok(name)
}
