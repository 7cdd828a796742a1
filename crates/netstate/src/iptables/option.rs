//! The options of a rule: conditions, and the target behind `-j` or `-g`.

use super::parse::Fault;
use super::target;
use super::words::{self, Word};
use super::{Match, Protocol, RecentAction, RecentMatch, Rule, Side, State};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// 2³¹: `xt_statistic` compares with 31 random bits.
pub(super) const CERTAIN: f64 = 2_147_483_648.0;

/// Options that belong to no module.
const HEADER: [&str; 6] = ["-s", "-d", "-i", "-o", "-p", "-f"];

pub(super) struct Options<'a> {
    words: &'a [Word],
}

impl<'a> Options<'a> {
    pub(super) fn of(words: &'a [Word]) -> Self {
        Options { words }
    }

    /// Adds the next option to the rule; false: there is none left.
    pub(super) fn next_into(&mut self, rule: &mut Rule) -> Result<bool, Fault> {
        let Some(mut option) = self.take() else { return Ok(false) };
        let negate = option.is("!");
        if negate {
            option = self.take().ok_or_else(|| Fault::Unexpected("!".to_owned()))?;
        }
        match option.text.as_str() {
            "-m" if !negate => {
                let name = self.value(option)?;
                let body = self.body();
                rule.matches.extend(modules(name, body));
            }
            "-j" | "-g" if !negate && rule.target.is_none() => {
                let name = self.value(option)?;
                let body = self.body();
                rule.target = Some(target::read(option.text == "-g", name, body));
            }
            "-f" => {
                rule.matches.push(Match::Unknown(if negate { "! -f" } else { "-f" }.to_owned()))
            }
            _ => {
                let value = self.value(option)?;
                rule.matches.push(header(option, &value.text, negate)?);
            }
        }
        Ok(true)
    }

    fn take(&mut self) -> Option<&'a Word> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    fn value(&mut self, option: &Word) -> Result<&'a Word, Fault> {
        self.take().ok_or_else(|| Fault::NoValue(option.text.clone()))
    }

    /// The words of a module or target, up to the next option of the rule itself.
    fn body(&mut self) -> &'a [Word] {
        let end = (0..self.words.len()).find(|at| self.begins_anew(*at));
        let (body, rest) = self.words.split_at(end.unwrap_or(self.words.len()));
        self.words = rest;
        body
    }

    fn begins_anew(&self, at: usize) -> bool {
        let word = &self.words[at];
        // `iptables-save` leaves a comment like `-j` without quotes.
        if word.quoted || at > 0 && self.words[at - 1].is("--comment") {
            return false;
        }
        let of_header = |word: &Word| HEADER.iter().any(|option| word.is(option));
        let negated = word.is("!") && self.words.get(at + 1).is_some_and(of_header);
        negated || of_header(word) || ["-m", "-j", "-g"].iter().any(|option| word.is(option))
    }
}

fn header(option: &Word, value: &str, negate: bool) -> Result<Match, Fault> {
    let name = || value.to_owned();
    let bad = || Fault::BadValue { option: option.text.clone(), value: name() };
    Ok(match option.text.as_str() {
        "-s" => address(Side::Source, value, negate).ok_or_else(bad)?,
        "-d" => address(Side::Destination, value, negate).ok_or_else(bad)?,
        "-i" => Match::InputInterface { name: name(), negate },
        "-o" => Match::OutputInterface { name: name(), negate },
        "-p" => Match::Protocol { protocol: value.parse().map_err(|_no_protocol| bad())?, negate },
        _ => return Err(Fault::Unexpected(option.text.clone())),
    })
}

fn address(side: Side, value: &str, negate: bool) -> Option<Match> {
    if let Ok(net) = value.parse::<IpNet>() {
        return Some(Match::Address { side, net, negate });
    }
    if let Ok(address) = value.parse::<IpAddr>() {
        return Some(Match::Address { side, net: address.into(), negate });
    }
    let (address, mask) = value.split_once('/')?;
    let (address, mask): (IpAddr, IpAddr) = (address.parse().ok()?, mask.parse().ok()?);
    if address.is_ipv4() != mask.is_ipv4() {
        return None;
    }
    Some(match IpNet::with_netmask(address, mask) {
        Ok(net) => Match::Address { side, net, negate },
        // With holes in its mask it is no prefix.
        Err(_holes) => {
            let side = if side == Side::Source { "-s" } else { "-d" };
            Match::Unknown(format!("{}{side} {value}", if negate { "! " } else { "" }))
        }
    })
}

