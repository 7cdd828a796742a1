//! Targets: what stands behind `-j` and `-g`.

use super::option::{Group, groups, marked};
use super::words::{self, Word};
use super::{Target, Translation};
use std::net::{IpAddr, SocketAddr};

/// What a plain `REJECT` answers, in either family.
const PORT_UNREACHABLE: [&str; 2] = ["icmp-port-unreachable", "icmp6-port-unreachable"];

pub(super) fn read(goto: bool, name: &Word, body: &[Word]) -> Target {
    if goto && body.is_empty() {
        return Target::Goto(name.text.clone());
    }
    let understood = groups(body).filter(|_| !goto).and_then(|groups| known(&name.text, &groups));
    understood.unwrap_or_else(|| {
        Target::Unknown(words::join(&[std::slice::from_ref(name), body].concat()))
    })
}

fn known(name: &str, options: &[Group<'_>]) -> Option<Target> {
    Some(match (name, options) {
        ("ACCEPT", []) => Target::Accept,
        ("DROP", []) => Target::Drop,
        ("RETURN", []) => Target::Return,
        ("REJECT", []) => Target::Reject { with: None },
        ("REJECT", [with]) if with.option == "--reject-with" => {
            let with = Some(with.plain()?).filter(|with| !PORT_UNREACHABLE.contains(with));
            Target::Reject { with: with.map(str::to_owned) }
        }
        ("MARK", [set]) => mark(set)?,
        ("MASQUERADE", []) => Target::Masquerade { fully_random: false },
        ("MASQUERADE", [random]) if is_fully_random(random) => {
            Target::Masquerade { fully_random: true }
        }
        ("DNAT", [to, rest @ ..]) if to.option == "--to-destination" => {
            Target::Dnat(translation(to.plain()?, rest)?)
        }
        ("SNAT", [to, rest @ ..]) if to.option == "--to-source" => {
            Target::Snat(translation(to.plain()?, rest)?)
        }
        // Targets that need no options; anything else without options is a chain.
        ("QUEUE" | "NFQUEUE" | "LOG" | "TRACE" | "NOTRACK" | "AUDIT" | "REDIRECT" | "CT", _) => {
            return None;
        }
        (chain, []) => Target::Jump(chain.to_owned()),
        _ => return None,
    })
}

fn is_fully_random(group: &Group<'_>) -> bool {
    group.option == "--random-fully" && group.is_flag()
}

/// All of its options are one operation with two masks.
fn mark(set: &Group<'_>) -> Option<Target> {
    let text = set.plain()?;
    let (value, mask) = marked(text)?;
    let whole = !text.contains('/');
    let (value, mask) = match set.option {
        "--set-xmark" => (value, mask),
        "--set-mark" => (value, mask | value),
        "--or-mark" if whole => (value, value),
        "--xor-mark" if whole => (value, 0),
        "--and-mark" if whole => (0, !value),
        _ => return None,
    };
    Some(Target::Mark { value, mask })
}

fn translation(text: &str, rest: &[Group<'_>]) -> Option<Translation> {
    let fully_random = match rest {
        [] => false,
        [random] if is_fully_random(random) => true,
        _ => return None,
    };
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(Translation { address, port: None, fully_random });
    }
    let end: SocketAddr = text.parse().ok()?;
    Some(Translation { address: end.ip(), port: Some(end.port()), fully_random })
}
