//! Which clients of a datagram socket are in conversation, and since when they are silent. Pure: time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// How long a client may be silent: as conntrack has it (`nf_conntrack_udp_timeout` and `…_udp_timeout_stream`).
pub const UNANSWERED: Duration = Duration::from_secs(30);
pub const ANSWERED: Duration = Duration::from_secs(120);

/// Conversations by client, each with what belongs to it.
#[derive(Debug)]
pub struct Sessions<T> {
    all: BTreeMap<SocketAddr, Session<T>>,
    /// In order of the time at which they end.
    ends: BTreeSet<(Duration, SocketAddr)>,
}

#[derive(Debug)]
struct Session<T> {
    value: T,
    answered: bool,
    end: Duration,
}

impl<T> Default for Sessions<T> {
    fn default() -> Self {
        Sessions { all: BTreeMap::new(), ends: BTreeSet::new() }
    }
}

impl<T> Sessions<T> {
    /// The client says something.
    pub fn hear(&mut self, now: Duration, client: SocketAddr) -> Option<&T> {
        self.prolong(now, client, false);
        self.all.get(&client).map(|session| &session.value)
    }

    /// The client is told something; a conversation that is over is not told of.
    pub fn answer(&mut self, now: Duration, client: SocketAddr) {
        self.prolong(now, client, true);
    }

    /// What belongs to the client's conversation.
    pub fn value(&self, client: SocketAddr) -> Option<&T> {
        self.all.get(&client).map(|session| &session.value)
    }

    pub fn begin(&mut self, now: Duration, client: SocketAddr, value: T) {
        self.end(client);
        let end = now + UNANSWERED;
        self.ends.insert((end, client));
        self.all.insert(client, Session { value, answered: false, end });
    }

    pub fn end(&mut self, client: SocketAddr) -> Option<T> {
        let session = self.all.remove(&client)?;
        self.ends.remove(&(session.end, client));
        Some(session.value)
    }

    /// Ends the conversations that were silent for too long.
    pub fn expire(&mut self, now: Duration) -> Vec<T> {
        let mut over = Vec::new();
        while let Some((_, client)) = self.ends.first().copied().filter(|(end, _)| *end <= now) {
            over.extend(self.end(client));
        }
        over
    }

    /// Ends those that are not wanted any more.
    pub fn retain(&mut self, wanted: impl Fn(&T) -> bool) {
        let lost = self.all.iter().filter(|(_, session)| !wanted(&session.value));
        let lost: Vec<_> = lost.map(|(client, _)| *client).collect();
        lost.into_iter().for_each(|client| drop(self.end(client)));
    }

    /// When [`Sessions::expire`] has something to do next.
    pub fn next_end(&self) -> Option<Duration> {
        self.ends.first().map(|(end, _)| *end)
    }

    fn prolong(&mut self, now: Duration, client: SocketAddr, answer: bool) {
        let Some(session) = self.all.get_mut(&client) else { return };
        session.answered |= answer;
        self.ends.remove(&(session.end, client));
        session.end = now + if session.answered { ANSWERED } else { UNANSWERED };
        self.ends.insert((session.end, client));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Event {
        Heard,
        Answered,
        Ended,
        Expired,
    }

    fn event() -> impl Strategy<Value = (u64, u16, Event)> {
        let event = prop_oneof![
            4 => Just(Event::Heard),
            2 => Just(Event::Answered),
            1 => Just(Event::Ended),
            2 => Just(Event::Expired),
        ];
        (0..50_u64, 1..5_u16, event)
    }

    proptest! {
        /// Against a plain list of when each client last was heard of.
        #[test]
        fn silence_ends_a_conversation(events in prop::collection::vec(event(), 1..100)) {
            let mut sessions = Sessions::default();
            let mut last: BTreeMap<u16, (Duration, bool)> = BTreeMap::new();
            let mut now = Duration::ZERO;
            for (later, port, event) in events {
                now += Duration::from_secs(later);
                let client = SocketAddr::from(([192, 0, 2, 1], port));
                match event {
                    Event::Heard => {
                        let known = sessions.hear(now, client).copied();
                        prop_assert_eq!(known, last.contains_key(&port).then_some(port));
                        if known.is_none() {
                            sessions.begin(now, client, port);
                        }
                        last.entry(port).or_insert((now, false)).0 = now;
                    }
                    Event::Answered => {
                        sessions.answer(now, client);
                        last.entry(port).and_modify(|it| *it = (now, true));
                    }
                    Event::Ended => prop_assert_eq!(sessions.end(client).is_some(), last.remove(&port).is_some()),
                    Event::Expired => {
                        let idle = |answered: bool| if answered { ANSWERED } else { UNANSWERED };
                        let is_over = |(at, answered): &(Duration, bool)| *at + idle(*answered) <= now;
                        let over: BTreeSet<_> =
                            last.iter().filter(|(_, it)| is_over(it)).map(|(port, _)| *port).collect();
                        last.retain(|_, it| !is_over(it));
                        let expired: BTreeSet<_> = sessions.expire(now).into_iter().collect();
                        prop_assert_eq!(expired, over);
                    }
                }
                let next = last.values().map(|(at, answered)| *at + if *answered { ANSWERED } else { UNANSWERED });
                prop_assert_eq!(sessions.next_end(), next.min());
            }
            sessions.retain(|port| *port == 1);
            prop_assert_eq!(sessions.all.len(), usize::from(last.contains_key(&1)));
            prop_assert_eq!(sessions.all.len(), sessions.ends.len());
        }
    }
}