/// What a module's options say; all of them as they are where one is not understood.
fn modules(name: &Word, body: &[Word]) -> Vec<Match> {
    groups(body).and_then(|groups| known(&name.text, &groups)).unwrap_or_else(|| {
        let text = words::join(&[std::slice::from_ref(name), body].concat());
        vec![Match::Unknown(format!("-m {text}"))]
    })
}

/// An option of a module with its values.
pub(super) struct Group<'a> {
    negate: bool,
    pub option: &'a str,
    values: &'a [Word],
}

impl<'a> Group<'a> {
    /// Its only value, where it is not negated.
    pub(super) fn plain(&self) -> Option<&'a str> {
        if self.negate { None } else { self.value() }
    }

    fn value(&self) -> Option<&'a str> {
        match self.values {
            [value] => Some(&value.text),
            _ => None,
        }
    }

    pub(super) fn is_flag(&self) -> bool {
        self.values.is_empty() && !self.negate
    }
}

pub(super) fn groups(mut words: &[Word]) -> Option<Vec<Group<'_>>> {
    let mut groups = Vec::new();
    while let Some((first, rest)) = words.split_first() {
        let negate = first.is("!");
        let (option, rest) = if negate { rest.split_first()? } else { (first, rest) };
        if !option.is_option() {
            return None;
        }
        // A comment may look like an option.
        let least = usize::from(option.is("--comment")).min(rest.len());
        let next = |word: &Word| word.is_option() || word.is("!");
        let count = least + rest[least..].iter().position(next).unwrap_or(rest.len() - least);
        let (values, rest) = rest.split_at(count);
        groups.push(Group { negate, option: &option.text, values });
        words = rest;
    }
    Some(groups)
}

fn known(module: &str, groups: &[Group<'_>]) -> Option<Vec<Match>> {
    match module {
        "recent" => recent(groups).map(|it| vec![Match::Recent(it)]),
        "statistic" => statistic(groups).map(|it| vec![it]),
        // Where all ports will do, the tools print the module all the same.
        _ if groups.is_empty() => ["tcp", "udp", "sctp"].contains(&module).then(Vec::new),
        _ => groups.iter().map(|group| single(module, group)).collect(),
    }
}

/// Of modules whose options each are a condition.
fn single(module: &str, group: &Group<'_>) -> Option<Match> {
    let (negate, option) = (group.negate, group.option);
    Some(match module {
        "comment" if option == "--comment" => Match::Comment(group.plain()?.to_owned()),
        "tcp" | "udp" | "sctp" => {
            let (side, ports) = (port_side(option)?, range(group.value()?)?);
            Match::Port { protocol: module.parse().ok()?, side, ports, negate }
        }
        "multiport" => {
            let ports = group.value()?.split(',').map(range).collect::<Option<_>>()?;
            let side = match option {
                "--sports" => Some(Side::Source),
                "--dports" => Some(Side::Destination),
                "--ports" => None,
                _ => return None,
            };
            Match::Ports { side, ports, negate }
        }
        "addrtype" => {
            let side = match option {
                "--src-type" => Side::Source,
                "--dst-type" => Side::Destination,
                _ => return None,
            };
            Match::AddressType { side, kind: group.value()?.to_owned(), negate }
        }
        "conntrack" if option == "--ctstate" => states(group)?,
        "state" if option == "--state" => states(group)?,
        "mark" if option == "--mark" => {
            let (value, mask) = marked(group.value()?)?;
            Match::Mark { value, mask, negate }
        }
        "set" if option == "--match-set" => {
            let [name, directions] = group.values else { return None };
            let (name, directions) = (name.text.clone(), directions.text.clone());
            Match::IpSet { name, directions, negate }
        }
        "nfacct" if option == "--nfacct-name" => Match::Accounted(group.plain()?.to_owned()),
        _ => return None,
    })
}

fn port_side(option: &str) -> Option<Side> {
    match option {
        "--sport" => Some(Side::Source),
        "--dport" => Some(Side::Destination),
        _ => None,
    }
}

/// `80`, `80:90`, `:80`, `80:`.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let Some((first, last)) = text.split_once(':') else {
        let port = text.parse().ok()?;
        return Some(port..=port);
    };
    let end = |text: &str, open| if text.is_empty() { Some(open) } else { text.parse().ok() };
    Some(end(first, 0)?..=end(last, u16::MAX)?)
}

