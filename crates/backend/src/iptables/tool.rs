//! The tools `iptables-save` and `iptables-restore`, run as children.
//!
//! They are the only stable way to the tables of both variants: the kernel's own interface differs by variant, and
//! only they know what a rule of the other tools' becomes in it.

use model::Family;
use netstate::iptables::{Delta, ParseError, RuleSet};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Chains by which the kubelet tells in which variant the node is kept (KEP-3178).
const HINTS: [&str; 2] = [":KUBE-IPTABLES-HINT ", ":KUBE-KUBELET-CANARY "];

/// Where the tools are, whatever `PATH` says.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"];

/// Seconds to wait for whoever holds the lock of the legacy variant.
const PATIENCE: u32 = 5;
const LOCK: &str = "/run/xtables.lock";
/// Names another one (iptables(8)).
const LOCK_VARIABLE: &str = "XTABLES_LOCKFILE";

/// `xtables_main` ends so when somebody else holds the lock.
const RESOURCE_PROBLEM: i32 = 4;

/// Why the tables could not be read or changed. What was there before is still there, table by table.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the program {0} is not installed")]
    NotInstalled(String),
    #[error("running {program}")]
    Run { program: String, source: std::io::Error },
    #[error("somebody else holds the lock of iptables: {message}")]
    Locked { message: String },
    #[error("{program} refused line {line}, `{text}`: {message}")]
    Refused { program: String, line: usize, text: String, message: String },
    #[error("{program}: {message}")]
    Failed { program: String, message: String },
    #[error("what {program} printed")]
    Unreadable { program: String, source: ParseError },
    #[error("setting kernel parameters")]
    Sysctl(#[from] kernel::Error),
}

/// The two bodies of iptables; a node uses one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Rules in tables of nf_tables.
    Nft,
    Legacy,
}

impl Variant {
    pub const ALL: [Variant; 2] = [Variant::Nft, Variant::Legacy];

    /// The variant in which this node is kept already, as the wrapper in kube-proxy's image decides: where the
    /// kubelet left its chains; else where there are more rules; nf_tables where there are as many.
    pub fn in_use() -> Result<Self, Error> {
        let mut rules = [0, 0];
        for (variant, count) in Variant::ALL.into_iter().zip(&mut rules) {
            let dump = variant.dump()?;
            if dump.lines().any(|line| HINTS.iter().any(|hint| line.starts_with(hint))) {
                return Ok(variant);
            }
            *count = dump.lines().filter(|line| line.starts_with('-')).count();
        }
        Ok(if rules[1] > rules[0] { Variant::Legacy } else { Variant::Nft })
    }

    /// What both families' tables hold; nothing, where the variant is not installed.
    fn dump(self) -> Result<String, Error> {
        let mut dump = String::new();
        for family in Family::ALL.into_iter().filter(|family| exists(*family)) {
            match (Tool { variant: self, family }).save_text(&[]) {
                Ok(text) => dump.push_str(&text),
                // A kernel without the variant is one where nobody can use it.
                Err(Error::NotInstalled(_) | Error::Failed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(dump)
    }

    fn name(self) -> &'static str {
        match self {
            Variant::Nft => "nft",
            Variant::Legacy => "legacy",
        }
    }
}

/// Whether the kernel has this family at all.
pub fn exists(family: Family) -> bool {
    family == Family::V4 || Path::new("/proc/net/if_inet6").exists()
}

/// The tables of one family in the network namespace of the calling thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    pub variant: Variant,
    pub family: Family,
}

impl Tool {
    pub fn save(self) -> Result<RuleSet, Error> {
        self.parsed(&[])
    }

    /// With what each rule has counted.
    pub fn save_counted(self) -> Result<RuleSet, Error> {
        self.parsed(&["--counters"])
    }

