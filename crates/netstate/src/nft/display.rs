//! Rules in the words of `nft list ruleset`, near enough to be read by those who know it.

use super::{Field, Rule, Statement, Verdict};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, statement) in self.statements.iter().enumerate() {
            let space = if position == 0 { "" } else { " " };
            write!(f, "{space}{statement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = |negate: &bool| if *negate { "!= " } else { "" };
        match self {
            Statement::Match { field, mask, negate, value } => {
                write!(f, "{field} ")?;
                if let Some(mask) = mask {
                    write!(f, "& {} ", Octets(field, mask))?;
                }
                let sign = if *negate { "!=" } else { "==" };
                write!(f, "{sign} {}", Octets(field, value))
            }
            Statement::InSet { key, set, negate } => {
                write!(f, "{} {}@{set}", Fields(key), operator(negate))
            }
            Statement::VerdictMap { key, map } => write!(f, "{} vmap @{map}", Fields(key)),
            Statement::Counter => f.write_str("counter"),
            Statement::SetMark { and, xor } => {
                write!(f, "meta mark set meta mark & {and:#010x} ^ {xor:#010x}")
            }
            Statement::DnatMap { key, map } => write!(f, "dnat to {} map @{map}", Fields(key)),
            Statement::Remember { key, value, map, seconds } => {
                write!(
                    f,
                    "update @{map} {{ {} timeout {seconds}s : {} }}",
                    Fields(key),
                    Fields(value)
                )
            }
            Statement::SetPriorityMap { key, map } => {
                write!(f, "meta priority set {} map @{map}", Fields(key))
            }
            Statement::SetPriority(number) => write!(f, "meta priority set {number}"),
            Statement::Masquerade => f.write_str("masquerade fully-random"),
            Statement::Notrack => f.write_str("notrack"),
            Statement::Reject => f.write_str("reject"),
            Statement::Verdict(verdict) => write!(f, "{verdict}"),
            Statement::Unknown(what) => write!(f, "# {what}"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Return => f.write_str("return"),
            Verdict::Jump(chain) => write!(f, "jump {chain}"),
            Verdict::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::SourceAddress => f.write_str("ip saddr"),
            Field::DestinationAddress => f.write_str("ip daddr"),
            Field::Protocol => f.write_str("meta l4proto"),
            Field::SourcePort => f.write_str("th sport"),
            Field::DestinationPort => f.write_str("th dport"),
            Field::Mark => f.write_str("meta mark"),
            Field::ConntrackStatus => f.write_str("ct status"),
            Field::ConntrackOriginalDestination => f.write_str("ct original ip daddr"),
            Field::ConntrackOriginalPort => f.write_str("ct original proto-dst"),
            Field::Priority => f.write_str("meta priority"),
            Field::ConntrackState => f.write_str("ct state"),
            Field::Random { modulus, offset } => {
                write!(f, "numgen random mod {modulus}{}", Offset(*offset))
            }
            Field::AddressHash { of, modulus, seed, offset } => {
                let of = of.field();
                write!(f, "jhash {of} mod {modulus} seed {seed:#x}{}", Offset(*offset))
            }
            Field::Masked { of, mask } => {
                let of = of.field();
                write!(f, "{of} & {}", Octets(&of, mask))
            }
            Field::Constant(octets) => write!(f, "{}", Octets(self, octets)),
            Field::InputInterface => f.write_str("iifname"),
            Field::DestinationAddressType => f.write_str("fib daddr type"),
            Field::SourceAddressType => f.write_str("fib saddr type"),
        }
    }
}

struct Offset(u32);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, " offset {}", self.0) }
    }
}

struct Fields<'a>(&'a [Field]);

impl fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, field) in self.0.iter().enumerate() {
            let dot = if position == 0 { "" } else { " . " };
            write!(f, "{dot}{field}")?;
        }
        Ok(())
    }
}

/// A value of a field: an address for addresses, a number for numbers.
struct Octets<'a>(&'a Field, &'a [u8]);

impl fmt::Display for Octets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Octets(field, octets) = self;
        let is_address = matches!(
            field,
            Field::SourceAddress | Field::DestinationAddress | Field::ConntrackOriginalDestination
        );
        if let (true, Ok(octets)) = (is_address, <[u8; 16]>::try_from(*octets)) {
            return write!(f, "{}", Ipv6Addr::from(octets));
        }
        match (field, <[u8; 4]>::try_from(*octets)) {
            (_, Ok(octets)) if is_address => write!(f, "{}", Ipv4Addr::from(octets)),
            (Field::Mark | Field::ConntrackStatus | Field::ConntrackState, Ok(octets)) => {
                write!(f, "{:#x}", u32::from_ne_bytes(octets))
            }
            (Field::Constant(_), Ok([0, 0, 0, 0])) => f.write_str("0"),
            (Field::SourcePort | Field::DestinationPort, Err(_)) if octets.len() == 2 => {
                write!(f, "{}", u16::from_be_bytes([octets[0], octets[1]]))
            }
            _ => octets.iter().try_for_each(|octet| write!(f, "{octet:02x}")),
        }
    }
}
