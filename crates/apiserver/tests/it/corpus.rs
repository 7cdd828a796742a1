//! Requests, and what a kube-apiserver of version 1.36 answered to them.
//!
//! `tests/corpus/*.http` are the requests, written by hand; `*.answers` beside them hold what the real server said,
//! one line for each request. Both servers' answers are compared as a whole, but for what differs from run to run.
//!
//! With `PODWAY_KUBE_APISERVER`, the path of a kube-apiserver, the same requests are put to that one too, so that the
//! recorded answers themselves are checked; with `UPDATE=1` besides, they are written anew.

mod mask;
pub(crate) mod real;
mod request;

use crate::cluster::{Cluster, in_time};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use mask::Mask;
use request::Request;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const FILES: [&str; 14] = [
    "objects",
    "services",
    "workloads",
    "network",
    "definitions",
    "watches",
    "statuses",
    "certificates",
    "quotas",
    "guests",
    "replication",
    "resize",
    "applying",
    "policies",
];

fn path(file: &str, ending: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(format!("{file}.{ending}"))
}

/// Puts one request: the status code, and the answer's JSON; of a watch the list of its first events.
async fn put(client: &Client, request: &Request) -> (u16, Value) {
    let asked = http::Request::builder()
        .method(request.method)
        .uri(&request.target)
        .header("user-agent", "corpus/1")
        .header("content-type", request.media)
        .header("accept", request.accept);
    let body = Body::from(request.body.clone().into_bytes());
    let response = in_time(client.send(asked.body(body).unwrap())).await.unwrap();
    let code = response.status().as_u16();
    let mut body = response.into_body();
    let mut text = Vec::new();
    let enough = |text: &[u8]| {
        let lines = text.iter().filter(|it| **it == b'\n').count();
        request.events.is_some_and(|events| code == 200 && lines >= events)
    };
    while !enough(&text)
        && let Some(frame) = in_time(body.frame()).await
    {
        text.extend_from_slice(&frame.unwrap().into_data().unwrap_or_default());
    }
    let events = serde_json::Deserializer::from_slice(&text).into_iter::<Value>();
    let events: Vec<Value> = events.map_while(Result::ok).collect();
    let plain = || Value::from(String::from_utf8_lossy(&text).trim());
    match (request.events, &events[..]) {
        (Some(count), [..]) if code == 200 => (code, events.into_iter().take(count).collect()),
        (_, [one]) => (code, one.clone()),
        _ => (code, plain()),
    }
}

/// Puts a request as often as it takes to be answered as awaited.
async fn awaited(client: &Client, request: &Request) -> (u16, Value) {
    loop {
        let (code, answer) = put(client, request).await;
        if request.until.is_none_or(|until| code == until) {
            return (code, answer);
        }
    }
}

/// Puts all requests of a file, in a namespace of its own.
async fn answers(client: &Client, file: &str) -> Vec<Value> {
    let namespace = format!("corpus-{file}");
    let text = std::fs::read_to_string(path(file, "http")).unwrap();
    let made = format!("POST /api/v1/namespaces\n{{metadata: {{name: {namespace}}}}}\n");
    let (code, answer) = put(client, &request::parse(&made, "")[0]).await;
    assert_eq!(code, 201, "{answer}");
    let mask = Mask::new(&text, &namespace);
    let mut answers = Vec::new();
    for request in request::parse(&text, &namespace) {
        let (code, mut answer) = in_time(awaited(client, &request)).await;
        mask.apply(&mut answer);
        if request.any_order {
            mask::sort_causes(&mut answer);
        }
        for pointer in &request.ignored {
            mask::remove(&mut answer, pointer);
        }
        answers.push(json!({"ask": request.line, "code": code, "answer": answer}));
    }
    answers
}

fn recorded(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path(file, "answers")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn record(file: &str, answers: &[Value]) {
    let lines: String = answers.iter().map(|answer| format!("{answer}\n")).collect();
    std::fs::write(path(file, "answers"), lines).unwrap();
}

/// The places where an answer is not as recorded, and what it is there: `file row pointer`, values.
fn compare(file: &str, found: &[Value]) -> BTreeMap<String, String> {
    let wanted = recorded(file);
    assert_eq!(wanted.len(), found.len(), "{file}: UPDATE=1 is due, or a request was left out");
    let mut places = BTreeMap::new();
    for (number, (wanted, found)) in wanted.iter().zip(found).enumerate() {
        for (pointer, values) in mask::differences(wanted, found) {
            let ask = wanted["ask"].as_str().unwrap();
            places.insert(format!("{file} {:03} {ask} {pointer}", number + 1), values);
        }
    }
    places
}

fn listed(places: &BTreeMap<String, String>, which: impl Fn(&String) -> bool) -> String {
    let places = places.iter().filter(|(place, _)| which(place));
    places.fold(String::new(), |text, (place, values)| text + place + ": " + values + "\n")
}

/// What is known to differ stands in `gaps.txt`; what is new there is a fault, and what no longer differs has to go.
#[tokio::test]
async fn this_server_answers_as_the_real_one() {
    let cluster = Cluster::start(|_| {}).await;
    let mut places = BTreeMap::new();
    for file in FILES {
        places.append(&mut compare(file, &answers(&cluster.client, file).await));
    }
    if std::env::var_os("UPDATE").is_some() {
        let lines: String = places.keys().map(|place| format!("{place}\n")).collect();
        std::fs::write(path("gaps", "txt"), lines).unwrap();
    }
    let known = std::fs::read_to_string(path("gaps", "txt")).unwrap();
    let known: BTreeSet<&str> = known.lines().collect();
    let new = listed(&places, |place| !known.contains(place.as_str()));
    assert!(new.is_empty(), "recorded answer ≠ this server's:\n{new}");
    let closed: Vec<_> = known.iter().filter(|place| !places.contains_key(**place)).collect();
    assert!(closed.is_empty(), "these differ no longer and have to leave gaps.txt: {closed:#?}");
}

#[tokio::test]
async fn the_real_server_answers_as_recorded() {
    let Some(real) = real::Server::start("corpus") else {
        eprintln!("left out: PODWAY_KUBE_APISERVER names no kube-apiserver");
        return;
    };
    let client = real.client().await;
    let mut places = BTreeMap::new();
    for file in FILES {
        let answers = answers(&client, file).await;
        if std::env::var_os("UPDATE").is_some() {
            record(file, &answers);
        }
        places.append(&mut compare(file, &answers));
    }
    let faults = listed(&places, |_| true);
    assert!(faults.is_empty(), "recorded answer ≠ the real server's:\n{faults}");
}
