//! Numbers of linux/netfilter/nf_tables.h and nfnetlink.h, by the kernel's names.

use netstate::nft::{Family, TableId};

pub(super) const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
pub(super) const NFNL_MSG_BATCH_END: u16 = 0x11;

const SUBSYSTEM: u16 = 10 << 8;
pub(super) const NFT_MSG_NEWTABLE: u16 = SUBSYSTEM;
pub(super) const NFT_MSG_GETTABLE: u16 = SUBSYSTEM | 1;
pub(super) const NFT_MSG_DELTABLE: u16 = SUBSYSTEM | 2;
pub(super) const NFT_MSG_NEWCHAIN: u16 = SUBSYSTEM | 3;
pub(super) const NFT_MSG_GETCHAIN: u16 = SUBSYSTEM | 4;
pub(super) const NFT_MSG_DELCHAIN: u16 = SUBSYSTEM | 5;
pub(super) const NFT_MSG_NEWRULE: u16 = SUBSYSTEM | 6;
pub(super) const NFT_MSG_GETRULE: u16 = SUBSYSTEM | 7;
pub(super) const NFT_MSG_DELRULE: u16 = SUBSYSTEM | 8;
pub(super) const NFT_MSG_NEWSET: u16 = SUBSYSTEM | 9;
pub(super) const NFT_MSG_GETSET: u16 = SUBSYSTEM | 10;
pub(super) const NFT_MSG_DELSET: u16 = SUBSYSTEM | 11;
pub(super) const NFT_MSG_NEWSETELEM: u16 = SUBSYSTEM | 12;
pub(super) const NFT_MSG_GETSETELEM: u16 = SUBSYSTEM | 13;
pub(super) const NFT_MSG_DELSETELEM: u16 = SUBSYSTEM | 14;
pub(super) const NFT_MSG_GETGEN: u16 = SUBSYSTEM | 16;

pub(super) const NFTA_LIST_ELEM: u16 = 1;
pub(super) const NFTA_GEN_ID: u16 = 1;
pub(super) const NFTA_TABLE_NAME: u16 = 1;

pub(super) const NFTA_CHAIN_TABLE: u16 = 1;
pub(super) const NFTA_CHAIN_NAME: u16 = 3;
pub(super) const NFTA_CHAIN_HOOK: u16 = 4;
pub(super) const NFTA_CHAIN_POLICY: u16 = 5;
pub(super) const NFTA_CHAIN_TYPE: u16 = 7;
pub(super) const NFTA_HOOK_HOOKNUM: u16 = 1;
pub(super) const NFTA_HOOK_PRIORITY: u16 = 2;
pub(super) const NF_ACCEPT: u32 = 1;
pub(super) const NF_DROP: u32 = 0;

pub(super) const NFTA_RULE_TABLE: u16 = 1;
pub(super) const NFTA_RULE_CHAIN: u16 = 2;
pub(super) const NFTA_RULE_EXPRESSIONS: u16 = 4;
pub(super) const NFTA_RULE_USERDATA: u16 = 7;

pub(super) const NFTA_SET_TABLE: u16 = 1;
pub(super) const NFTA_SET_NAME: u16 = 2;
pub(super) const NFTA_SET_FLAGS: u16 = 3;
pub(super) const NFTA_SET_KEY_TYPE: u16 = 4;
pub(super) const NFTA_SET_KEY_LEN: u16 = 5;
pub(super) const NFTA_SET_DATA_TYPE: u16 = 6;
pub(super) const NFTA_SET_DATA_LEN: u16 = 7;
pub(super) const NFTA_SET_ID: u16 = 10;
pub(super) const NFTA_SET_USERDATA: u16 = 13;
pub(super) const NFTA_SET_EXPR: u16 = 17;
pub(super) const NFTA_SET_EXPRESSIONS: u16 = 18;
pub(super) const NFTA_SET_COUNT: u16 = 20;
pub(super) const NFT_SET_ANONYMOUS: u32 = 0x1;
pub(super) const NFT_SET_CONSTANT: u32 = 0x2;
pub(super) const NFT_SET_EXPR: u32 = 0x100;
pub(super) const NFT_SET_INTERVAL: u32 = 0x4;
pub(super) const NFT_SET_MAP: u32 = 0x8;
pub(super) const NFT_SET_TIMEOUT: u32 = 0x10;
pub(super) const NFT_SET_EVAL: u32 = 0x20;
pub(super) const NFTA_SET_DESC: u16 = 9;
pub(super) const NFTA_SET_DESC_SIZE: u16 = 1;
pub(super) const NFT_DATA_VERDICT: u32 = 0xffff_ff00;

