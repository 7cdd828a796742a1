//! `iptables-save` output to values.

use super::option::Options;
use super::words::{self, Word};
use super::{Chain, Counters, Policy, Rule, RuleSet, Table, TableName};

/// What is wrong with a dump, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    pub fault: Fault,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("`{0}` is not a table of iptables")]
    UnknownTable(String),
    #[error("table {0} comes a second time")]
    TableTwice(TableName),
    #[error("table {0} is not closed with COMMIT")]
    NotCommitted(TableName),
    #[error("there is no table open here")]
    NoTable,
    #[error("a chain is written `:NAME POLICY [packets:octets]`")]
    Chain,
    #[error("chain {0} comes a second time")]
    ChainTwice(String),
    #[error("a rule of the undeclared chain `{0}`")]
    UndeclaredChain(String),
    #[error("counters are written `[packets:octets]`")]
    Counters,
    #[error("a quote is not closed")]
    OpenQuote,
    #[error("`{0}` has no value")]
    NoValue(String),
    #[error("`{value}` is no value of {option}")]
    BadValue { option: String, value: String },
    #[error("`{0}` was not expected here")]
    Unexpected(String),
}

pub(super) fn parse(text: &str) -> Result<RuleSet, ParseError> {
    let mut reader = Reader::default();
    let mut last = 0;
    for (line, number) in text.lines().zip(1..) {
        reader.line(line).map_err(|fault| ParseError { line: number, fault })?;
        last = number;
    }
    match reader.open {
        Some((table, _)) => Err(ParseError { line: last, fault: Fault::NotCommitted(table) }),
        None => Ok(reader.done),
    }
}

#[derive(Default)]
struct Reader {
    done: RuleSet,
    open: Option<(TableName, Table)>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), Fault> {
        let line = line.trim();
        let Some(first) = line.chars().next() else { return Ok(()) };
        match first {
            '#' => Ok(()),
            '*' => self.begin(&line[1..]),
            ':' => self.chain(&line[1..]),
            '[' | '-' => self.rule(line),
            _ if line == "COMMIT" => self.commit(),
            _ => Err(Fault::Unexpected(line.to_owned())),
        }
    }

    fn begin(&mut self, name: &str) -> Result<(), Fault> {
        if let Some((table, _)) = &self.open {
            return Err(Fault::NotCommitted(*table));
        }
        let table = TableName::ALL.into_iter().find(|table| table.as_str() == name);
        let table = table.ok_or_else(|| Fault::UnknownTable(name.to_owned()))?;
        if self.done.tables.contains_key(&table) {
            return Err(Fault::TableTwice(table));
        }
        self.open = Some((table, Table::default()));
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Fault> {
        let (name, table) = self.open.take().ok_or(Fault::NoTable)?;
        self.done.tables.insert(name, table);
        Ok(())
    }

    fn chain(&mut self, line: &str) -> Result<(), Fault> {
        let (_, table) = self.open.as_mut().ok_or(Fault::NoTable)?;
        let mut words = line.split_ascii_whitespace();
        let (name, policy) = words.next().zip(words.next()).ok_or(Fault::Chain)?;
        let policy = match policy {
            "-" => None,
            "ACCEPT" => Some(Policy::Accept),
            "DROP" => Some(Policy::Drop),
            _ => return Err(Fault::Chain),
        };
        let counters = words.next().map_or(Ok(Counters::default()), counters)?;
        if words.next().is_some() {
            return Err(Fault::Chain);
        }
        let chain = Chain { policy, counters, rules: Vec::new() };
        match table.chains.insert(name.to_owned(), chain) {
            None => Ok(()),
            Some(_) => Err(Fault::ChainTwice(name.to_owned())),
        }
    }

    fn rule(&mut self, line: &str) -> Result<(), Fault> {
        let (_, table) = self.open.as_mut().ok_or(Fault::NoTable)?;
        let words = words::split(line).ok_or(Fault::OpenQuote)?;
        let mut words = words.as_slice();
        let mut counted = None;
        if let Some((first, rest)) = words.split_first()
            && first.text.starts_with('[')
        {
            counted = Some(counters(&first.text)?);
            words = rest;
        }
        let [append, chain, rest @ ..] = words else {
            return Err(Fault::Unexpected(line.to_owned()));
        };
        if !append.is("-A") {
            return Err(Fault::Unexpected(append.text.clone()));
        }
        let rule = rule(rest, counted)?;
        let chain = table
            .chains
            .get_mut(&chain.text)
            .ok_or_else(|| Fault::UndeclaredChain(chain.text.clone()))?;
        chain.rules.push(rule);
        Ok(())
    }
}

fn rule(words: &[Word], counters: Option<Counters>) -> Result<Rule, Fault> {
    let mut rule = Rule { counters, ..Rule::default() };
    let mut options = Options::of(words);
    while options.next_into(&mut rule)? {}
    Ok(rule)
}

fn counters(text: &str) -> Result<Counters, Fault> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let (packets, octets) = inner.and_then(|text| text.split_once(':')).ok_or(Fault::Counters)?;
    let number = |text: &str| text.parse().map_err(|_any| Fault::Counters);
    Ok(Counters { packets: number(packets)?, octets: number(octets)? })
}
