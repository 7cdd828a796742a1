//! `pods/log` and `pods/exec`.

use super::reply::{Reply, Response};
use super::route::Place;
use super::websocket;
use crate::containers::{Container, ContainerRequest, LogOptions, Refusal};
use crate::error::Error;
use crate::server::ApiServer;
use hyper::Request;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::sync::oneshot;

/// What the query of such a request says.
#[derive(Debug, Default, PartialEq)]
struct Wish {
    container: Option<String>,
    command: Vec<String>,
    terminal: bool,
    log: LogOptions,
    previous: bool,
    /// What logs that do not know when a line was written cannot answer.
    times: Option<String>,
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
                "tty" => wish.terminal = flag,
                "follow" => wish.log.follow = flag,
                "previous" => wish.previous = flag,
                "tailLines" => wish.log.tail_lines = Some(number(&name, &value)?),
                "limitBytes" => wish.limit = Some(number(&name, &value)?),
                "sinceSeconds" | "sinceTime" => wish.times = Some(name.into_owned()),
                "timestamps" if flag => wish.times = Some(name.into_owned()),
                _ => {}
            }
        }
        Ok(wish)
    }
}

fn number(name: &str, value: &str) -> Result<usize, Error> {
    let bad = |_| bad(format!("{name}: {value:?} is not a number"));
    value.parse().map_err(bad)
}

fn bad(message: String) -> Error {
    Error::BadRequest { message }
}

pub(super) async fn logs(server: &ApiServer, place: &Place, query: &str) -> Result<Reply, Error> {
    let wish = Wish::parse(query)?;
    let pod = server.read(|registry| registry.get(place.resource.kind, &place.key()))?;
    let container = locate(&pod.value, wish.container.as_deref())?;
    if let Some(times) = wish.times {
        return Err(bad(format!("{times}: this node does not know when a line was written")));
    }
    if wish.previous {
        let (name, pod) = (&container.name, &container.pod);
        return Err(bad(format!(
            "previous terminated container {name:?} in pod {pod:?} not found"
        )));
    }
    started(&pod.value, &container)?;
    let (reply, answer) = oneshot::channel();
    let request = ContainerRequest::Logs { container, options: wish.log, reply };
    let pieces = ask(server, request, answer).await?;
    Ok(Reply::stream(pieces, wish.limit).media("text/plain"))
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
    let handshake = websocket::Handshake::of(&request)?;
    let pod = server.read(|registry| registry.get(place.resource.kind, &place.key()))?;
    let container = locate(&pod.value, wish.container.as_deref())?;
    started(&pod.value, &container)?;
    let (reply, answer) = oneshot::channel();
    let (command, terminal) = (wish.command, wish.terminal);
    let session =
        ask(server, ContainerRequest::Exec { container, command, terminal, reply }, answer).await;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(websocket::serve(upgrade, session));
    Ok(handshake.accept())
}

/// Asks whoever runs the nodes.
async fn ask<T>(
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
    let node = text("/spec/nodeName");
    if node.is_empty() {
        return Err(bad(format!("pod {pod_name} does not have a host assigned")));
    }
    Ok(Container {
        node: node.to_owned(),
        namespace: text("/metadata/namespace").to_owned(),
        pod: pod_name.to_owned(),
        uid: text("/metadata/uid").to_owned(),
        name: name.to_owned(),
    })
}

fn started(pod: &Value, container: &Container) -> Result<(), Error> {
    let lists = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
    let statuses = lists.iter().flat_map(|list| pod["status"][*list].as_array()).flatten();
    let mut statuses = statuses.filter(|status| status["name"] == container.name);
    let status = statuses.next().unwrap_or(&Value::Null);
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