    /// One step for each table. Returns the number of the process that made them, if there was anything to make.
    pub fn restore(self, delta: &Delta) -> Result<Option<u32>, Error> {
        if delta.is_empty() {
            return Ok(None);
        }
        let input = delta.to_string();
        let program = self.program("restore");
        let wait = format!("--wait={PATIENCE}");
        let (process, output) = self.run(&program, &["--noflush", "--counters", &wait], &input)?;
        if output.status.success() {
            return Ok(Some(process));
        }
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.code() == Some(RESOURCE_PROBLEM) && message.contains("xtables lock") {
            return Err(Error::Locked { message });
        }
        match refused_line(&message, &input) {
            Some((line, text)) => Err(Error::Refused { program, line, text, message }),
            None => Err(Error::Failed { program, message }),
        }
    }

    fn parsed(self, arguments: &[&str]) -> Result<RuleSet, Error> {
        let text = self.save_text(arguments)?;
        let program = self.program("save");
        RuleSet::parse(&text).map_err(|source| Error::Unreadable { program, source })
    }

    fn save_text(self, arguments: &[&str]) -> Result<String, Error> {
        let program = self.program("save");
        let (_, output) = self.run(&program, arguments, "")?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => {
                let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                Err(Error::Failed { program, message })
            }
        }
    }

    fn program(self, verb: &str) -> String {
        let family = match self.family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        format!("{family}-{}-{verb}", self.variant.name())
    }

    /// The number of the process, and what it said.
    fn run(self, program: &str, arguments: &[&str], input: &str) -> Result<(u32, Output), Error> {
        let failure = |source| Error::Run { program: program.to_owned(), source };
        let path = find(program).ok_or_else(|| Error::NotInstalled(program.to_owned()))?;
        let mut command = Command::new(path);
        command.args(arguments).env("LC_ALL", "C");
        if let Some(lock) = own_lock() {
            command.env(LOCK_VARIABLE, lock);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failure)?;
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(input.as_bytes()) {
                // It stopped reading because of what it says on its standard error.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                written => written.map_err(failure)?,
            }
        }
        Ok((child.id(), child.wait_with_output().map_err(failure)?))
    }
}

fn find(program: &str) -> Option<PathBuf> {
    DIRECTORIES.iter().map(|directory| Path::new(directory).join(program)).find(|it| it.exists())
}

/// An ordinary user who is root of a user namespace cannot take everybody's lock, and need not: nobody else
/// reaches those tables. `None`: the tools find theirs, where the environment names one, too.
fn own_lock() -> Option<PathBuf> {
    if std::env::var_os(LOCK_VARIABLE).is_some() {
        return None;
    }
    let shared = std::fs::OpenOptions::new().create(true).append(true).open(LOCK);
    let name = format!("podway-xtables-{}.lock", kernel::process::user());
    shared.is_err().then(|| std::env::temp_dir().join(name))
}

/// The first line of the input that the message names.
fn refused_line(message: &str, input: &str) -> Option<(usize, String)> {
    let number = message.split("line").skip(1).find_map(|rest| {
        let rest = rest.trim_start_matches([':', ' ']);
        let digits = rest.find(|it: char| !it.is_ascii_digit()).unwrap_or(rest.len());
        rest[..digits].parse::<usize>().ok()
    })?;
    let text = input.lines().nth(number.checked_sub(1)?)?;
    Some((number, text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refused_line_is_found_in_every_dialect() {
        let input = "*nat\n:A - [0:0]\n-A A -j B\nCOMMIT\n";
        for message in [
            "iptables-restore: line 3 failed",
            "iptables-restore v1.8.9 (nf_tables): \nline 3: RULE_APPEND failed (No such file or directory): rule in chain A",
            "iptables-restore v1.8.9 (legacy): Couldn't load target `B'\n\nError occurred at line: 3\nTry",
        ] {
            assert_eq!(
                refused_line(message, input),
                Some((3, "-A A -j B".to_owned())),
                "{message}"
            );
        }
        assert_eq!(refused_line("Permission denied (you must be root)", input), None);
        assert_eq!(refused_line("line 9 failed", input), None);
    }
}
