//! The rules kept as the program wants them.

use super::frame::Frame;
use super::lower::{self, Index};
use super::tool::{Error, Tool, Variant, exists};
use model::Family;
use netstate::iptables::{ChainDelta, Delta, RuleSet, TableName};
use program::{Change, Program};
use std::collections::BTreeMap;

/// Whether packets outside of the window are taken for valid.
const LIBERAL: &str = "net/netfilter/nf_conntrack_tcp_be_liberal";
/// Whether packets from loopback addresses may leave the node, which they do once translated.
const ROUTE_LOCALNET: &str = "net/ipv4/conf/all/route_localnet";

/// What a change took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Chains written or removed.
    pub chains: usize,
    /// Rules that came into shared chains or went from them.
    pub entries: usize,
    /// Tables committed.
    pub tables: usize,
}

/// The door to the rules of the network namespace of the calling thread.
#[derive(Debug)]
pub struct Backend {
    variant: Variant,
    families: BTreeMap<Family, Kept>,
    written: Written,
    /// Processes that changed rules.
    writers: Vec<u32>,
}

/// How many rules were written.
pub type Written = BTreeMap<(Family, TableName), usize>;

#[derive(Debug)]
struct Kept {
    frame: Frame,
    index: Index,
}

impl Backend {
    /// In the variant that the node is kept in already.
    pub fn open() -> Result<Self, Error> {
        Ok(Backend::of(Variant::in_use()?))
    }

    pub fn of(variant: Variant) -> Self {
        Backend { variant, families: BTreeMap::new(), written: Written::new(), writers: Vec::new() }
    }

    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// What the last change or comparison wrote, of each table that ever had rules.
    pub fn written(&self) -> &Written {
        &self.written
    }

    fn begin(&mut self) {
        self.written.values_mut().for_each(|number| *number = 0);
    }

    /// Reads the tables, compares, and changes what differs: rules that kube-proxy left become ours, in one step
    /// for each table; what is in chains of others stays.
    pub fn reconcile(&mut self, program: &Program) -> Result<Applied, Error> {
        let liberal = kernel::sysctl::read(LIBERAL).is_ok_and(|value| value == "1");
        let mut applied = Applied::default();
        self.begin();
        for family in Family::ALL.into_iter().filter(|family| exists(*family)) {
            let frame = Frame::of(program, family, liberal);
            if frame.guards_loopback() {
                kernel::sysctl::write(ROUTE_LOCALNET, "1")?;
            }
            let tool = self.tool(family);
            let wanted = lower::rules(program, &frame);
            let delta = difference(&tool.save()?, &wanted, &frame);
            self.families.remove(&family);
            self.writers.extend(tool.restore(&delta)?);
            applied.add(&delta);
            self.written.extend(written(&delta, family));
            self.families.insert(family, Kept { frame, index: Index::of(program, family) });
        }
        Ok(applied)
    }

    /// Makes the changes of the program. After an error [`Backend::reconcile`] puts things right.
    pub fn change(&mut self, program: &Program, changes: &[Change]) -> Result<Applied, Error> {
        if self.families.is_empty() || changes.iter().any(lower::is_of_frame) {
            return self.reconcile(program);
        }
        let mut applied = Applied::default();
        self.begin();
        for (family, kept) in &mut self.families {
            let delta = lower::changes(&mut kept.index, &kept.frame, changes);
            let tool = Tool { variant: self.variant, family: *family };
            self.writers.extend(tool.restore(&delta)?);
            applied.add(&delta);
            self.written.extend(written(&delta, *family));
        }
        Ok(applied)
    }

    /// The processes that have changed rules since this was asked, to tell what they did from what others do.
    pub fn take_writers(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.writers)
    }

    fn tool(&self, family: Family) -> Tool {
        Tool { variant: self.variant, family }
    }
}

fn difference(observed: &RuleSet, wanted: &RuleSet, frame: &Frame) -> Delta {
    lower::with_scope(frame, |scope| Delta::between(observed, wanted, scope))
}

fn written(delta: &Delta, family: Family) -> impl Iterator<Item = ((Family, TableName), usize)> {
    delta.tables.iter().map(move |(name, table)| {
        let rules = table.chains.values().map(|change| match change {
            ChainDelta::Rewrite(rules) => rules.len(),
            ChainDelta::Edit { insert, .. } => insert.len(),
            ChainDelta::Remove => 0,
        });
        ((family, *name), rules.sum())
    })
}

impl Applied {
    fn add(&mut self, delta: &Delta) {
        let tables = delta.tables.values().filter(|table| !table.chains.is_empty());
        for table in tables {
            self.tables += 1;
            for change in table.chains.values() {
                match change {
                    ChainDelta::Rewrite(_) | ChainDelta::Remove => self.chains += 1,
                    ChainDelta::Edit { remove, insert } => {
                        self.entries += remove.len() + insert.len();
                    }
                }
            }
        }
    }
}
