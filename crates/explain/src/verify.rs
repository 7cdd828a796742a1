//! Predicted and real: a way and what was seen of one connection that took it.
//!
//! *Here*: the comparison, pure. *Not here*: sending the connection and reading the kernels (the binary).
//! *Start at* [`compare`].

use crate::explanation::Explanation;
use crate::finding::Finding;
use crate::path::{
    Connection, Hop, Host, Opener, Path, Receiver, Stage, Translation, Verdict, address_text,
};
use model::{Family, Kind, ObjectKey, Origin, Protocol};
use program::{Frontend, Scope};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What was seen of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    pub answer: Answer,
    /// The sender's own end of the connection, where it had one.
    pub sender: Option<SocketAddr>,
    /// What each node's connection tracking holds, by node; nodes without rules track nothing and are not here.
    pub tracked: BTreeMap<Arc<str>, Vec<Tracked>>,
    /// What each node's rules counted meanwhile, by node; empty where that cannot be read.
    pub counted: BTreeMap<Arc<str>, Vec<Counted>>,
}

/// A front end in the kernel and how many connections it had meanwhile: at least this one, if it was here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    pub frontend: Frontend,
    /// The object and field that the kernel's element is there for, as it says itself.
    pub origin: Option<Origin>,
    pub connections: u64,
}

/// What the sender got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The built-in server said who it is and whom it saw.
    Echo { pod: ObjectKey, client: SocketAddr },
    /// The connection was taken, by whom is not known.
    Taken,
    /// Refused at once, or taken and reset without an answer.
    Refused,
    /// ICMP said that there is no way, or ARP went unanswered.
    Unreachable,
    /// Nothing came back in time.
    Silence,
}

impl Answer {
    fn verdict(&self) -> Verdict {
        match self {
            Answer::Echo { .. } | Answer::Taken => Verdict::Delivered,
            Answer::Refused => Verdict::Refused,
            Answer::Unreachable | Answer::Silence => Verdict::Dropped,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Echo { pod, client } => write!(f, "pod/{pod} answered; it saw {client}"),
            Answer::Taken => f.write_str("the connection was taken"),
            Answer::Refused => f.write_str("refused"),
            Answer::Unreachable => f.write_str("unreachable"),
            Answer::Silence => f.write_str("no answer"),
        }
    }
}

/// An entry of connection tracking: the first packet as it came, and the answer as it is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tracked {
    pub protocol: Protocol,
    pub original: Tuple,
    pub reply: Tuple,
}

/// Both ends of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tuple {
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {}", address_text(self.source), address_text(self.destination))
    }
}

/// How a prediction and a connection compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    /// What the sender got.
    pub answer: Answer,
    /// The way that the connection took, or came nearest to.
    pub path: usize,
    /// In the order in which they were looked at: from the receiver back to the sender.
    pub checks: Vec<Check>,
    /// The prediction leaves open what was seen.
    pub undecided: bool,
}

/// One thing that was predicted and could be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Index of the hop in the request.
    pub hop: usize,
    pub expected: String,
    pub observed: String,
    pub agrees: bool,
}

impl Agreement {
    pub fn agrees(&self) -> bool {
        self.checks.iter().all(|check| check.agrees)
    }

    /// The first hop of the way that differs.
    pub fn difference(&self) -> Option<&Check> {
        self.checks.iter().filter(|check| !check.agrees).min_by_key(|check| check.hop)
    }

    pub(crate) fn summary(&self) -> String {
        match self.difference() {
            Some(check) => format!("a real connection differs at hop {}", check.hop + 1),
            None if self.undecided => format!("a real connection: {}", self.answer),
            None => "a real connection agrees".to_owned(),
        }
    }
}

/// Compares with the way that the connection took; the explanation then shows that way.
pub fn compare(explanation: &Explanation, observation: &Observation) -> Explanation {
    let judged = explanation.paths.iter().enumerate().map(|(index, path)| {
        let mut checks = if path.end.verdict == observation.answer.verdict() && path.is_delivered()
        {
            check_delivered(path, observation)
        } else {
            vec![check_end(path, &observation.answer)]
        };
        checks.extend(check_counters(path, observation));
        let differing = checks.iter().filter(|check| !check.agrees).count();
        let shown = index != explanation.shown;
        ((differing > 0, std::cmp::Reverse(checks.len() - differing), shown), index, checks)
    });
    let nearest = judged.min_by_key(|(rank, ..)| *rank);
    let (_, path, checks) = nearest.expect("an explanation has a path");
    let answer = observation.answer.clone();
    let undecided = explanation.paths[path].end.verdict == Verdict::Unknown;
    let agreement = Agreement { answer, path, checks, undecided };
    let findings = findings_of(explanation, path);
    Explanation { shown: path, findings, verified: Some(agreement), ..explanation.clone() }
}

