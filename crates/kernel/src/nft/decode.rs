//! Register expressions back to statements: the inverse of `expression`, and nothing beyond it.

use super::abi::*;
use super::expression::{
    Answer, TCP, address_place, original_destination, port_unreachable, read_count, read_verdict,
};
use super::read::Count;
use crate::netlink::Attributes;
use netstate::nft::{AddressSide, Family, Field, Statement};

/// One kernel rule in statements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decoded {
    pub(super) statements: Vec<Statement>,
    /// What the rule's [`Statement::Reject`] answers with: half of the statement's meaning.
    pub(super) answer: Option<Answer>,
    /// What the rule's first counter counted.
    pub(super) count: Option<Count>,
}

impl Decoded {
    /// Whether `self`, for TCP, and `other`, for the rest, are the two halves of one rejecting rule.
    pub(super) fn is_half_of(&self, other: &Decoded) -> bool {
        let only_tcp = Statement::Match {
            field: Field::Protocol,
            mask: None,
            negate: false,
            value: vec![TCP],
        };
        (self.answer, other.answer) == (Some(Answer::TcpReset), Some(Answer::PortUnreachable))
            && self.statements.first() == Some(&only_tcp)
            && self.statements[1..] == other.statements
    }

    /// The rule on its own, where half a [`Statement::Reject`] is none.
    pub(super) fn alone(self) -> Vec<Statement> {
        let word = match self.answer {
            Some(Answer::TcpReset) => "reject with tcp reset",
            _ => "reject with icmp port-unreachable",
        };
        let half = |statement| match statement {
            Statement::Reject => Statement::Unknown(word.to_owned()),
            whole => whole,
        };
        self.statements.into_iter().map(half).collect()
    }
}

/// Reads `NFTA_RULE_EXPRESSIONS`.
pub(super) fn read_rule(family: Family, expressions: Attributes<'_>) -> Decoded {
    let decoded = Decoded { statements: Vec::new(), answer: None, count: None };
    let mut reader = Reader { family, decoded, loads: Vec::new(), pending: None };
    for expression in expressions.map(|item| item.nested()) {
        let name = expression.find(NFTA_EXPR_NAME).and_then(|name| name.text()).unwrap_or_default();
        let data =
            expression.find(NFTA_EXPR_DATA).map_or(Attributes::new(&[]), |data| data.nested());
        if name == "counter" {
            reader.decoded.count = reader.decoded.count.or(read_count(expression));
        }
        if reader.expression(name, &data).is_none() {
            reader.give_up(name);
        }
    }
    reader.finish()
}

/// A field in a register.
#[derive(Debug, Clone)]
struct Load {
    /// From the first register of four octets.
    register: u32,
    length: u32,
    field: Field,
    change: Option<Change>,
}

/// What `bitwise` did to it.
#[derive(Debug, Clone)]
struct Change {
    mask: Vec<u8>,
    xor: Vec<u8>,
}

/// A map's value, in the first registers.
#[derive(Debug)]
struct Mapped {
    key: Vec<Field>,
    map: String,
}

struct Reader {
    family: Family,
    decoded: Decoded,
    /// In order of their registers, one behind the other.
    loads: Vec<Load>,
    pending: Option<Mapped>,
}

impl Reader {
    /// Takes one expression in; `None` when it, with what is in the registers, is nothing that is ever written here.
    fn expression(&mut self, name: &str, data: &Attributes<'_>) -> Option<()> {
        match name {
            "payload" => self.payload(data),
            "meta" if data.find(NFTA_META_SREG).is_some() => self.set_meta(data),
            "meta" => self.meta(data),
            "ct" => self.conntrack(data),
            "numgen" => self.random(data),
            "fib" => self.fib(data),
            "hash" => self.hash(data),
            "dynset" => self.update(data),
            "immediate" => self.immediate(data),
            "bitwise" => self.bitwise(data),
            "cmp" => self.compare(data),
            "lookup" => self.lookup(data),
            "nat" => self.nat(data),
            "counter" => self.push(Statement::Counter),
            "masq" => self.masquerade(data),
            "notrack" => self.push(Statement::Notrack),
            "reject" => self.reject(data),
            _ => None,
        }
    }

    fn finish(mut self) -> Decoded {
        if !self.loads.is_empty() || self.pending.is_some() {
            self.give_up("registers that nothing reads");
        }
        self.decoded
    }

    fn give_up(&mut self, name: &str) {
        self.loads.clear();
        self.pending = None;
        self.decoded.statements.push(Statement::Unknown(name.to_owned()));
    }

