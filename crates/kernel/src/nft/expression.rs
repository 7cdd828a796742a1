//! Statements to register expressions.
//!
//! The parts of a key fill consecutive registers of four octets, from the first on.

use super::abi::*;
use super::element::{Problem, check_verdict};
use super::read::Count;
use crate::netlink::{Attribute, Attributes, Body};
use netstate::nft::{Family, Field, Statement, Verdict};

/// `IPPROTO_TCP`.
pub(super) const TCP: u8 = 6;
/// Octets that fit into the sixteen registers.
const REGISTERS: usize = 64;
/// Octets of the longest constant (`struct nft_data`).
const CONSTANT: usize = 16;
/// Octets of the longest name of a set.
const SET_NAME: usize = 255;
/// `NFT_RULE_MAXEXPRS`.
const EXPRESSIONS: usize = 128;

/// What a rejecting rule answers with. [`Statement::Reject`] takes a rule for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    TcpReset,
    PortUnreachable,
}

/// Writes the list of expressions of one rule.
pub(super) fn write_rule(
    body: &mut Body<'_>,
    family: Family,
    statements: &[Statement],
    answer: Answer,
) -> Result<(), Problem> {
    let mut writer = Writer { body, family, expressions: 0 };
    if answer == Answer::TcpReset {
        // First, so that a counter of the rule counts what the rule is for.
        writer.compare(&Field::Protocol, None, false, &[TCP])?;
    }
    for statement in statements {
        writer.statement(statement, answer)?;
    }
    if writer.expressions > EXPRESSIONS {
        Err("a rule has at most 128 expressions")
    } else {
        Ok(())
    }
}

/// Writes the name and data of an expression, without the list item around them.
pub(super) fn write_named(body: &mut Body<'_>, name: &str, data: impl FnOnce(&mut Body<'_>)) {
    body.text(NFTA_EXPR_NAME, name);
    body.nest(NFTA_EXPR_DATA, data);
}

/// The register at this octet.
fn register_at(octet: usize) -> u32 {
    NFT_REG32_00 + u32::try_from(octet / 4).expect("at most sixteen")
}

struct Writer<'a, 'b> {
    body: &'a mut Body<'b>,
    family: Family,
    expressions: usize,
}