/// What is said of the way shown, exchanged for what is said of another.
fn findings_of(explanation: &Explanation, path: usize) -> Vec<Finding> {
    let (old, new) = (&explanation.path().findings, &explanation.paths[path].findings);
    let about_all = explanation.findings.iter().filter(|finding| !old.contains(finding));
    let mut findings = new.clone();
    findings.extend(about_all.filter(|finding| !new.contains(finding)).cloned());
    findings
}

/// Where a way ends, against what the sender got.
fn check_end(path: &Path, answer: &Answer) -> Check {
    let verdict = path.end.verdict;
    Check {
        hop: path.request.len() - 1,
        expected: format!("{verdict} at {}", path.end.host),
        observed: answer.to_string(),
        agrees: verdict == Verdict::Unknown || verdict == answer.verdict(),
    }
}

/// The counters of the front ends on the way, where they can be read.
fn check_counters(path: &Path, observation: &Observation) -> Vec<Check> {
    let hops = path.request.iter().enumerate();
    let decided = hops.filter(|(_, hop)| matches!(hop.stage, Stage::Service | Stage::Refuse));
    decided.filter_map(|(index, hop)| check_counter(index, hop, observation)).collect()
}

fn check_counter(index: usize, hop: &Hop, observation: &Observation) -> Option<Check> {
    let Host::Node(node) = &hop.host else { return None };
    let origin = hop.origin.as_ref().filter(|origin| origin.kind == Kind::Service)?;
    let (address, port) = (hop.before.destination.ip(), hop.before.destination.port());
    let counted = observation.counted.get(node)?;
    let find = |scope| {
        let frontend = Frontend { scope, protocol: hop.before.protocol, port };
        counted.iter().find(|it| it.frontend == frontend)
    };
    let node_port = || find(Scope::NodePort(Family::of(address)));
    let found = find(Scope::Address(address)).or_else(node_port)?;
    let says = found.origin.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string);
    let same = found.origin.as_ref().is_some_and(|have| {
        (have.kind, &have.namespace, &have.name) == (origin.kind, &origin.namespace, &origin.name)
            && origin.field.starts_with(&*have.field)
    });
    let connections = found.connections;
    Some(Check {
        hop: index,
        expected: format!("node/{node} counts it for {origin}"),
        observed: format!("node/{node} counted {connections} more for {says}"),
        agrees: same && connections > 0,
    })
}

fn check_delivered(path: &Path, observation: &Observation) -> Vec<Check> {
    let mut trail = Trail { path, observation, checks: Vec::new(), reply: None };
    if let Answer::Echo { pod, client } = &observation.answer {
        trail.check_receiver(pod, *client);
    }
    for (index, connection) in path.connections.iter().enumerate().rev() {
        trail.check_connection(connection, index);
    }
    trail.checks
}

/// Follows one connection from entry to entry, from the receiver back: each entry's original direction
/// tells which reply the node before it must await.
struct Trail<'a> {
    path: &'a Path,
    observation: &'a Observation,
    checks: Vec<Check>,
    /// The reply as it leaves where we are; `None`: not known, ports may be anything.
    reply: Option<Tuple>,
}

