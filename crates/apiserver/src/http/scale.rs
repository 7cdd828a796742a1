//! The scale subresource: one view of replicas for every kind that has them.

use super::accept::View;
use super::objects::{body, bytes, media, parse_patch, write};
use super::query::Query;
use super::reply::Reply;
use super::route::Place;
use crate::error::Error;
use crate::resources::{Resource, SCALE_COLUMNS, Scale};
use crate::server::{ApiServer, now};
use crate::table;
use hyper::Request;
use hyper::body::Incoming;
use serde_json::{Value, json};

pub(super) fn get(server: &ApiServer, place: &Place, query: &Query) -> Result<Reply, Error> {
    let (kind, scale) = (place.resource.kind, scale_of(place.resource)?);
    let object = server.read(|registry| registry.get(kind, &place.key()))?;
    let view = view(scale, &place.resource.shown(&object.value));
    Ok(match query.form.view {
        View::Table => Reply::bytes(table::of_one(&SCALE_COLUMNS, &view, query.include, now())),
        _ => Reply::json(&view),
    })
}

pub(super) async fn replace(
    server: &ApiServer,
    place: &Place,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Reply, Error> {
    let wanted = body(request).await?;
    change(server, place, query, |_| Ok(wanted))
}

pub(super) async fn patch(
    server: &ApiServer,
    place: &Place,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Reply, Error> {
    let media = media(&request);
    let patch = parse_patch(&media, &bytes(request).await?, place.resource.is_custom())?;
    change(server, place, query, |scale| patch.apply(place.resource, &scale))
}

/// Reads, changes and writes in one go under the lock, so that no other write comes between.
fn change(
    server: &ApiServer,
    place: &Place,
    query: &Query,
    decide: impl FnOnce(Value) -> Result<Value, Error>,
) -> Result<Reply, Error> {
    let (kind, scale, key) = (place.resource.kind, scale_of(place.resource)?, place.key());
    let changed = server.write(|registry| {
        let old = registry.get(kind, &key)?;
        let wanted = decide(view(scale, &place.resource.shown(&old.value)))?;
        registry.rescale(kind, &key, scale, &wanted, write(place, query))
    })?;
    Ok(Reply::json(&view(scale, &place.resource.shown(&changed.value))))
}

fn scale_of(resource: &Resource) -> Result<Scale, Error> {
    resource.scale.ok_or(Error::UnknownPath)
}

/// `autoscaling/v1` Scale
fn view(scale: Scale, object: &Value) -> Value {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let fields = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"];
    let metadata = fields
        .iter()
        .filter_map(|field| Some(((*field).to_owned(), object["metadata"].get(*field)?.clone())));
    let mut status = json!({"replicas": number(scale.current)});
    if let Some(selector) = object.pointer(scale.selector) {
        status["selector"] = selector_text(selector).into();
    }
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata.collect::<serde_json::Map<_, _>>(),
        "spec": {"replicas": number(scale.wanted)},
        "status": status,
    })
}

fn selector_text(selector: &Value) -> String {
    if let Some(text) = selector.as_str() {
        return text.to_owned();
    }
    let plain = selector.get("matchLabels").is_none() && selector.get("matchExpressions").is_none();
    let whole = if plain { json!({"matchLabels": selector}) } else { selector.clone() };
    table::selector(&whole, "").as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Kind;

    #[test]
    fn views() {
        let deployment = json!({"metadata": {"name": "web", "labels": {"a": "b"}}, "status": {"replicas": 2},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}}});
        let scale = Kind::Deployment.resource().scale.expect("deployments scale");
        let seen = view(scale, &deployment);
        assert_eq!(seen["metadata"], json!({"name": "web"}));
        assert_eq!(
            (&seen["spec"]["replicas"], &seen["status"]["replicas"]),
            (&json!(3), &json!(2))
        );
        assert_eq!(seen["status"]["selector"], "app=web");
        assert_eq!(selector_text(&json!({"app": "web"})), "app=web");
    }
}