pub(super) const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
pub(super) const NFTA_SET_ELEM_LIST_SET: u16 = 2;
pub(super) const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
pub(super) const NFTA_SET_ELEM_KEY: u16 = 1;
pub(super) const NFTA_SET_ELEM_DATA: u16 = 2;
pub(super) const NFTA_SET_ELEM_FLAGS: u16 = 3;
pub(super) const NFTA_SET_ELEM_USERDATA: u16 = 6;
pub(super) const NFTA_SET_ELEM_EXPR: u16 = 7;
pub(super) const NFTA_SET_ELEM_EXPRESSIONS: u16 = 11;
pub(super) const NFT_SET_ELEM_INTERVAL_END: u32 = 1;
pub(super) const NFT_SET_ELEM_CATCHALL: u32 = 2;

pub(super) const NFTA_DATA_VALUE: u16 = 1;
pub(super) const NFTA_DATA_VERDICT: u16 = 2;
pub(super) const NFTA_VERDICT_CODE: u16 = 1;
pub(super) const NFTA_VERDICT_CHAIN: u16 = 2;
pub(super) const NFT_JUMP: u32 = (-3_i32).cast_unsigned();
pub(super) const NFT_GOTO: u32 = (-4_i32).cast_unsigned();
pub(super) const NFT_RETURN: u32 = (-5_i32).cast_unsigned();