impl Trail<'_> {
    fn check_receiver(&mut self, pod: &ObjectKey, client: SocketAddr) {
        let Some(receiver) = &self.path.receiver else { return };
        let sees = receiver.sees;
        self.checks.push(Check {
            hop: self.path.request.len() - 1,
            expected: format!("{} answers and sees {sees}", receiver.host),
            observed: format!("pod/{pod} answered; it saw {}", client.ip()),
            agrees: receiver.host == Host::Pod(pod.clone()) && sees == client.ip(),
        });
        self.check_arrival(receiver, client);
        self.reply = Some(Tuple { source: receiver.address, destination: client });
    }

    /// The receiver's node tracks what came out of the tunnel, where it has rules that make it track.
    fn check_arrival(&mut self, receiver: &Receiver, client: SocketAddr) {
        let Some(node) = &receiver.node else { return };
        let entries = self.observation.tracked.get(node).map_or(&[][..], Vec::as_slice);
        let arrived = Tuple { source: client, destination: receiver.address };
        let found = entries.iter().any(|tracked| tracked.original == arrived);
        let hops = self.path.request.iter().enumerate();
        let mut routed = hops.filter(|(_, hop)| hop.stage == Stage::Route);
        if let (Some((hop, _)), true) = (routed.next_back(), found) {
            let text = format!("node/{node} tracks {arrived}");
            self.checks.push(Check { hop, expected: text.clone(), observed: text, agrees: true });
        }
    }

    fn check_connection(&mut self, connection: &Connection, index: usize) {
        let sender = self.observation.sender.filter(|_| index == 0);
        // A receiver that does not say whom it saw leaves only this end to tell ours from others' connections.
        self.reply = self.reply.or_else(|| self.awaited(connection, sender?));
        let mut rest = connection.translations.as_slice();
        while let Some(last) = rest.last() {
            let begin = rest.iter().rposition(|it| it.node != last.node).map_or(0, |it| it + 1);
            self.check_node(connection, &rest[begin..]);
            rest = &rest[..begin];
        }
        if let (Some(reply), Some(sender)) = (self.reply, sender) {
            self.checks.push(Check {
                hop: 0,
                expected: format!("the connection of {sender}"),
                observed: format!("the connection of {}", reply.destination),
                agrees: reply.destination == sender,
            });
        }
        self.reply = None;
        if index > 0 {
            self.check_relay(connection, index);
        }
    }

    /// What one node did to the connection is one entry, whatever the number of translations.
    fn check_node(&mut self, connection: &Connection, translations: &[Translation]) {
        let (Some(first), Some(last)) = (translations.first(), translations.last()) else { return };
        let fits = |tracked: &&Tracked| {
            tracked.protocol == connection.original.protocol
                && same_end(tracked.original.source, first.before.source)
                && same_end(tracked.original.destination, first.before.destination)
                && same_end(tracked.reply.source, last.after.destination)
                && same_end(tracked.reply.destination, last.after.source)
        };
        let ours = |tracked: &&Tracked| self.reply.is_none_or(|reply| tracked.reply == reply);
        let entries = self.observation.tracked.get(&first.node).map_or(&[][..], Vec::as_slice);
        let found = entries.iter().find(|tracked| ours(tracked) && fits(tracked));
        let nearest = found.or_else(|| {
            self.reply?;
            entries.iter().find(|tracked| ours(tracked))
        });
        let text = |original: Tuple, reply: Tuple| {
            format!("node/{} tracks {original}, answers {reply}", first.node)
        };
        let expected = Tuple { source: first.before.source, destination: first.before.destination };
        let awaited = Tuple { source: last.after.destination, destination: last.after.source };
        let observed = match nearest {
            Some(tracked) => text(tracked.original, tracked.reply),
            None => format!("node/{} tracks no such connection", first.node),
        };
        self.checks.push(Check {
            hop: first.hop,
            expected: text(expected, awaited),
            observed,
            agrees: found.is_some(),
        });
        self.reply = found.map(|tracked| Tuple {
            source: tracked.original.destination,
            destination: tracked.original.source,
        });
    }

    /// The connection before this one ends at whoever made this one: its node tracks it as it comes, but that mode
    /// userspace needs no tracking.
    fn check_relay(&mut self, connection: &Connection, index: usize) {
        let Host::Node(node) = &connection.sender else { return };
        let outer = &self.path.connections[index - 1];
        let predicted = outer.translations.last().map_or(outer.original, |last| last.after);
        let sender = self.observation.sender.filter(|_| index == 1);
        let exact = sender.and_then(|sender| self.arriving(outer, sender));
        let fits = |tracked: &&Tracked| {
            same_end(tracked.original.source, predicted.source)
                && tracked.original.destination == predicted.destination
                && exact.is_none_or(|exact| tracked.original.source == exact)
        };
        let Some(entries) = self.observation.tracked.get(node) else { return };
        let found = entries.iter().find(|tracked| fits(tracked)).map(|tracked| tracked.original);
        let expected = Tuple { source: predicted.source, destination: predicted.destination };
        if found.is_none() && connection.opener == Opener::Proxy {
            return;
        }
        self.checks.push(Check {
            hop: connection.hop,
            expected: format!("node/{node} tracks {expected}"),
            observed: match found {
                Some(original) => format!("node/{node} tracks {original}"),
                None => format!("node/{node} tracks no such connection"),
            },
            agrees: found.is_some(),
        });
        self.reply = found
            .map(|original| Tuple { source: original.destination, destination: original.source });
    }

    /// The sender's end after all that was translated on the way; `None` where the entries do not lead there.
    fn arriving(&self, connection: &Connection, sender: SocketAddr) -> Option<SocketAddr> {
        if connection.translations.is_empty() {
            return Some(sender);
        }
        self.awaited(connection, sender).map(|reply| reply.destination)
    }

    /// The reply that the last node on the way awaits, from entry to entry beginning at the sender.
    fn awaited(&self, connection: &Connection, sender: SocketAddr) -> Option<Tuple> {
        let (mut source, mut reply) = (sender, None);
        let mut rest = connection.translations.as_slice();
        while let Some(first) = rest.first() {
            let entries = self.observation.tracked.get(&first.node)?;
            let original = Tuple { source, destination: first.before.destination };
            let found = entries.iter().find(|it| it.original == original)?.reply;
            (source, reply) = (found.destination, Some(found));
            let here = rest.iter().take_while(|it| it.node == first.node).count();
            rest = &rest[here..];
        }
        reply
    }
}

/// Equal, but that a predicted port of 0 stands for any.
fn same_end(observed: SocketAddr, predicted: SocketAddr) -> bool {
    let address = |end: SocketAddr| -> IpAddr { end.ip().to_canonical() };
    address(observed) == address(predicted)
        && (predicted.port() == 0 || predicted.port() == observed.port())
}
