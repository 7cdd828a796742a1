//! Values to the words of `iptables-save`.

use super::option::CERTAIN;
use super::words::write_value;
use super::{
    Counters, Match, Policy, RecentAction, RecentMatch, Rule, RuleSet, Side, State, Target,
    Translation,
};
use std::fmt::{self, Display, Formatter, Write};
use std::net::SocketAddr;
use std::ops::RangeInclusive;

pub(super) fn rule_set(rules: &RuleSet, f: &mut Formatter<'_>) -> fmt::Result {
    for (name, table) in &rules.tables {
        writeln!(f, "*{name}")?;
        for (name, chain) in &table.chains {
            let policy = match chain.policy {
                None => "-",
                Some(Policy::Accept) => "ACCEPT",
                Some(Policy::Drop) => "DROP",
            };
            writeln!(f, ":{name} {policy} {}", chain.counters)?;
        }
        for (name, chain) in &table.chains {
            for rule in &chain.rules {
                if let Some(counters) = rule.counters {
                    write!(f, "{counters} ")?;
                }
                writeln!(f, "-A {name}{rule}")?;
            }
        }
        writeln!(f, "COMMIT")?;
    }
    Ok(())
}

impl Display for Counters {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "[{}:{}]", self.packets, self.octets)
    }
}

/// Its words, each after a space, without counters.
impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.matches.iter().try_for_each(|it| write!(f, " {it}"))?;
        self.target.iter().try_for_each(|it| write!(f, " {it}"))
    }
}

impl Display for Match {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Match::Address { side, net, negate } => {
                write!(f, "{}{} {net}", not(*negate), pick(*side, "-s", "-d"))
            }
            Match::InputInterface { name, negate } => {
                write!(f, "{}-i ", not(*negate))?;
                write_value(name, f)
            }
            Match::OutputInterface { name, negate } => {
                write!(f, "{}-o ", not(*negate))?;
                write_value(name, f)
            }
            Match::Protocol { protocol, negate } => write!(f, "{}-p {protocol}", not(*negate)),
            Match::Port { protocol, side, ports, negate } => {
                let side = pick(*side, "--sport", "--dport");
                write!(f, "-m {protocol} {}{side} {}", not(*negate), Span(ports))
            }
            Match::Ports { side, ports, negate } => {
                let side = side.map_or("--ports", |side| pick(side, "--sports", "--dports"));
                write!(f, "-m multiport {}{side} ", not(*negate))?;
                list(f, ports.iter().map(Span))
            }
            Match::Comment(text) => {
                f.write_str("-m comment --comment ")?;
                write_value(text, f)
            }
            Match::AddressType { side, kind, negate } => {
                let side = pick(*side, "--src-type", "--dst-type");
                write!(f, "-m addrtype {}{side} ", not(*negate))?;
                write_value(kind, f)
            }
            Match::State { states, negate } => {
                write!(f, "-m conntrack {}--ctstate ", not(*negate))?;
                list(f, states)
            }
            Match::Mark { value, mask, negate } => {
                write!(f, "-m mark {}--mark {}", not(*negate), Masked(*value, *mask))
            }
            Match::Chance(share) => {
                let share = f64::from(*share) / CERTAIN;
                write!(f, "-m statistic --mode random --probability {share:.11}")
            }
            Match::Recent(recent) => write!(f, "{recent}"),
            Match::IpSet { name, directions, negate } => {
                write!(f, "-m set {}--match-set ", not(*negate))?;
                write_value(name, f)?;
                f.write_char(' ')?;
                write_value(directions, f)
            }
            Match::Accounted(name) => {
                f.write_str("-m nfacct --nfacct-name ")?;
                write_value(name, f)
            }
            Match::Unknown(text) => f.write_str(text),
        }
    }
}

impl Display for RecentMatch {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let action = RecentAction::ALL.into_iter().find(|(action, _)| *action == self.action);
        let action = action.map_or("", |(_, name)| name);
        write!(f, "-m recent {}{action}", not(self.negate))?;
        if let Some(seconds) = self.seconds {
            write!(f, " --seconds {seconds}")?;
        }
        if self.reap {
            f.write_str(" --reap")?;
        }
        if let Some(hits) = self.hits {
            write!(f, " --hitcount {hits}")?;
        }
        f.write_str(" --name ")?;
        write_value(&self.name, f)?;
        write!(f, " {}", pick(self.side, "--rsource", "--rdest"))
    }
}

impl Display for State {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = State::ALL.into_iter().find(|(state, _)| state == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Target::Accept => f.write_str("-j ACCEPT"),
            Target::Drop => f.write_str("-j DROP"),
            Target::Return => f.write_str("-j RETURN"),
            Target::Jump(chain) => write!(f, "-j {chain}"),
            Target::Goto(chain) => write!(f, "-g {chain}"),
            Target::Reject { with: None } => f.write_str("-j REJECT"),
            Target::Reject { with: Some(with) } => {
                f.write_str("-j REJECT --reject-with ")?;
                write_value(with, f)
            }
            Target::Mark { value, mask } => {
                write!(f, "-j MARK --set-xmark {value:#x}/{mask:#x}")
            }
            Target::Masquerade { fully_random } => {
                write!(f, "-j MASQUERADE{}", random(*fully_random))
            }
            Target::Dnat(to) => write!(f, "-j DNAT --to-destination {to}"),
            Target::Snat(to) => write!(f, "-j SNAT --to-source {to}"),
            Target::Unknown(text) => write!(f, "-j {text}"),
        }
    }
}

impl Display for Translation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}", SocketAddr::new(self.address, port))?,
            None => write!(f, "{}", self.address)?,
        }
        f.write_str(random(self.fully_random))
    }
}

struct Span<'a>(&'a RangeInclusive<u16>);

impl Display for Span<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.0.start(), self.0.end());
        if first == last { write!(f, "{first}") } else { write!(f, "{first}:{last}") }
    }
}

struct Masked(u32, u32);

impl Display for Masked {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.1 {
            u32::MAX => write!(f, "{:#x}", self.0),
            mask => write!(f, "{:#x}/{mask:#x}", self.0),
        }
    }
}

fn list(f: &mut Formatter<'_>, items: impl IntoIterator<Item = impl Display>) -> fmt::Result {
    items.into_iter().enumerate().try_for_each(|(place, item)| {
        if place > 0 {
            f.write_char(',')?;
        }
        write!(f, "{item}")
    })
}

fn pick(side: Side, source: &'static str, destination: &'static str) -> &'static str {
    match side {
        Side::Source => source,
        Side::Destination => destination,
    }
}

fn not(negate: bool) -> &'static str {
    if negate { "! " } else { "" }
}

fn random(fully: bool) -> &'static str {
    if fully { " --random-fully" } else { "" }
}
