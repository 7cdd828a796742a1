//! Predictions against kernels that do as predicted, and against some that do not.

use crate::cluster::Cluster;
use crate::golden::{ask, compare as golden};
use explain::render::{Style, json, tree};
use explain::verify::{Answer, Counted, Observation, Tracked, Tuple, compare};
use explain::{Explanation, Host, Path, Stage, Verdict};
use model::{Family, ObjectKey, Protocol};
use program::{Frontend, Scope};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// What kernels would show of a connection that takes this way.
fn as_predicted(path: &Path) -> Observation {
    let mut tracked: BTreeMap<Arc<str>, Vec<Tracked>> = BTreeMap::new();
    let mut seen = None;
    for (index, connection) in path.connections.iter().enumerate() {
        let port = 40_000 + 1000 * u16::try_from(index).unwrap();
        let mut source = with_port(connection.original.source, port);
        let mut from = 0;
        while from < connection.translations.len() {
            let node = &connection.translations[from].node;
            let rest = &connection.translations[from..];
            let count = rest.iter().take_while(|it| it.node == *node).count();
            let (first, last) = (&rest[0], &rest[count - 1]);
            // Masquerading may choose another port.
            let masqueraded = last.after.source.ip() != source.ip();
            let after = with_port(last.after.source, source.port() + u16::from(masqueraded));
            let original = Tuple { source, destination: first.before.destination };
            let reply = Tuple { source: last.after.destination, destination: after };
            let entry = Tracked { protocol: Protocol::Tcp, original, reply };
            tracked.entry(node.clone()).or_default().push(entry);
            source = after;
            from += count;
        }
        if let Some(Host::Node(owner)) = path.connections.get(index + 1).map(|next| &next.sender) {
            let original = Tuple { source, destination: connection.original.destination };
            let reply = Tuple { source: original.destination, destination: source };
            let entry = Tracked { protocol: Protocol::Tcp, original, reply };
            tracked.entry(owner.clone()).or_default().push(entry);
        }
        seen = Some(source);
    }
    let answer = match &path.receiver.as_ref().unwrap().host {
        Host::Pod(pod) => Answer::Echo { pod: pod.clone(), client: seen.unwrap() },
        _ => Answer::Taken,
    };
    let sender = Some(with_port(path.connections[0].original.source, 40_000));
    Observation { answer, sender, tracked, counted: counted(path) }
}

/// Every front end on the way counts one connection more.
fn counted(path: &Path) -> BTreeMap<Arc<str>, Vec<Counted>> {
    let mut counted: BTreeMap<Arc<str>, Vec<Counted>> = BTreeMap::new();
    let translations = path.connections.iter().flat_map(|connection| &connection.translations);
    for translation in translations.filter(|it| it.stage == Stage::Service) {
        let destination = translation.before.destination;
        let own = destination.ip().to_string().starts_with("10.1.1.");
        let scope =
            if own { Scope::NodePort(Family::V4) } else { Scope::Address(destination.ip()) };
        counted.entry(translation.node.clone()).or_default().push(Counted {
            frontend: Frontend { scope, protocol: Protocol::Tcp, port: destination.port() },
            origin: Some(translation.origin.clone()),
            connections: 1,
        });
    }
    counted
}

fn with_port(address: SocketAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address.ip(), port)
}

fn difference(explanation: &Explanation) -> Option<usize> {
    Some(explanation.verified.as_ref().unwrap().difference()?.hop + 1)
}

#[test]
fn every_way_of_every_question_is_recognised() {
    let cluster = Cluster::healthy();
    for (from, to, ways) in [
        ("client", "10.1.1.200:30000", 9),
        ("client", "10.1.1.111:30000", 3),
        ("node/node-1", "svc/web:80", 3),
        ("pod/shell", "svc/web:80", 3),
        ("pod/web-b", "10.1.1.200:30000", 9),
        ("node/node-3", "10.1.1.200:30000", 9),
        ("pod/web-a", "svc/web:80", 3),
        ("pod/shell", "10.1.1.111:30000", 3),
        ("pod/shell", "10.1.1.200:30000", 9),
        ("pod/shell", "pod/web-c:9376", 1),
    ] {
        let explanation = ask(&cluster, from, to);
        assert_eq!(explanation.paths.len(), ways, "{from} {to}");
        for (index, path) in explanation.paths.iter().enumerate() {
            let verified = compare(&explanation, &as_predicted(path));
            let agreement = verified.verified.as_ref().unwrap();
            assert!(agreement.agrees(), "{from} {to} {index}: {agreement:#?}");
            assert_eq!(agreement.path, index, "{from} {to}");
            assert_eq!(verified.shown, index);
        }
    }
}

