//! `pods/log`, `pods/exec` and `pods/attach`.

use super::reply::{Reply, Response, Stream};
use super::route::Place;
use super::upgrade::Handshake;
use super::{remote, websocket};
use crate::containers::{Container, ContainerRequest, LogOptions, Refusal, Session};
use crate::error::Error;
use crate::resources::Kind;
use crate::server::{ApiServer, now};
use crate::store::Key;
use crate::time;
use hyper::Request;
use hyper::body::Incoming;
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::{oneshot, watch};

/// What the query of such a request says.
#[derive(Debug, Default)]
struct Wish {
    container: Option<String>,
    command: Vec<String>,
    input: bool,
    terminal: bool,
    follow: bool,
    log: LogOptions,
    limit: Option<usize>,
}

impl Wish {
    fn parse(query: &str) -> Result<Self, Error> {
        let mut wish = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let flag = matches!(value.as_ref(), "true" | "1");
            match name.as_ref() {
                "container" => {
                    wish.container = Some(value.into_owned()).filter(|it| !it.is_empty())
                }
                "command" => wish.command.push(value.into_owned()),
                "stdin" => wish.input = flag,
                "tty" => wish.terminal = flag,
                "follow" => wish.follow = flag,
                "previous" => wish.log.previous = flag,
                "tailLines" => wish.log.tail_lines = Some(number(&name, &value)?),
                "limitBytes" => wish.limit = Some(number(&name, &value)?),
                "sinceSeconds" => {
                    let seconds: u32 = number(&name, &value)?;
                    wish.log.since = Some((now() - i64::from(seconds)).saturating_mul(SECOND));
                }
                "sinceTime" if !value.is_empty() => wish.log.since = Some(instant(&value)?),
                "timestamps" => wish.log.timestamps = flag,
                _ => {}
            }
        }
        Ok(wish)
    }
}

/// In nanoseconds.
const SECOND: i64 = 1_000_000_000;

