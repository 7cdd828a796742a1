//! The files of requests.
//!
//! Requests stand apart by empty lines; lines that begin with `#` are for people, but for three: `# differs POINTER: why`,
//! that part of the answer is left out of the comparison; `# any order`, of the causes of an error; `# until CODE`, asked
//! again until that is the answer's code. The first line is a verb and a target, the others are the body, in YAML, which
//! is sent as JSON:
//!
//! | verb | |
//! |---|---|
//! | `GET`, `POST`, `PUT`, `DELETE` | the method |
//! | `MERGE`, `STRATEGIC`, `JSON`, `APPLY` | `PATCH` of this type |
//! | `TABLE`, `META` | `GET` of this view |
//! | `WATCH n`, `WATCH-TABLE n`, `WATCH-META n` | the first n events |
//! | `WAIT` | `GET`, as often as it takes to be answered with 200 |
//! | `RAW media method` | the body is sent as it stands |
//!
//! A target is a path, or `apps/v1:deployments/web`: something in the file's own namespace, which paths and bodies
//! call `NAMESPACE`.

use serde_json::Value;

const JSON: &str = "application/json";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const META: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const META_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

pub(super) struct Request {
    /// As it stands in the file.
    pub(super) line: String,
    pub(super) method: &'static str,
    pub(super) target: String,
    pub(super) media: &'static str,
    pub(super) accept: &'static str,
    pub(super) body: String,
    /// Of a watch: how many events to read.
    pub(super) events: Option<usize>,
    /// The answer's code that is waited for: what the real server does a moment after it is told.
    pub(super) until: Option<u16>,
    pub(super) any_order: bool,
    /// JSON pointers into the answer.
    pub(super) ignored: Vec<String>,
}

pub(super) fn parse(text: &str, namespace: &str) -> Vec<Request> {
    let blocks = text.split("\n\n").filter(|block| block.lines().any(|it| !is_remark(it)));
    blocks.map(|block| request(block, namespace)).collect()
}

fn until(block: &str) -> Option<u16> {
    let code = block.lines().find_map(|line| line.strip_prefix("# until "))?;
    Some(code.parse().expect("a code"))
}

fn is_remark(line: &str) -> bool {
    line.starts_with('#') || line.is_empty()
}

fn request(block: &str, namespace: &str) -> Request {
    let ignored = block.lines().filter_map(|line| line.strip_prefix("# differs "));
    let ignored = ignored.map(|it| it.split_once(": ").expect("a reason").0.to_owned()).collect();
    let mut lines = block.lines().skip_while(|line| is_remark(line));
    let line = lines.next().unwrap();
    let body = lines.collect::<Vec<_>>().join("\n").replace("NAMESPACE", namespace);
    let mut words: Vec<&str> = line.split(' ').collect();
    let target = words.pop().unwrap();
    let list = !target.split_once(':').is_some_and(|(_, rest)| rest.contains('/'));
    let (method, media, accept) = match words[0] {
        "GET" | "WAIT" | "WATCH" => ("GET", JSON, JSON),
        "TABLE" | "WATCH-TABLE" => ("GET", JSON, TABLE),
        "META" if list => ("GET", JSON, META_LIST),
        "META" | "WATCH-META" => ("GET", JSON, META),
        "POST" => ("POST", JSON, JSON),
        "PUT" => ("PUT", JSON, JSON),
        "DELETE" => ("DELETE", JSON, JSON),
        "MERGE" => ("PATCH", "application/merge-patch+json", JSON),
        "STRATEGIC" => ("PATCH", "application/strategic-merge-patch+json", JSON),
        "JSON" => ("PATCH", "application/json-patch+json", JSON),
        "APPLY" => ("PATCH", "application/apply-patch+yaml", JSON),
        "RAW" => raw(&words),
        other => unreachable!("{other:?} is no verb"),
    };
    let events = words[0].starts_with("WATCH").then(|| words[1].parse().expect("a number"));
    Request {
        line: line.to_owned(),
        method,
        target: full(target, namespace, events.is_some()),
        media,
        accept,
        body: if words[0] == "RAW" || body.is_empty() { body } else { json(&body).to_string() },
        events,
        until: until(block).or_else(|| (words[0] == "WAIT").then_some(200)),
        any_order: block.lines().any(|line| line == "# any order"),
        ignored,
    }
}

fn raw(words: &[&str]) -> (&'static str, &'static str, &'static str) {
    let media = match words[1] {
        "text/plain" => "text/plain",
        "application/json" => JSON,
        "application/yaml" => "application/yaml",
        "application/apply-patch+yaml" => "application/apply-patch+yaml",
        other => unreachable!("{other:?} is none of the media types"),
    };
    (if words[2] == "PATCH" { "PATCH" } else { "POST" }, media, JSON)
}

fn full(target: &str, namespace: &str, watch: bool) -> String {
    let path = match target.split_once(':') {
        Some((version, rest)) if !target.starts_with('/') => {
            let root = if version.contains('/') { "apis" } else { "api" };
            format!("/{root}/{version}/namespaces/{namespace}/{rest}")
        }
        _ => target.replace("NAMESPACE", namespace),
    };
    match (watch, path.contains('?')) {
        (false, _) => path,
        (true, false) => format!("{path}?watch=true"),
        (true, true) => format!("{path}&watch=true"),
    }
}

/// Manifests are what the parser is for, so the body is put into one.
fn json(text: &str) -> Value {
    let body: String = text.lines().map(|line| format!("\n  {line}")).collect();
    let manifest = format!("apiVersion: v1\nkind: Body\nbody:{body}\n");
    let mut documents = model::manifest::parse("corpus", &manifest).expect("YAML");
    documents.pop().expect("one document").value["body"].take()
}