fn states(group: &Group<'_>) -> Option<Match> {
    let states: Option<BTreeSet<_>> =
        group.value()?.split(',').map(|text| text.parse::<State>().ok()).collect();
    Some(Match::State { states: states?, negate: group.negate })
}

/// `value` or `value/mask`, in any base.
pub(super) fn marked(text: &str) -> Option<(u32, u32)> {
    match text.split_once('/') {
        Some((value, mask)) => Some((number(value)?, number(mask)?)),
        None => Some((number(text)?, u32::MAX)),
    }
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn statistic(groups: &[Group<'_>]) -> Option<Match> {
    let [mode, probability] = groups else { return None };
    let random = (mode.option, mode.plain()?) == ("--mode", "random");
    let share: f64 = probability.plain()?.parse().ok()?;
    let holds = random && probability.option == "--probability" && (0.0..=1.0).contains(&share);
    holds.then(|| Match::Chance(chance(share)))
}

/// The share of 2³¹ that is nearest.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of 2³¹ between 0 and 1 fits"
)]
fn chance(share: f64) -> u32 {
    (share * CERTAIN).round() as u32
}

fn recent(groups: &[Group<'_>]) -> Option<RecentMatch> {
    let mut action = None;
    let mut found = RecentMatch {
        action: RecentAction::Set,
        negate: false,
        name: "DEFAULT".to_owned(),
        seconds: None,
        reap: false,
        hits: None,
        side: Side::Source,
    };
    for group in groups {
        if let Some(asked) = RecentAction::of(group.option) {
            action = Some(asked).filter(|_| action.is_none() && group.values.is_empty());
            found.negate = group.negate;
            action?;
            continue;
        }
        match group.option {
            "--name" => found.name = group.plain()?.to_owned(),
            "--seconds" => found.seconds = Some(group.plain()?.parse().ok()?),
            "--hitcount" => found.hits = Some(group.plain()?.parse().ok()?),
            "--reap" if group.is_flag() => found.reap = true,
            "--rsource" if group.is_flag() => found.side = Side::Source,
            "--rdest" if group.is_flag() => found.side = Side::Destination,
            "--mask" if is_whole(group.plain()?) => {}
            _ => return None,
        }
    }
    Some(RecentMatch { action: action?, ..found })
}

impl RecentAction {
    pub(super) const ALL: [(RecentAction, &str); 4] = [
        (RecentAction::Set, "--set"),
        (RecentAction::Check, "--rcheck"),
        (RecentAction::Update, "--update"),
        (RecentAction::Remove, "--remove"),
    ];

    fn of(option: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, name)| *name == option).map(|(action, _)| action)
    }
}

/// A mask that leaves an address as it is.
fn is_whole(mask: &str) -> bool {
    match mask.parse() {
        Ok(IpAddr::V4(mask)) => mask.to_bits() == u32::MAX,
        Ok(IpAddr::V6(mask)) => mask.to_bits() == u128::MAX,
        Err(_not_an_address) => false,
    }
}

const PROTOCOLS: [(&str, u8); 9] = [
    ("icmp", 1),
    ("tcp", 6),
    ("udp", 17),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-icmp", 58),
    ("sctp", 132),
    ("udplite", 136),
];

impl std::str::FromStr for Protocol {
    type Err = Unheard;

    fn from_str(text: &str) -> Result<Self, Unheard> {
        let named = PROTOCOLS.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
        let number = named.or_else(|| text.parse().ok()).or_else(|| (text == "all").then_some(0));
        number.map(Protocol).ok_or(Unheard)
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match PROTOCOLS.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A name that is not among those known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a known name")]
pub struct Unheard;

impl State {
    pub(super) const ALL: [(State, &str); 7] = [
        (State::Invalid, "INVALID"),
        (State::New, "NEW"),
        (State::Related, "RELATED"),
        (State::Established, "ESTABLISHED"),
        (State::Untracked, "UNTRACKED"),
        (State::Snat, "SNAT"),
        (State::Dnat, "DNAT"),
    ];
}

impl std::str::FromStr for State {
    type Err = Unheard;

    fn from_str(text: &str) -> Result<Self, Unheard> {
        let found = State::ALL.into_iter().find(|(_, name)| *name == text);
        found.map(|(state, _)| state).ok_or(Unheard)
    }
}