fn instant(text: &str) -> Result<i64, Error> {
    let bad = || bad(format!("sinceTime: {text:?} is not a time of RFC 3339"));
    Ok(time::seconds(text).ok_or_else(bad)?.saturating_mul(SECOND))
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, Error> {
    let bad = |_| bad(format!("{name}: {value:?} is not a number"));
    value.parse().map_err(bad)
}

fn bad(message: String) -> Error {
    Error::BadRequest { message }
}

pub(super) async fn logs(
    server: &Arc<ApiServer>,
    place: &Place,
    query: &str,
) -> Result<Reply, Error> {
    let pieces = log(server, place, query).await?;
    Ok(Reply::stream(pieces).media("text/plain"))
}

/// The same in the messages of a WebSocket.
pub(super) async fn logs_in_messages(
    server: &Arc<ApiServer>,
    place: &Place,
    mut request: Request<Incoming>,
) -> Result<Response, Error> {
    let handshake = Handshake::of(&request, &websocket::READING, &[])?;
    let query = request.uri().query().unwrap_or_default().to_owned();
    let pieces = log(server, place, &query).await?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(websocket::tell(upgrade, handshake.protocol(), pieces));
    Ok(handshake.accept())
}

async fn log(server: &Arc<ApiServer>, place: &Place, query: &str) -> Result<Stream, Error> {
    let mut wish = Wish::parse(query)?;
    let pod = server.read(|registry| registry.get(place.resource.kind, &place.key()))?;
    let container = locate(&pod.value, wish.container.as_deref())?;
    if wish.log.previous && !has_run_before(&pod.value, &container) {
        let (name, pod) = (&container.name, &container.pod);
        return Err(bad(format!(
            "previous terminated container {name:?} in pod {pod:?} not found"
        )));
    }
    started(&pod.value, &container)?;
    if wish.follow && !wish.log.previous {
        wish.log.follow = Some(end_of_run(server, &pod.value, &container));
    }
    let (reply, answer) = oneshot::channel();
    let request = ContainerRequest::Logs { container, options: wish.log, reply };
    let pieces = ask(server, request, answer).await?;
    Ok(Stream::up_to(wish.limit, pieces))
}

pub(super) async fn exec(
    server: &ApiServer,
    place: &Place,
    mut request: Request<Incoming>,
) -> Result<Response, Error> {
    let wish = Wish::parse(request.uri().query().unwrap_or_default())?;
    if wish.command.is_empty() {
        return Err(bad("you must specify at least one command for the container".into()));
    }
    let handshake = Handshake::of(&request, &websocket::PROTOCOLS, &remote::PROTOCOLS)?;
    let pod = server.read(|registry| registry.get(place.resource.kind, &place.key()))?;
    let container = locate(&pod.value, wish.container.as_deref())?;
    started(&pod.value, &container)?;
    let (reply, answer) = oneshot::channel();
    let (command, terminal) = (wish.command, wish.terminal);
    let session =
        ask(server, ContainerRequest::Exec { container, command, terminal, reply }, answer).await;
    Ok(converse(handshake, &mut request, session))
}

/// Carries a session over what the client chose.
fn converse(
    handshake: Handshake,
    request: &mut Request<Incoming>,
    session: Result<Session, Error>,
) -> Response {
    let upgrade = hyper::upgrade::on(&mut *request);
    match handshake {
        Handshake::WebSocket { protocol, .. } => {
            drop(tokio::spawn(websocket::serve(upgrade, protocol, session)));
        }
        Handshake::Spdy { .. } => {
            let query = request.uri().query().unwrap_or_default();
            let streams = remote::Streams::of(query);
            drop(tokio::spawn(remote::serve(upgrade, streams, session)));
        }
    }
    handshake.accept()
}

pub(super) async fn attach(
    server: &Arc<ApiServer>,
    place: &Place,
    mut request: Request<Incoming>,
) -> Result<Response, Error> {
    let wish = Wish::parse(request.uri().query().unwrap_or_default())?;
    let handshake = Handshake::of(&request, &websocket::PROTOCOLS, &remote::PROTOCOLS)?;
    let pod = server.read(|registry| registry.get(place.resource.kind, &place.key()))?;
    let container = locate(&pod.value, wish.container.as_deref())?;
    started(&pod.value, &container)?;
    let ended = end_of_run(server, &pod.value, &container);
    let (reply, answer) = oneshot::channel();
    let attach = ContainerRequest::Attach { container, input: wish.input, ended, reply };
    let session = ask(server, attach, answer).await;
    Ok(converse(handshake, &mut request, session))
}

/// Turns true when this run of the container is over.
fn end_of_run(
    server: &Arc<ApiServer>,
    pod: &Value,
    container: &Container,
) -> watch::Receiver<bool> {
    let (ended, receiver) = watch::channel(false);
    let (server, container) = (server.clone(), container.clone());
    let run = run(pod, &container);
    let key = Key::new(&container.namespace, &container.pod);
    tokio::spawn(async move {
        let mut news = server.subscribe(Kind::Pod);
        loop {
            let pod = server.read(|registry| registry.get(Kind::Pod, &key));
            let goes_on = pod.is_ok_and(|pod| {
                pod.uid() == container.uid
                    && run.is_some()
                    && self::run(&pod.value, &container) == run
            });
            if !goes_on {
                ended.send_replace(true);
                return;
            }
            tokio::select! {
                () = ended.closed() => return,
                changed = news.changed() => if changed.is_err() { return },
            }
        }
    });
    receiver
}

/// When the run that goes on began; none: there is none.
fn run(pod: &Value, container: &Container) -> Option<Value> {
    let status = status_of(pod, container);
    status.pointer("/state/running/startedAt").cloned()
}

fn has_run_before(pod: &Value, container: &Container) -> bool {
    status_of(pod, container).pointer("/lastState/terminated").is_some()
}

/// Asks whoever runs the nodes.
pub(super) async fn ask<T>(
    server: &ApiServer,
    request: ContainerRequest,
    answer: oneshot::Receiver<Result<T, Refusal>>,
) -> Result<T, Error> {
    let nobody = || Error::Internal { message: "there are no nodes behind this API".into() };
    server.nodes.as_ref().ok_or_else(nobody)?.send(request).map_err(|_closed| nobody())?;
    let answer = answer.await.map_err(|_dropped| nobody())?;
    answer.map_err(|Refusal(message)| Error::Internal { message })
}

/// The container that is meant: the named one, the one of the annotation, or the only one.
fn locate(pod: &Value, name: Option<&str>) -> Result<Container, Error> {
    let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let pod_name = text("/metadata/name");
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    let names = |list: &str| -> Vec<&str> {
        let all = pod["spec"][list].as_array().into_iter().flatten();
        all.filter_map(|container| container["name"].as_str()).collect()
    };
    let preferred = text("/metadata/annotations/kubectl.kubernetes.io~1default-container");
    let preferred = Some(preferred).filter(|name| !name.is_empty());
    let own = names("containers");
    let only = || own.first().copied().filter(|_| own.len() == 1);
    let Some(name) = name.or(preferred).or_else(only) else {
        let message = format!(
            "a container name must be specified for pod {pod_name}, choose one of: [{}]",
            own.join(" ")
        );
        return Err(bad(message));
    };
    if !lists.iter().any(|list| names(list).contains(&name)) {
        return Err(bad(format!("container {name} is not valid for pod {pod_name}")));
    }
    Ok(Container { name: name.to_owned(), ..place_of(pod)? })
}

/// The pod itself, for what is no container's: a place without a container.
pub(super) fn place_of(pod: &Value) -> Result<Container, Error> {
    let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (node, name) = (text("/spec/nodeName"), text("/metadata/name"));
    if node.is_empty() {
        return Err(bad(format!("pod {name} does not have a host assigned")));
    }
    Ok(Container {
        node: node.to_owned(),
        namespace: text("/metadata/namespace").to_owned(),
        pod: name.to_owned(),
        uid: text("/metadata/uid").to_owned(),
        name: String::new(),
    })
}

fn status_of<'a>(pod: &'a Value, container: &Container) -> &'a Value {
    let lists = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
    let statuses = lists.iter().flat_map(|list| pod["status"][*list].as_array()).flatten();
    let mut statuses = statuses.filter(|status| status["name"] == container.name);
    statuses.next().unwrap_or(&Value::Null)
}