#[test]
fn the_first_hop_that_differs_is_named() {
    let explanation = ask(&Cluster::healthy(), "client", "10.1.1.200:30000");
    let path = explanation.path().clone();
    let good = as_predicted(&path);
    let agreeing = compare(&explanation, &good);
    golden("verify-agrees.txt", &tree(&agreeing, Style::default()));
    golden("verify-agrees.json", &(json(&agreeing) + "\n"));

    let mut not_masqueraded = good.clone();
    for entry in not_masqueraded.tracked.get_mut("node-2").unwrap() {
        entry.reply.destination = entry.original.source;
    }
    let client = "10.1.1.110:41000".parse().unwrap();
    not_masqueraded.answer = Answer::Echo { pod: ObjectKey::new("default", "web-c"), client };
    let differing = compare(&explanation, &not_masqueraded);
    golden("verify-differs.txt", &tree(&differing, Style::default()));
    assert!(difference(&differing).is_some());

    let mut stranger = good.clone();
    let client = "10.244.1.0:41001".parse().unwrap();
    stranger.answer = Answer::Echo { pod: ObjectKey::new("default", "stranger"), client };
    assert_eq!(difference(&compare(&explanation, &stranger)), Some(path.request.len()));

    let mut uncounted = good.clone();
    uncounted.counted.get_mut("node-2").unwrap()[0].connections = 0;
    assert_eq!(difference(&compare(&explanation, &uncounted)), Some(4), "service on node-2");

    let mut untracked = good;
    untracked.tracked.remove("node-2");
    assert_eq!(difference(&compare(&explanation, &untracked)), Some(4), "service on node-2");
}

#[test]
fn failures_are_compared_by_what_the_sender_got() {
    let silent = |answer| Observation {
        answer,
        sender: None,
        tracked: BTreeMap::new(),
        counted: BTreeMap::new(),
    };
    let cluster = Cluster::healthy;
    let own_program = cluster().change("Pod", "web-c", |pod| {
        pod["spec"]["containers"][0]["command"] = serde_json::json!(["server"]);
    });
    let down = cluster().node_down("node-3");
    // Question, what the sender got, whether they agree.
    let rows = [
        (cluster(), "pod/shell", "svc/web:81", Answer::Refused, true),
        (cluster(), "pod/shell", "svc/web:81", Answer::Silence, false),
        (cluster(), "pod/shell", "svc/web:81", Answer::Taken, false),
        (cluster(), "client", "10.1.1.99:80", Answer::Unreachable, true),
        (cluster(), "client", "10.1.1.99:80", Answer::Silence, true),
        (cluster(), "client", "10.1.1.99:80", Answer::Refused, false),
        (cluster(), "client", "10.1.1.111:30000", Answer::Silence, false),
        (down, "pod/shell", "svc/web:80", Answer::Silence, true),
        (own_program, "pod/shell", "pod/web-c:81", Answer::Refused, true),
    ];
    for (cluster, from, to, answer, agrees) in rows {
        let verified = compare(&ask(&cluster, from, to), &silent(answer.clone()));
        let agreement = verified.verified.as_ref().unwrap();
        assert_eq!(agreement.agrees(), agrees, "{from} {to} {answer}: {agreement:#?}");
        assert_eq!(agreement.undecided, verified.verdict() == Verdict::Unknown);
    }
}

#[test]
fn an_older_connection_of_the_same_ends_is_not_taken_for_ours() {
    for (from, to) in [("pod/shell", "svc/web:80"), ("client", "10.1.1.111:30000")] {
        let explanation = ask(&Cluster::healthy(), from, to);
        for (index, path) in explanation.paths.iter().enumerate() {
            let mut observation = as_predicted(path);
            observation.answer = Answer::Taken;
            for entry in observation.tracked.values_mut() {
                let mut older = entry[0];
                older.original.source.set_port(30_000);
                older.reply.destination.set_port(30_000);
                entry.insert(0, older);
            }
            let verified = compare(&explanation, &observation);
            let agreement = verified.verified.as_ref().unwrap();
            assert!(agreement.agrees(), "{from} {to} {index}: {agreement:#?}");
            assert_eq!(agreement.path, index, "{from} {to}");
        }
    }
}
