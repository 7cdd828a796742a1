//! TCP connections ended from the middle.
//!
//! The kernel tells nobody the numbers that a reset needs, but the client knows them. A forged SYN makes it answer
//! with a challenge (RFC 5961 §4.2), whose acknowledgement is the very number that it expects next; a rule answers
//! that with a reset, in the name of the front end.

use kernel::conntrack::{self, Connection, TcpState};
use kernel::netlink::Socket;
use kernel::nft::Transaction;
use kernel::packet::send_forged_syn;
use model::Family;
use netstate::nft::{
    Chain, ChainKind, DataType, Element, ElementValue, Field, Hook, HookPoint, Key, Rule, Set,
    SetData, Statement, Table, TableId, Verdict,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tracing::debug;

const TABLE: &str = "podway-resets";
/// From clients to front ends: their next packet is answered with a reset.
const ENDED: &str = "ended";
/// From front ends to clients: forged and never tracked.
const FORGED: &str = "forged";
/// Before connections are tracked.
const RAW: i32 = -300;
const IPPROTO_TCP: u8 = 6;
/// More connections in one go are left to end by themselves.
const MOST: u32 = 1 << 16;
/// Between challenges of one client. One may be lost, and a client answers only one in half a second
/// (`net.ipv4.tcp_invalid_ratelimit`).
const AGAIN: Duration = Duration::from_millis(700);
/// Who answers none of these is gone itself, or was reset before.
const CHALLENGES: u32 = 3;

pub(super) struct Resetter {
    socket: Socket,
    /// Connections whose clients are being reset; there are rules for them.
    ending: Vec<Ending>,
    /// Whether rules may be left of nobody: also those of an agent that was killed.
    is_untidy: bool,
}

struct Ending {
    ends: Ends,
    /// How often the client was challenged.
    challenges: u32,
    /// When that is done again; after the last one, when the rules are not needed any more.
    next: Instant,
}

impl Resetter {
    pub(super) fn new() -> kernel::Result<Self> {
        Ok(Resetter { socket: Socket::netfilter()?, ending: Vec::new(), is_untidy: true })
    }

    /// Resets these connections and forgets them; returns how many.
    pub(super) fn reset(
        &mut self,
        conntrack: &mut Socket,
        connections: &[Connection],
        now: Instant,
    ) -> kernel::Result<u64> {
        let ends: Vec<_> = connections.iter().take(MOST as usize).filter_map(ends).collect();
        let established = ends.iter().filter(|ends| ends.established);
        let new = established.map(|&ends| Ending { ends, challenges: 0, next: now });
        self.ending.extend(new);
        self.put_rules()?;
        let mut reset = 0;
        for connection in connections.iter().take(ends.len()) {
            let Connection { original, zone, id, .. } = connection;
            reset += u64::from(conntrack::delete(conntrack, original, *zone, Some(*id))?);
        }
        self.tend(now)?;
        Ok(reset)
    }

    /// When there is something to do next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.ending.iter().map(|ending| ending.next).min()
    }

    /// Challenges whoever may not have been reset yet, and removes the rules when they have done their work.
    pub(super) fn tend(&mut self, now: Instant) -> kernel::Result<()> {
        self.ending.retain(|ending| ending.challenges < CHALLENGES || ending.next > now);
        for ending in self.ending.iter_mut().filter(|ending| ending.next <= now) {
            ending.challenges += 1;
            ending.next = now + AGAIN;
            // A client that cannot be reached any more needs no reset.
            if let Err(error) = send_forged_syn(ending.ends.frontend, ending.ends.client) {
                debug!(client = %ending.ends.client, %error, "cannot be challenged");
            }
        }
        if self.is_untidy && self.ending.is_empty() {
            self.remove_rules()?;
            self.is_untidy = false;
        }
        Ok(())
    }

    fn put_rules(&mut self) -> kernel::Result<()> {
        self.is_untidy = true;
        for family in Family::ALL {
            let ends = self.ending.iter().map(|ending| ending.ends);
            let ends: Vec<_> = ends.filter(|it| Family::of(it.client.ip()) == family).collect();
            if !ends.is_empty() {
                let table = table(family, &ends);
                let mut transaction = Transaction::new();
                transaction.delete_table(&table.id).whole(&table);
                transaction.commit(&mut self.socket)?;
            }
        }
        Ok(())
    }

    fn remove_rules(&mut self) -> kernel::Result<()> {
        let there = kernel::nft::tables(&mut self.socket)?;
        let mut transaction = Transaction::new();
        for id in Family::ALL.map(table_id).iter().filter(|id| there.contains(id)) {
            transaction.delete_table(id);
        }
        transaction.commit(&mut self.socket).map(drop)
    }
}

