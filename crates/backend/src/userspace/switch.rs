//! From relays to rules and back while connections go on.
//!
//! Rules for new connections would take a connection that a relay carries for a new one, since the kernel has not
//! tracked it; and it would forget how it translates those that rules have made, once the last rule is gone.
//! A table without a rule that does anything keeps the kernel tracking in between.
//!
//! ```text
//!  relays ──► table ──► each relayed connection sends a packet: tracked, translated by nobody ──► rules ──► no table
//!  rules ──► table ──► no rules; relays ──► the last translated connection has ended ──► no table
//! ```

use super::Error;
use super::connection::Connection;
use kernel::Errno;
use kernel::conntrack::{self, Which};
use kernel::netlink::Socket;
use kernel::nft::{Transaction, tables};
use model::Family;
use netstate::nft::{
    Chain, ChainKind, Field, Hook, HookPoint, Rule, Statement, Table, TableId, Verdict,
};
use std::time::{Duration, Instant};

const TABLE: &str = "podway-switch";
/// Where connections are tracked (`NF_IP_PRI_CONNTRACK`) and a little later.
const TRACKED: i32 = -150;
const DSTNAT: i32 = -100;
const SRCNAT: i32 = 100;
/// `ct state new`.
const NEW: u32 = 8;
/// Between looks whether translated connections are left.
const LOOK: Duration = Duration::from_secs(10);
/// They are kept no longer: as long as those of mode ipvs.
const LONGEST: Duration = Duration::from_mins(15);

/// Has the kernel track what relays carry, in the network namespace of the calling thread: rules that come after this
/// leave it alone. [`super::clean`] ends it.
pub fn spare() -> Result<(), Error> {
    let Some((mut connection, _)) = Connection::find()? else { return Ok(()) };
    track()?;
    Ok(connection.probe()?)
}

/// Has the kernel go on with connections that it translates when there is no rule any more that does; ends by itself
/// ([`Kept`]).
pub(crate) fn keep() -> Result<(), Error> {
    let tracked = kernel::sysctl::read("net/netfilter/nf_conntrack_count");
    if tracked.is_ok_and(|number| number == "0") {
        return Ok(());
    }
    match track() {
        // Whoever may not make a table has made no rules either.
        Err(error) if error.errno() == Some(Errno::EPERM) => Ok(()),
        outcome => Ok(outcome?),
    }
}

/// The table is no longer needed.
pub(super) fn release() -> kernel::Result<()> {
    let mut socket = Socket::netfilter()?;
    let there = tables(&mut socket)?;
    let mut transaction = Transaction::new();
    for id in Family::ALL.map(table_id).iter().filter(|id| there.contains(id)) {
        transaction.delete_table(id);
    }
    transaction.commit(&mut socket).map(drop)
}

/// Translated connections that go on for a while.
#[derive(Debug)]
pub(super) struct Kept {
    since: Instant,
    due: Instant,
}

impl Kept {
    /// `None`: there is nothing to keep.
    pub(super) fn find(now: Instant) -> Option<Self> {
        // Whoever may not read tables has made none.
        let there = Socket::netfilter().and_then(|mut socket| tables(&mut socket)).ok()?;
        let ours = |id: &TableId| id.name == TABLE;
        there.iter().any(ours).then(|| Kept { since: now, due: now + LOOK })
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// True: the last one has ended, or was kept for long enough.
    pub(super) fn sweep(&mut self, now: Instant) -> Result<bool, Error> {
        if now < self.due {
            return Ok(false);
        }
        self.due = now + LOOK;
        let mut socket = Socket::netfilter()?;
        let translated = |it: &conntrack::Connection| it.destination_translated();
        let left = conntrack::connections(&mut socket, Which::Both, translated)?;
        if !left.is_empty() && now.saturating_duration_since(self.since) < LONGEST {
            return Ok(false);
        }
        release()?;
        Ok(true)
    }
}

fn track() -> kernel::Result<()> {
    let mut socket = Socket::netfilter()?;
    let there = tables(&mut socket)?;
    let mut transaction = Transaction::new();
    for table in Family::ALL.map(table).iter().filter(|table| !there.contains(&table.id)) {
        transaction.whole(table);
    }
    transaction.commit(&mut socket).map(drop)
}

fn table_id(family: Family) -> TableId {
    let family = match family {
        Family::V4 => netstate::nft::Family::Ip,
        Family::V6 => netstate::nft::Family::Ip6,
    };
    TableId { family, name: TABLE.to_owned() }
}

/// A question about tracking makes the kernel track, and chains for translation make it translate.
fn table(family: Family) -> Table {
    let new = NEW.to_ne_bytes().to_vec();
    let is_new =
        Statement::Match { field: Field::ConntrackState, mask: None, negate: false, value: new };
    let rule = Rule {
        statements: vec![is_new, Statement::Verdict(Verdict::Accept)],
        comment: "connections of another proxy mode go on".to_owned(),
    };
    let chain = |kind, point, priority, rules| {
        let hook = Some(Hook { kind, point, priority });
        Chain { hook, rules }
    };
    let nat = |point, priority| chain(ChainKind::Nat, point, priority, Vec::new());
    let tracked = chain(ChainKind::Filter, HookPoint::Prerouting, TRACKED, vec![rule]);
    let chains = [
        ("tracked", tracked),
        ("prerouting", nat(HookPoint::Prerouting, DSTNAT)),
        ("output", nat(HookPoint::Output, DSTNAT)),
        ("input", nat(HookPoint::Input, SRCNAT)),
        ("postrouting", nat(HookPoint::Postrouting, SRCNAT)),
    ];
    let chains = chains.map(|(name, chain)| (name.to_owned(), chain)).into();
    Table { id: table_id(family), sets: Default::default(), chains }
}