    /// A statement that needs nothing from the registers.
    fn push(&mut self, statement: Statement) -> Option<()> {
        if !self.loads.is_empty() || self.pending.is_some() {
            return None;
        }
        self.decoded.statements.push(statement);
        Some(())
    }

    fn load(
        &mut self,
        data: &Attributes<'_>,
        attribute: u16,
        field: Field,
        length: u32,
    ) -> Option<()> {
        let register = register(data, attribute)?;
        self.loads.push(Load { register, length, field, change: None });
        Some(())
    }

    fn payload(&mut self, data: &Attributes<'_>) -> Option<()> {
        let number = |kind| data.find(kind)?.be32();
        let place =
            (number(NFTA_PAYLOAD_BASE)?, number(NFTA_PAYLOAD_OFFSET)?, number(NFTA_PAYLOAD_LEN)?);
        let (source, length) = address_place(self.family);
        let (network, transport) = (NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER);
        let field = match place {
            _ if place == (network, source, length) => Field::SourceAddress,
            _ if place == (network, source + length, length) => Field::DestinationAddress,
            _ if place == (transport, 0, 2) => Field::SourcePort,
            _ if place == (transport, 2, 2) => Field::DestinationPort,
            _ => return None,
        };
        self.load(data, NFTA_PAYLOAD_DREG, field, place.2)
    }

    fn meta(&mut self, data: &Attributes<'_>) -> Option<()> {
        let (field, length) = match data.find(NFTA_META_KEY)?.be32()? {
            NFT_META_MARK => (Field::Mark, 4),
            NFT_META_PRIORITY => (Field::Priority, 4),
            NFT_META_L4PROTO => (Field::Protocol, 1),
            NFT_META_IIFNAME => (Field::InputInterface, 16),
            _ => return None,
        };
        self.load(data, NFTA_META_DREG, field, length)
    }

    fn conntrack(&mut self, data: &Attributes<'_>) -> Option<()> {
        let direction = data.find(NFTA_CT_DIRECTION).map(|direction| direction.u8());
        let original = direction == Some(Some(IP_CT_DIR_ORIGINAL));
        let (field, length) = match data.find(NFTA_CT_KEY)?.be32()? {
            NFT_CT_STATE if direction.is_none() => (Field::ConntrackState, 4),
            NFT_CT_STATUS if direction.is_none() => (Field::ConntrackStatus, 4),
            NFT_CT_PROTO_DST if original => (Field::ConntrackOriginalPort, 2),
            key if original && key == original_destination(self.family) => {
                (Field::ConntrackOriginalDestination, address_place(self.family).1)
            }
            _ => return None,
        };
        self.load(data, NFTA_CT_DREG, field, length)
    }

    fn random(&mut self, data: &Attributes<'_>) -> Option<()> {
        let number = |kind| data.find(kind)?.be32();
        let offset = number(NFTA_NG_OFFSET).unwrap_or(0);
        if number(NFTA_NG_TYPE)? != NFT_NG_RANDOM {
            return None;
        }
        let modulus = number(NFTA_NG_MODULUS)?;
        self.load(data, NFTA_NG_DREG, Field::Random { modulus, offset }, 4)
    }

    /// The address that is hashed is in the register that the hash goes to.
    fn hash(&mut self, data: &Attributes<'_>) -> Option<()> {
        let number = |kind| data.find(kind)?.be32();
        let load = self.loads.pop()?;
        let in_place = register(data, NFTA_HASH_SREG)? == load.register
            && register(data, NFTA_HASH_DREG)? == load.register
            && number(NFTA_HASH_LEN)? == load.length
            && load.change.is_none();
        let of = side(&load.field).filter(|_| in_place)?;
        if number(NFTA_HASH_TYPE).unwrap_or(NFT_HASH_JENKINS) != NFT_HASH_JENKINS {
            return None;
        }
        let (modulus, seed) = (number(NFTA_HASH_MODULUS)?, number(NFTA_HASH_SEED)?);
        let offset = number(NFTA_HASH_OFFSET).unwrap_or(0);
        let field = Field::AddressHash { of, modulus, seed, offset };
        self.load(data, NFTA_HASH_DREG, field, 4)
    }

    fn update(&mut self, data: &Attributes<'_>) -> Option<()> {
        let map = data.find(NFTA_DYNSET_SET_NAME)?.text()?.to_owned();
        let value = register(data, NFTA_DYNSET_SREG_DATA)?;
        if register(data, NFTA_DYNSET_SREG_KEY)? != 0 {
            return None;
        }
        if data.find(NFTA_DYNSET_OP)?.be32()? != NFT_DYNSET_OP_UPDATE {
            return None;
        }
        let milliseconds = data.find(NFTA_DYNSET_TIMEOUT)?.be64()?;
        let (value, key) = (self.key(value)?, self.key(0)?);
        let seconds = u32::try_from(milliseconds / 1000).ok()?;
        self.push(Statement::Remember { key, value, map, seconds })
    }