impl Writer<'_, '_> {
    fn expression(&mut self, name: &str, data: impl FnOnce(&mut Body<'_>)) {
        self.expressions += 1;
        self.body.nest(NFTA_LIST_ELEM, |body| write_named(body, name, data));
    }

    fn statement(&mut self, statement: &Statement, answer: Answer) -> Result<(), Problem> {
        match statement {
            Statement::Match { field, mask, negate, value } => {
                self.compare(field, mask.as_deref(), *negate, value)?
            }
            Statement::InSet { key, set, negate } => {
                self.load_all(key, 0)?;
                self.lookup(set, None, *negate)?;
            }
            Statement::VerdictMap { key, map } => {
                self.load_all(key, 0)?;
                self.lookup(map, Some(NFT_REG_VERDICT), false)?;
            }
            Statement::Counter => self.expression("counter", |_zero| {}),
            Statement::SetMark { and, xor } => self.set_mark(*and, *xor),
            Statement::DnatMap { key, map } => {
                self.load_all(key, 0)?;
                self.lookup(map, Some(NFT_REG32_00), false)?;
                self.dnat();
            }
            Statement::Remember { key, value, map, seconds } => {
                let behind = self.load_all(key, 0)?;
                self.load_all(value, behind)?;
                self.update(map, register_at(behind), u64::from(*seconds) * 1000)?;
            }
            Statement::SetPriorityMap { key, map } => {
                self.load_all(key, 0)?;
                self.lookup(map, Some(NFT_REG32_00), false)?;
                self.set_meta(NFT_META_PRIORITY);
            }
            Statement::SetPriority(number) => {
                self.constant(&number.to_ne_bytes(), NFT_REG32_00)?;
                self.set_meta(NFT_META_PRIORITY);
            }
            Statement::Masquerade => {
                self.expression("masq", |data| {
                    data.be32(NFTA_MASQ_FLAGS, NF_NAT_RANGE_PROTO_RANDOM_FULLY)
                });
            }
            Statement::Notrack => self.expression("notrack", |_data| {}),
            Statement::Reject => self.reject(answer),
            Statement::Verdict(verdict) => {
                check_verdict(verdict)?;
                self.expression("immediate", |data| {
                    data.be32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
                    data.nest(NFTA_IMMEDIATE_DATA, |data| write_verdict(data, verdict));
                });
            }
            Statement::Unknown(_) => {
                return Err("a statement that was read and not understood cannot be written");
            }
        }
        Ok(())
    }

    fn compare(
        &mut self,
        field: &Field,
        mask: Option<&[u8]>,
        negate: bool,
        value: &[u8],
    ) -> Result<(), Problem> {
        let length = self.load(field, NFT_REG32_00)?;
        if value.len() != length || mask.is_some_and(|mask| mask.len() != length) {
            return Err("value or mask has not the field's length");
        }
        if let Some(mask) = mask {
            self.bitwise(NFT_REG32_00, mask, &[0; CONSTANT][..length]);
        }
        self.expression("cmp", |data| {
            data.be32(NFTA_CMP_SREG, NFT_REG32_00);
            data.be32(NFTA_CMP_OP, if negate { NFT_CMP_NEQ } else { NFT_CMP_EQ });
            data.nest(NFTA_CMP_DATA, |data| data.bytes(NFTA_DATA_VALUE, value));
        });
        Ok(())
    }

    fn bitwise(&mut self, register: u32, mask: &[u8], xor: &[u8]) {
        let length = u32::try_from(mask.len()).expect("at most sixteen octets");
        self.expression("bitwise", |data| {
            data.be32(NFTA_BITWISE_SREG, register);
            data.be32(NFTA_BITWISE_DREG, register);
            data.be32(NFTA_BITWISE_LEN, length);
            data.nest(NFTA_BITWISE_MASK, |data| data.bytes(NFTA_DATA_VALUE, mask));
            data.nest(NFTA_BITWISE_XOR, |data| data.bytes(NFTA_DATA_VALUE, xor));
        });
    }

    fn set_mark(&mut self, and: u32, xor: u32) {
        self.meta(NFT_META_MARK, NFT_REG32_00);
        self.bitwise(NFT_REG32_00, &and.to_ne_bytes(), &xor.to_ne_bytes());
        self.set_meta(NFT_META_MARK);
    }

    fn set_meta(&mut self, key: u32) {
        self.expression("meta", |data| {
            data.be32(NFTA_META_KEY, key);
            data.be32(NFTA_META_SREG, NFT_REG32_00);
        });
    }

    /// Fills registers with the parts of a key, from this octet on, and returns the octet behind them.
    fn load_all(&mut self, key: &[Field], from: usize) -> Result<usize, Problem> {
        let mut offset = from;
        for field in key {
            if offset >= REGISTERS {
                return Err("a key fills at most sixteen registers");
            }
            offset += self.load(field, register_at(offset))?.next_multiple_of(4);
        }
        if (from + 1..=REGISTERS).contains(&offset) {
            Ok(offset)
        } else {
            Err("a key fills one to sixteen registers")
        }
    }

    /// Loads a field and returns its octets.
    fn load(&mut self, field: &Field, register: u32) -> Result<usize, Problem> {
        match field {
            Field::SourceAddress => Ok(self.address(0, register)),
            Field::DestinationAddress => Ok(self.address(1, register)),
            Field::Protocol => Ok(self.meta(NFT_META_L4PROTO, register)),
            Field::SourcePort => Ok(self.payload(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2, register)),
            Field::DestinationPort => {
                Ok(self.payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, register))
            }
            Field::Mark => Ok(self.meta(NFT_META_MARK, register)),
            Field::Priority => Ok(self.meta(NFT_META_PRIORITY, register)),
            Field::ConntrackStatus => Ok(self.conntrack(NFT_CT_STATUS, None, register, 4)),
            Field::ConntrackState => Ok(self.conntrack(NFT_CT_STATE, None, register, 4)),
            Field::ConntrackOriginalPort => {
                Ok(self.conntrack(NFT_CT_PROTO_DST, Some(IP_CT_DIR_ORIGINAL), register, 2))
            }
            Field::ConntrackOriginalDestination => {
                let length = address_place(self.family).1 as usize;
                let key = original_destination(self.family);
                Ok(self.conntrack(key, Some(IP_CT_DIR_ORIGINAL), register, length))
            }
            Field::InputInterface => Ok(self.meta(NFT_META_IIFNAME, register)),
            Field::Random { modulus, offset } => Ok(self.random(*modulus, *offset, register)),
            Field::AddressHash { of, modulus, seed, offset } => {
                let length = self.load(&of.field(), register)?;
                self.hash(register, length, [*modulus, *seed, *offset]);
                Ok(4)
            }
            Field::Masked { of, mask } => {
                let length = self.load(&of.field(), register)?;
                if mask.len() != length {
                    return Err("the mask has not the address's length");
                }
                self.bitwise(register, mask, &[0; CONSTANT][..length]);
                Ok(length)
            }
            Field::Constant(value) => self.constant(value, register),
            Field::DestinationAddressType => Ok(self.address_type(NFTA_FIB_F_DADDR, register)),
            Field::SourceAddressType => Ok(self.address_type(NFTA_FIB_F_SADDR, register)),
        }
    }