pub(super) const NFTA_EXPR_NAME: u16 = 1;
pub(super) const NFTA_EXPR_DATA: u16 = 2;
/// The verdict register.
pub(super) const NFT_REG_VERDICT: u32 = 0;
/// The first of sixteen registers of four octets; 1 to 4 name the same memory in steps of sixteen.
pub(super) const NFT_REG32_00: u32 = 8;
pub(super) const NFTA_IMMEDIATE_DREG: u16 = 1;
pub(super) const NFTA_IMMEDIATE_DATA: u16 = 2;
pub(super) const NFTA_BITWISE_SREG: u16 = 1;
pub(super) const NFTA_BITWISE_DREG: u16 = 2;
pub(super) const NFTA_BITWISE_LEN: u16 = 3;
pub(super) const NFTA_BITWISE_MASK: u16 = 4;
pub(super) const NFTA_BITWISE_XOR: u16 = 5;
pub(super) const NFTA_BITWISE_OP: u16 = 6;
pub(super) const NFTA_CMP_SREG: u16 = 1;
pub(super) const NFTA_CMP_OP: u16 = 2;
pub(super) const NFTA_CMP_DATA: u16 = 3;
pub(super) const NFT_CMP_EQ: u32 = 0;
pub(super) const NFT_CMP_NEQ: u32 = 1;
pub(super) const NFTA_LOOKUP_SET: u16 = 1;
pub(super) const NFTA_LOOKUP_SREG: u16 = 2;
pub(super) const NFTA_LOOKUP_DREG: u16 = 3;
pub(super) const NFTA_LOOKUP_FLAGS: u16 = 5;
pub(super) const NFT_LOOKUP_F_INV: u32 = 1;
pub(super) const NFTA_PAYLOAD_DREG: u16 = 1;
pub(super) const NFTA_PAYLOAD_BASE: u16 = 2;
pub(super) const NFTA_PAYLOAD_OFFSET: u16 = 3;
pub(super) const NFTA_PAYLOAD_LEN: u16 = 4;
pub(super) const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
pub(super) const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;
pub(super) const NFTA_META_DREG: u16 = 1;
pub(super) const NFTA_META_KEY: u16 = 2;
pub(super) const NFTA_META_SREG: u16 = 3;
pub(super) const NFT_META_PRIORITY: u32 = 2;
pub(super) const NFT_META_MARK: u32 = 3;
pub(super) const NFT_META_IIFNAME: u32 = 6;
pub(super) const NFT_META_L4PROTO: u32 = 16;
pub(super) const NFTA_CT_DREG: u16 = 1;
pub(super) const NFTA_CT_KEY: u16 = 2;
pub(super) const NFTA_CT_DIRECTION: u16 = 3;
pub(super) const NFT_CT_STATE: u32 = 0;
pub(super) const NFT_CT_STATUS: u32 = 2;
pub(super) const NFT_CT_PROTO_DST: u32 = 12;
pub(super) const NFT_CT_DST_IP: u32 = 20;
pub(super) const NFT_CT_DST_IP6: u32 = 22;
pub(super) const IP_CT_DIR_ORIGINAL: u8 = 0;
pub(super) const NFTA_NG_DREG: u16 = 1;
pub(super) const NFTA_NG_MODULUS: u16 = 2;
pub(super) const NFTA_NG_TYPE: u16 = 3;
pub(super) const NFTA_NG_OFFSET: u16 = 4;
pub(super) const NFT_NG_RANDOM: u32 = 1;
pub(super) const NFTA_NAT_TYPE: u16 = 1;
pub(super) const NFTA_NAT_FAMILY: u16 = 2;
pub(super) const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
pub(super) const NFTA_NAT_REG_ADDR_MAX: u16 = 4;
pub(super) const NFTA_NAT_REG_PROTO_MIN: u16 = 5;
pub(super) const NFTA_NAT_REG_PROTO_MAX: u16 = 6;
pub(super) const NFTA_NAT_FLAGS: u16 = 7;
pub(super) const NFT_NAT_DNAT: u32 = 1;
/// `NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED`: what the kernel infers from the registers.
pub(super) const NF_NAT_RANGE_INFERRED: u32 = 3;
pub(super) const NFTA_MASQ_FLAGS: u16 = 1;
pub(super) const NF_NAT_RANGE_PROTO_RANDOM_FULLY: u32 = 1 << 4;
pub(super) const NFTA_REJECT_TYPE: u16 = 1;
pub(super) const NFTA_REJECT_ICMP_CODE: u16 = 2;
pub(super) const NFT_REJECT_ICMP_UNREACH: u32 = 0;
pub(super) const NFT_REJECT_TCP_RST: u32 = 1;
pub(super) const NFTA_COUNTER_BYTES: u16 = 1;
pub(super) const NFTA_COUNTER_PACKETS: u16 = 2;
pub(super) const NFTA_FIB_DREG: u16 = 1;
pub(super) const NFTA_FIB_RESULT: u16 = 2;
pub(super) const NFTA_FIB_FLAGS: u16 = 3;
pub(super) const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
pub(super) const NFTA_FIB_F_SADDR: u32 = 1;
pub(super) const NFTA_FIB_F_DADDR: u32 = 2;
pub(super) const NFTA_HASH_SREG: u16 = 1;
pub(super) const NFTA_HASH_DREG: u16 = 2;
pub(super) const NFTA_HASH_LEN: u16 = 3;
pub(super) const NFTA_HASH_MODULUS: u16 = 4;
pub(super) const NFTA_HASH_SEED: u16 = 5;
pub(super) const NFTA_HASH_OFFSET: u16 = 6;
pub(super) const NFTA_HASH_TYPE: u16 = 7;
pub(super) const NFT_HASH_JENKINS: u32 = 0;
pub(super) const NFTA_DYNSET_SET_NAME: u16 = 1;
pub(super) const NFTA_DYNSET_OP: u16 = 3;
pub(super) const NFTA_DYNSET_SREG_KEY: u16 = 4;
pub(super) const NFTA_DYNSET_SREG_DATA: u16 = 5;
pub(super) const NFTA_DYNSET_TIMEOUT: u16 = 6;
pub(super) const NFT_DYNSET_OP_UPDATE: u32 = 1;

/// Octets of `struct nfgenmsg`, which begins every message.
pub(super) const GENERIC: usize = 4;

/// `struct nfgenmsg`.
pub(super) fn generic(table: &TableId) -> [u8; GENERIC] {
    [family_number(table.family), 0, 0, 0]
}

/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
pub(super) fn family_number(family: Family) -> u8 {
    match family {
        Family::Ip => 2,
        Family::Ip6 => 10,
    }
}

/// The octets of user data that nft reads as a comment: type 0, length, text with its NUL.
///
/// The same for rules (`NFTNL_UDATA_RULE_COMMENT`) and elements (`NFTNL_UDATA_SET_ELEM_COMMENT`).
pub(super) fn read_comment(mut userdata: &[u8]) -> Option<&str> {
    while let [kind, length, rest @ ..] = userdata {
        let value = rest.get(..usize::from(*length))?;
        if *kind == 0 {
            return std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok();
        }
        userdata = rest.get(value.len()..)?;
    }
    None
}

/// Octets of the longest comment of rules and elements.
///
/// The kernel takes user data of 256 octets, but counts those of an element, itself and the count, in one octet: from
/// 252 on it refuses the comment, or, at 253, loses it without a word.
pub(super) const COMMENT_CAPACITY: usize = 251;