    fn fib(&mut self, data: &Attributes<'_>) -> Option<()> {
        let number = |kind| data.find(kind)?.be32();
        let asks = (number(NFTA_FIB_RESULT)?, number(NFTA_FIB_FLAGS)?);
        let field = match asks {
            (NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR) => Field::DestinationAddressType,
            (NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_SADDR) => Field::SourceAddressType,
            _ => return None,
        };
        self.load(data, NFTA_FIB_DREG, field, 4)
    }

    fn immediate(&mut self, data: &Attributes<'_>) -> Option<()> {
        let value = data.find(NFTA_IMMEDIATE_DATA)?.nested();
        if data.find(NFTA_IMMEDIATE_DREG)?.be32()? == NFT_REG_VERDICT {
            let verdict = read_verdict(value.find(NFTA_DATA_VERDICT)?)?;
            return self.push(Statement::Verdict(verdict));
        }
        let constant = value.find(NFTA_DATA_VALUE)?.value;
        let length = u32::try_from(constant.len()).ok()?;
        self.load(data, NFTA_IMMEDIATE_DREG, Field::Constant(constant.to_vec()), length)
    }

    fn bitwise(&mut self, data: &Attributes<'_>) -> Option<()> {
        let operation =
            data.find(NFTA_BITWISE_OP).and_then(|operation| operation.be32()).unwrap_or(0);
        let source = register(data, NFTA_BITWISE_SREG)?;
        let load = self.loads.last_mut()?;
        let length = data.find(NFTA_BITWISE_LEN)?.be32()?;
        let same = source == load.register
            && register(data, NFTA_BITWISE_DREG)? == source
            && length == load.length;
        if operation != 0 || !same || load.change.is_some() {
            return None;
        }
        load.change = Some(Change {
            mask: value(data, NFTA_BITWISE_MASK)?,
            xor: value(data, NFTA_BITWISE_XOR)?,
        });
        Some(())
    }

    fn compare(&mut self, data: &Attributes<'_>) -> Option<()> {
        let negate = match data.find(NFTA_CMP_OP)?.be32()? {
            NFT_CMP_EQ => false,
            NFT_CMP_NEQ => true,
            _ => return None,
        };
        let load = self.only_load(register(data, NFTA_CMP_SREG)?)?;
        let value = value(data, NFTA_CMP_DATA)?;
        let mask = match load.change {
            Some(change) if change.xor.iter().any(|octet| *octet != 0) => return None,
            change => change.map(|change| change.mask),
        };
        if value.len() != load.length as usize {
            return None;
        }
        self.push(Statement::Match { field: load.field, mask, negate, value })
    }

    fn set_meta(&mut self, data: &Attributes<'_>) -> Option<()> {
        match data.find(NFTA_META_KEY)?.be32()? {
            NFT_META_MARK => self.set_mark(data),
            NFT_META_PRIORITY => self.set_priority(data),
            _ => None,
        }
    }

    fn set_priority(&mut self, data: &Attributes<'_>) -> Option<()> {
        if let Some(Mapped { key, map }) = self.pending.take() {
            let in_place = register(data, NFTA_META_SREG)? == 0;
            return in_place.then(|| self.push(Statement::SetPriorityMap { key, map }))?;
        }
        match self.only_load(register(data, NFTA_META_SREG)?)?.field {
            Field::Constant(octets) => {
                let number = u32::from_ne_bytes(octets.try_into().ok()?);
                self.push(Statement::SetPriority(number))
            }
            _ => None,
        }
    }

    fn set_mark(&mut self, data: &Attributes<'_>) -> Option<()> {
        let load = self.only_load(register(data, NFTA_META_SREG)?)?;
        let change = load.change.filter(|_| load.field == Field::Mark)?;
        let number = |octets: Vec<u8>| Some(u32::from_ne_bytes(octets.try_into().ok()?));
        self.push(Statement::SetMark { and: number(change.mask)?, xor: number(change.xor)? })
    }

    /// What is in the registers, when it is one field, in this one.
    fn only_load(&mut self, register: u32) -> Option<Load> {
        match self.loads.as_slice() {
            [load] if load.register == register => self.loads.pop(),
            _ => None,
        }
    }

