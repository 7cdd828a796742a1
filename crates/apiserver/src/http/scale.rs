//! The scale subresource: one view of replicas for every kind that has them.

use super::accept::View;
use super::objects::{body, bytes, media, parse_patch, write};
use super::query::Query;
use super::reply::Reply;
use super::route::Place;
use crate::error::Error;
use crate::registry::scale_view as view;
use crate::resources::{Resource, SCALE_COLUMNS, Scale};
use crate::server::{ApiServer, now};
use crate::table;
use hyper::Request;
use hyper::body::Incoming;
use serde_json::Value;

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
    change(server, place, query, |_| Ok(wanted.clone())).await
}

pub(super) async fn patch(
    server: &ApiServer,
    place: &Place,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Reply, Error> {
    let media = media(&request);
    let patch = parse_patch(&media, &bytes(request).await?, place.resource.is_custom())?;
    change(server, place, query, |scale| patch.apply(place.resource, &scale)).await
}

/// Reads, changes and writes in one go under the lock, so that no other write comes between.
async fn change(
    server: &ApiServer,
    place: &Place,
    query: &Query,
    decide: impl Fn(Value) -> Result<Value, Error>,
) -> Result<Reply, Error> {
    let (kind, scale, key) = (place.resource.kind, scale_of(place.resource)?, place.key());
    let write = write(place, query);
    let changed = server.write_asking(|registry| {
        let old = registry.get(kind, &key)?;
        let wanted = decide(view(scale, &place.resource.shown(&old.value)))?;
        registry.rescale(kind, &key, scale, &wanted, write)
    });
    let changed = changed.await?;
    Ok(Reply::json(&view(scale, &place.resource.shown(&changed.value))))
}

fn scale_of(resource: &Resource) -> Result<Scale, Error> {
    resource.scale.ok_or(Error::UnknownPath)
}