fn started(pod: &Value, container: &Container) -> Result<(), Error> {
    let status = status_of(pod, container);
    let runs =
        |state: &str| !status[state]["running"].is_null() || !status[state]["terminated"].is_null();
    if runs("state") || runs("lastState") {
        return Ok(());
    }
    let reason = status["state"]["waiting"]["reason"].as_str().unwrap_or("ContainerCreating");
    let (name, pod) = (&container.name, &container.pod);
    Err(bad(format!("container {name:?} in pod {pod:?} is waiting to start: {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn the_container_that_is_meant() {
        let pod = |containers: Value| {
            json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"nodeName": "node-1",
                "containers": containers, "initContainers": [{"name": "i"}]}})
        };
        let one = pod(json!([{"name": "a"}]));
        let two = pod(json!([{"name": "a"}, {"name": "b"}]));
        for (pod, name, expected) in [
            (&one, None, Ok("a")),
            (&one, Some("i"), Ok("i")),
            (&two, Some("b"), Ok("b")),
            (&two, None, Err("a container name must be specified for pod p, choose one of: [a b]")),
            (&one, Some("x"), Err("container x is not valid for pod p")),
        ] {
            let found = locate(pod, name).map(|it| it.name).map_err(|error| error.to_string());
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned));
        }
    }

    proptest! {
        #[test]
        fn any_query_is_safe(query in "(command|tty|tailLines|follow|container)=[a-z0-9%]{0,6}(&[a-zA-Z]{0,9}=[0-9]{0,3}){0,3}") {
            let _wish = Wish::parse(&query);
        }
    }
}