    /// The fields in the registers from this one to the last, when they fill them as keys do.
    fn key(&mut self, first: u32) -> Option<Vec<Field>> {
        let start = self.loads.iter().position(|load| load.register == first)?;
        let mut next = first;
        for load in &self.loads[start..] {
            if load.register != next {
                return None;
            }
            next += load.length.div_ceil(4);
        }
        self.loads.drain(start..).map(key_part).collect()
    }

    fn lookup(&mut self, data: &Attributes<'_>) -> Option<()> {
        let set = data.find(NFTA_LOOKUP_SET)?.text()?.to_owned();
        let negate = data.find(NFTA_LOOKUP_FLAGS).and_then(|flags| flags.be32()).unwrap_or(0)
            == NFT_LOOKUP_F_INV;
        let into = data.find(NFTA_LOOKUP_DREG).map(|register| register.be32());
        let key = self.key(register(data, NFTA_LOOKUP_SREG)?)?;
        match into {
            None => self.push(Statement::InSet { key, set, negate }),
            Some(Some(NFT_REG_VERDICT)) => self.push(Statement::VerdictMap { key, map: set }),
            Some(_) if register(data, NFTA_LOOKUP_DREG)? == 0 && self.pending.is_none() => {
                self.pending = Some(Mapped { key, map: set });
                Some(())
            }
            Some(_) => None,
        }
    }

    fn nat(&mut self, data: &Attributes<'_>) -> Option<()> {
        let number = |kind| data.find(kind)?.be32();
        let address = register(data, NFTA_NAT_REG_ADDR_MIN)?;
        let port = register(data, NFTA_NAT_REG_PROTO_MIN)?;
        let one = |kind, same| data.find(kind).is_none() || register(data, kind) == Some(same);
        let plain = number(NFTA_NAT_TYPE)? == NFT_NAT_DNAT
            && number(NFTA_NAT_FAMILY)? == u32::from(family_number(self.family))
            && (address, port) == (0, address_place(self.family).1 / 4)
            && one(NFTA_NAT_REG_ADDR_MAX, address)
            && one(NFTA_NAT_REG_PROTO_MAX, port)
            && number(NFTA_NAT_FLAGS).unwrap_or(0) & !NF_NAT_RANGE_INFERRED == 0;
        let Mapped { key, map } = self.pending.take().filter(|_| plain)?;
        self.push(Statement::DnatMap { key, map })
    }

    fn masquerade(&mut self, data: &Attributes<'_>) -> Option<()> {
        let flags = data.find(NFTA_MASQ_FLAGS)?.be32()?;
        let bare = data.clone().all(|attribute| attribute.kind == NFTA_MASQ_FLAGS);
        if !bare || flags != NF_NAT_RANGE_PROTO_RANDOM_FULLY {
            return None;
        }
        self.push(Statement::Masquerade)
    }

    fn reject(&mut self, data: &Attributes<'_>) -> Option<()> {
        let answer = match data.find(NFTA_REJECT_TYPE)?.be32()? {
            NFT_REJECT_TCP_RST => Answer::TcpReset,
            NFT_REJECT_ICMP_UNREACH
                if data.find(NFTA_REJECT_ICMP_CODE)?.u8()? == port_unreachable(self.family) =>
            {
                Answer::PortUnreachable
            }
            _ => return None,
        };
        if self.decoded.answer.replace(answer).is_some() {
            return None;
        }
        self.push(Statement::Reject)
    }
}

fn side(field: &Field) -> Option<AddressSide> {
    match field {
        Field::SourceAddress => Some(AddressSide::Source),
        Field::DestinationAddress => Some(AddressSide::Destination),
        _ => None,
    }
}

/// A field in a key: as it is, or an address cut to a prefix.
fn key_part(load: Load) -> Option<Field> {
    match load.change {
        None => Some(load.field),
        Some(Change { mask, xor }) if xor.iter().all(|octet| *octet == 0) => {
            Some(Field::Masked { of: side(&load.field)?, mask })
        }
        Some(_) => None,
    }
}

/// A register's place, counted from the first of the sixteen.
fn register(data: &Attributes<'_>, attribute: u16) -> Option<u32> {
    match data.find(attribute)?.be32()? {
        whole @ 1..=4 => Some((whole - 1) * 4),
        quarter => quarter.checked_sub(NFT_REG32_00),
    }
}

/// The octets of a nested `NFTA_DATA_VALUE`.
fn value(data: &Attributes<'_>, attribute: u16) -> Option<Vec<u8>> {
    Some(data.find(attribute)?.nested().find(NFTA_DATA_VALUE)?.value.to_vec())
}