    fn address_type(&mut self, which: u32, register: u32) -> usize {
        self.expression("fib", |data| {
            data.be32(NFTA_FIB_DREG, register);
            data.be32(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
            data.be32(NFTA_FIB_FLAGS, which);
        });
        4
    }

    fn hash(&mut self, register: u32, length: usize, [modulus, seed, offset]: [u32; 3]) {
        let length = u32::try_from(length).expect("an address");
        self.expression("hash", |data| {
            data.be32(NFTA_HASH_SREG, register);
            data.be32(NFTA_HASH_DREG, register);
            data.be32(NFTA_HASH_LEN, length);
            data.be32(NFTA_HASH_MODULUS, modulus);
            data.be32(NFTA_HASH_SEED, seed);
            data.be32(NFTA_HASH_OFFSET, offset);
            data.be32(NFTA_HASH_TYPE, NFT_HASH_JENKINS);
        });
    }

    /// The key is in the first registers, the value from this one on.
    fn update(&mut self, map: &str, value: u32, milliseconds: u64) -> Result<(), Problem> {
        if map.len() > SET_NAME {
            return Err("a set's name has at most 255 octets");
        }
        self.expression("dynset", |data| {
            data.text(NFTA_DYNSET_SET_NAME, map);
            data.be32(NFTA_DYNSET_OP, NFT_DYNSET_OP_UPDATE);
            data.be32(NFTA_DYNSET_SREG_KEY, NFT_REG32_00);
            data.be32(NFTA_DYNSET_SREG_DATA, value);
            data.be64(NFTA_DYNSET_TIMEOUT, milliseconds);
        });
        Ok(())
    }

    /// Source (0) or destination (1) address of the network header.
    fn address(&mut self, which: u32, register: u32) -> usize {
        let (offset, length) = address_place(self.family);
        self.payload(NFT_PAYLOAD_NETWORK_HEADER, offset + which * length, length, register)
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32, register: u32) -> usize {
        self.expression("payload", |data| {
            data.be32(NFTA_PAYLOAD_DREG, register);
            data.be32(NFTA_PAYLOAD_BASE, base);
            data.be32(NFTA_PAYLOAD_OFFSET, offset);
            data.be32(NFTA_PAYLOAD_LEN, length);
        });
        length as usize
    }

    fn meta(&mut self, key: u32, register: u32) -> usize {
        self.expression("meta", |data| {
            data.be32(NFTA_META_KEY, key);
            data.be32(NFTA_META_DREG, register);
        });
        match key {
            NFT_META_L4PROTO => 1,
            NFT_META_IIFNAME => 16,
            _ => 4,
        }
    }

    /// A fact of the connection, of so many octets.
    fn conntrack(
        &mut self,
        key: u32,
        direction: Option<u8>,
        register: u32,
        octets: usize,
    ) -> usize {
        self.expression("ct", |data| {
            data.be32(NFTA_CT_KEY, key);
            data.be32(NFTA_CT_DREG, register);
            if let Some(direction) = direction {
                data.u8(NFTA_CT_DIRECTION, direction);
            }
        });
        octets
    }

    fn random(&mut self, modulus: u32, offset: u32, register: u32) -> usize {
        self.expression("numgen", |data| {
            data.be32(NFTA_NG_DREG, register);
            data.be32(NFTA_NG_MODULUS, modulus);
            data.be32(NFTA_NG_TYPE, NFT_NG_RANDOM);
            data.be32(NFTA_NG_OFFSET, offset);
        });
        4
    }

    fn constant(&mut self, value: &[u8], register: u32) -> Result<usize, Problem> {
        if !(1..=CONSTANT).contains(&value.len()) {
            return Err("a constant has one to sixteen octets");
        }
        self.expression("immediate", |data| {
            data.be32(NFTA_IMMEDIATE_DREG, register);
            data.nest(NFTA_IMMEDIATE_DATA, |data| data.bytes(NFTA_DATA_VALUE, value));
        });
        Ok(value.len())
    }

    fn lookup(&mut self, set: &str, into: Option<u32>, negate: bool) -> Result<(), Problem> {
        if set.len() > SET_NAME {
            return Err("a set's name has at most 255 octets");
        }
        self.expression("lookup", |data| {
            data.text(NFTA_LOOKUP_SET, set);
            data.be32(NFTA_LOOKUP_SREG, NFT_REG32_00);
            if let Some(register) = into {
                data.be32(NFTA_LOOKUP_DREG, register);
            }
            if negate {
                data.be32(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
            }
        });
        Ok(())
    }

    /// The address is in the first registers, the port in the one behind it.
    fn dnat(&mut self) {
        let family = self.family;
        let port = NFT_REG32_00 + address_place(family).1 / 4;
        self.expression("nat", |data| {
            data.be32(NFTA_NAT_TYPE, NFT_NAT_DNAT);
            data.be32(NFTA_NAT_FAMILY, u32::from(family_number(family)));
            data.be32(NFTA_NAT_REG_ADDR_MIN, NFT_REG32_00);
            data.be32(NFTA_NAT_REG_PROTO_MIN, port);
        });
    }

    fn reject(&mut self, answer: Answer) {
        let code = port_unreachable(self.family);
        self.expression("reject", |data| match answer {
            Answer::TcpReset => data.be32(NFTA_REJECT_TYPE, NFT_REJECT_TCP_RST),
            Answer::PortUnreachable => {
                data.be32(NFTA_REJECT_TYPE, NFT_REJECT_ICMP_UNREACH);
                data.u8(NFTA_REJECT_ICMP_CODE, code);
            }
        });
    }
}

/// The fact of a connection that is its first destination.
pub(super) fn original_destination(family: Family) -> u32 {
    match family {
        Family::Ip => NFT_CT_DST_IP,
        Family::Ip6 => NFT_CT_DST_IP6,
    }
}

/// `ICMP_PORT_UNREACH`, `ICMPV6_PORT_UNREACH`.
pub(super) fn port_unreachable(family: Family) -> u8 {
    match family {
        Family::Ip => 3,
        Family::Ip6 => 4,
    }
}

/// Where the source address is in the network header, and the octets of an address.
pub(super) fn address_place(family: Family) -> (u32, u32) {
    match family {
        Family::Ip => (12, 4),
        Family::Ip6 => (8, 16),
    }
}

pub(super) fn write_verdict(body: &mut Body<'_>, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Accept => (NF_ACCEPT, None),
        Verdict::Drop => (NF_DROP, None),
        Verdict::Return => (NFT_RETURN, None),
        Verdict::Jump(chain) => (NFT_JUMP, Some(chain)),
        Verdict::Goto(chain) => (NFT_GOTO, Some(chain)),
    };
    body.nest(NFTA_DATA_VERDICT, |body| {
        body.be32(NFTA_VERDICT_CODE, code);
        if let Some(chain) = chain {
            body.text(NFTA_VERDICT_CHAIN, chain);
        }
    });
}

/// Reads `NFTA_DATA_VERDICT`.
pub(super) fn read_verdict(attribute: Attribute<'_>) -> Option<Verdict> {
    let parts = attribute.nested();
    let chain = || Some(parts.find(NFTA_VERDICT_CHAIN)?.text()?.to_owned());
    match parts.find(NFTA_VERDICT_CODE)?.be32()? {
        NF_ACCEPT => Some(Verdict::Accept),
        NF_DROP => Some(Verdict::Drop),
        NFT_RETURN => Some(Verdict::Return),
        NFT_JUMP => Some(Verdict::Jump(chain()?)),
        NFT_GOTO => Some(Verdict::Goto(chain()?)),
        _ => None,
    }
}

/// What a counter expression counted; `None` for any other expression.
pub(super) fn read_count(expression: Attributes<'_>) -> Option<Count> {
    if expression.find(NFTA_EXPR_NAME)?.text()? != "counter" {
        return None;
    }
    let data = expression.find(NFTA_EXPR_DATA)?.nested();
    Some(Count {
        packets: data.find(NFTA_COUNTER_PACKETS)?.be64()?,
        octets: data.find(NFTA_COUNTER_BYTES)?.be64()?,
    })
}