/// The ends of a connection as its client sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ends {
    client: SocketAddr,
    frontend: SocketAddr,
    /// Else its next SYN finds another endpoint, once the entry is forgotten.
    established: bool,
}

fn ends(connection: &Connection) -> Option<Ends> {
    let original = &connection.original;
    Some(Ends {
        client: SocketAddr::new(original.source, original.source_port()?),
        frontend: SocketAddr::new(original.destination, original.destination_port()?),
        established: connection.tcp_state == Some(TcpState::Established),
    })
}

fn table_id(family: Family) -> TableId {
    let family = match family {
        Family::V4 => netstate::nft::Family::Ip,
        Family::V6 => netstate::nft::Family::Ip6,
    };
    TableId { family, name: TABLE.to_owned() }
}

fn table(family: Family, connections: &[Ends]) -> Table {
    let ip = match family {
        Family::V4 => DataType::Ipv4,
        Family::V6 => DataType::Ipv6,
    };
    let set = |key: fn(&Ends) -> Key| {
        let element = Element { until: None, value: ElementValue::None, comment: "".into() };
        let elements = connections.iter().map(|ends| (key(ends), element.clone())).collect();
        let key = vec![ip, DataType::Port, ip, DataType::Port];
        let (data, dynamic) = (SetData::None, None);
        Set { key, data, interval: false, counters: false, dynamic, elements }
    };
    let ended = set(|ends| flow(ends.client, ends.frontend));
    let forged = set(|ends| flow(ends.frontend, ends.client));
    let sets = [(ENDED.to_owned(), ended), (FORGED.to_owned(), forged)].into();
    let chain = |point, rules| {
        let hook = Some(Hook { kind: ChainKind::Filter, point, priority: RAW });
        Chain { hook, rules }
    };
    let output = vec![untracked(), answered()];
    let chains = BTreeMap::from([
        ("prerouting".to_owned(), chain(HookPoint::Prerouting, vec![answered()])),
        ("output".to_owned(), chain(HookPoint::Output, output)),
    ]);
    Table { id: table_id(family), sets, chains }
}

fn flow(from: SocketAddr, to: SocketAddr) -> Key {
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let key = Key::new().part(&address(from.ip())).part(&from.port().to_be_bytes());
    key.part(&address(to.ip())).part(&to.port().to_be_bytes())
}

fn fields() -> Vec<Field> {
    vec![Field::SourceAddress, Field::SourcePort, Field::DestinationAddress, Field::DestinationPort]
}

fn is_tcp() -> Statement {
    Statement::Match { field: Field::Protocol, mask: None, negate: false, value: vec![IPPROTO_TCP] }
}

fn is_in(set: &str) -> Statement {
    Statement::InSet { key: fields(), set: set.to_owned(), negate: false }
}

fn answered() -> Rule {
    let statements = vec![is_tcp(), is_in(ENDED), Statement::Reject];
    Rule { statements, comment: "its endpoint is gone".to_owned() }
}

fn untracked() -> Rule {
    let accept = Statement::Verdict(Verdict::Accept);
    let statements = vec![is_tcp(), is_in(FORGED), Statement::Notrack, accept];
    Rule { statements, comment: "challenge or reset of ours".to_owned() }
}
