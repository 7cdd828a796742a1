//! Requests to registry calls, results to responses.

mod accept;
mod accounts;
mod backend;
mod caller;
mod connection;
mod containers;
mod conversation;
mod discovery;
mod forward;
mod health;
mod json;
pub(crate) mod metrics;
mod objects;
mod openapi;
mod proxy;
mod query;
mod question;
mod remote;
mod reply;
mod reviews;
mod route;
mod scale;
mod spdy;
mod trust;
mod upgrade;
mod watch;
pub(crate) mod webhooks;
mod websocket;

pub(crate) use connection::serve_connection;

use crate::access::User;
use crate::error::Error;
use crate::registry::Part;
use crate::resources::{self, Custom};
use crate::server::ApiServer;
use accept::Medium;
use hyper::body::Incoming;
use hyper::header::USER_AGENT;
use hyper::{Method, Request};
use metrics::{Labels, UnderWay};
use query::Query;
use reply::{Reply, Response};
use route::{Place, Route, Subresource};
use serde_json::json;
use std::sync::Arc;
use tracing::debug;

async fn answer(
    server: Arc<ApiServer>,
    request: Request<Incoming>,
    caller: Option<User>,
) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let medium = accept::plain(accept::header(&request)).unwrap_or_default();
    let run = server.run();
    let mut under_way = None;
    let answered = match caller::admit(&server, caller, &request) {
        Ok(user) => {
            let customs = server.read(|registry| registry.customs.kinds().clone());
            let route = route::route(request.uri().path(), &customs);
            under_way = begin(&server, route.as_ref(), &request);
            dispatch(server.clone(), route, &customs, request, user).await
        }
        Err(error) => Err(error),
    };
    // A refusal, too, may rest on a write that a power cut could still undo.
    let answered = server.saved(run).await.and(answered);
    let response = answered.unwrap_or_else(|error| {
        debug!(%method, path, %error, "refused");
        let refusal = Reply::error(&error);
        refusal.written(medium).unwrap_or_else(|error| Reply::error(&error)).into_response()
    });
    reply::counted(response, under_way)
}

/// Counts the request, if it is of a kind that is counted.
fn begin(
    server: &ApiServer,
    route: Option<&Route>,
    request: &Request<Incoming>,
) -> Option<UnderWay> {
    let (uri, media) = (request.uri(), objects::media(request));
    let target = (uri.path(), uri.query().unwrap_or_default());
    let labels = Labels::of(request.method(), route?, target, &media)?;
    Some(server.metrics.begin(labels))
}

async fn dispatch(
    server: Arc<ApiServer>,
    route: Option<Route>,
    customs: &[Custom],
    request: Request<Incoming>,
    user: User,
) -> Result<Response, Error> {
    match route {
        Some(Route::Objects(place)) if place.subresource.is_some_and(|it| it.is_connection()) => {
            connect(server, &place, request, user).await
        }
        Some(Route::Objects(place))
            if place.subresource == Some(Subresource::Log)
                && request.method() == Method::GET
                && upgrade::is_wanted(&request) =>
        {
            containers::logs_in_messages(&server, &place, request).await
        }
        route => handle(server, route, customs, request, user).await.map(Reply::into_response),
    }
}

/// A request whose answer is no reply but a conversation.
async fn connect(
    server: Arc<ApiServer>,
    place: &Place,
    request: Request<Incoming>,
    user: User,
) -> Result<Response, Error> {
    let may_be_any = place.subresource == Some(Subresource::Proxy);
    if !may_be_any && !matches!(*request.method(), Method::GET | Method::POST) {
        return Err(Error::MethodNotAllowed);
    }
    conversation::admit(&server, place, &request, user).await?;
    match place.subresource {
        Some(Subresource::Attach) => containers::attach(&server, place, request).await,
        Some(Subresource::PortForward) => forward::answer(server, place, request).await,
        Some(Subresource::Proxy) => proxy::answer(&server, place, request).await,
        _ => containers::exec(&server, place, request).await,
    }
}

/// Within a group that is there a resource may be missing; else there is nothing at all.
fn unknown(path: &str, customs: &[Custom]) -> Error {
    let mut steps = path.split('/').skip(1);
    let (root, group, version) = match steps.next() {
        Some("api") => ("api", "", steps.next()),
        _ => ("apis", steps.next().unwrap_or_default(), steps.next()),
    };
    let is_there = resources::served(customs)
        .any(|it| it.group == group && version.is_none_or(|version| version == it.version));
    let served = path.starts_with(&format!("/{root}/")) && version.is_some() && is_there;
    match served || path.starts_with("/version/") {
        true => Error::UnknownPath,
        false => Error::NoPage,
    }
}

async fn handle(
    server: Arc<ApiServer>,
    route: Option<Route>,
    customs: &[Custom],
    request: Request<Incoming>,
    user: User,
) -> Result<Reply, Error> {
    let mut query = Query::parse(request.uri().query().unwrap_or_default())?;
    query.agent = agent(&request);
    let route = route.ok_or_else(|| unknown(request.uri().path(), customs))?;
    let accept = accept::header(&request).to_owned();
    match route {
        Route::Objects(place) => {
            query.user = user;
            query.form = accept::form(&request, &place, query.watch)?;
            let medium = query.form.medium;
            handle_objects(server, place, query, request).await?.written(medium)
        }
        _ if request.method() != Method::GET => Err(Error::MethodNotAllowed),
        Route::Health => health::answer(request.uri()),
        Route::Metrics => Ok(metrics::answer(&server, customs)),
        Route::Issuer => Ok(Reply::json(&accounts::configuration(&server))),
        Route::Keys => Ok(Reply::json(&server.tokens.key_set()).media("application/jwk-set+json")),
        Route::Version => {
            accept::offered(&accept, Medium::Json.essence())?;
            Ok(Reply::json(&discovery::version()))
        }
        Route::Root => Ok(Reply::json(&discovery::root(customs))),
        Route::Api | Route::Apis => {
            discovery::groups(route == Route::Api, customs, &accept, server.advertise)
        }
        Route::OpenApi => openapi::whole(customs, &accept),
        Route::OpenApiIndex => Ok(Reply::json(&openapi::index(customs))),
        Route::OpenApiGroup(group, version) => {
            openapi::group(customs, &group, &version).map(|document| Reply::json(&document))
        }
        Route::Group(group) => discovery::plain(&discovery::group(customs, &group)?, &accept),
        Route::GroupVersion(group, version) => {
            accept::offered(&accept, accept::OBJECTS)?;
            discovery::plain(&discovery::resources(customs, &group, &version)?, &accept)
        }
    }
}

async fn handle_objects(
    server: Arc<ApiServer>,
    place: Place,
    mut query: Query,
    request: Request<Incoming>,
) -> Result<Reply, Error> {
    query.selector = query.selector.stored(place.resource);
    let method = request.method().clone();
    match (&place.name, place.subresource) {
        (None, _) if place.resource.transient => match method {
            Method::POST if place.is_where_objects_begin() => {
                reviews::answer(&server, &place, &query.user, request).await
            }
            _ => Err(Error::MethodNotAllowed),
        },
        (None, _) => match method {
            Method::GET if query.watch => watch::start(&server, &place, &query),
            Method::GET => objects::list(&server, &place, &query),
            Method::POST if place.is_where_objects_begin() => {
                objects::create(&server, &place, &query, request).await
            }
            Method::DELETE => objects::delete_collection(&server, &place, &query, request).await,
            _ => Err(Error::MethodNotAllowed),
        },
        (Some(_), Some(Subresource::Binding)) => match method {
            Method::POST => objects::bind(&server, &place, &query, request).await,
            _ => Err(Error::MethodNotAllowed),
        },
        (Some(_), Some(Subresource::Eviction)) => match method {
            Method::POST => objects::evict(&server, &place, &query, request).await,
            _ => Err(Error::MethodNotAllowed),
        },
        (Some(_), Some(Subresource::Token)) => match method {
            Method::POST => accounts::issue(&server, &place, request).await,
            _ => Err(Error::MethodNotAllowed),
        },
        (Some(_), Some(Subresource::Log)) => match method {
            Method::GET => {
                let query = request.uri().query().unwrap_or_default();
                containers::logs(&server, &place, query).await
            }
            _ => Err(Error::MethodNotAllowed),
        },
        (Some(_), Some(Subresource::Scale)) => match method {
            Method::GET => scale::get(&server, &place, &query),
            Method::PUT => scale::replace(&server, &place, &query, request).await,
            Method::PATCH => scale::patch(&server, &place, &query, request).await,
            _ => Err(Error::MethodNotAllowed),
        },
        (Some(_), Some(Subresource::Finalize)) => match method {
            Method::PUT => objects::finalize(&server, &place, &query, request).await,
            _ => Err(Error::MethodNotAllowed),
        },
        (Some(_), subresource) => {
            let part = match subresource {
                None => Part::Main,
                Some(Subresource::Approval) => Part::Approval,
                Some(Subresource::EphemeralContainers) => Part::EphemeralContainers,
                Some(Subresource::Resize) => Part::Resize,
                Some(_) => Part::Status,
            };
            match method {
                Method::GET if query.watch => watch::start(&server, &place, &query),
                Method::GET => objects::get(&server, &place, &query),
                Method::PUT => objects::replace(&server, &place, part, &query, request).await,
                Method::PATCH => objects::patch(&server, &place, part, &query, request).await,
                Method::DELETE if part == Part::Main => {
                    objects::delete(&server, &place, &query, request).await
                }
                _ => Err(Error::MethodNotAllowed),
            }
        }
    }
}

/// `kubectl/v1.36.0 (linux/amd64)` is `kubectl`.
fn agent(request: &Request<Incoming>) -> String {
    let header = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok());
    let name = header.unwrap_or_default().split('/').next().unwrap_or_default();
    if name.is_empty() { "unknown".to_owned() } else { name.chars().take(128).collect() }
}

/// `Status` of a success that has no object to show.
fn success(place: &Place, uid: &str) -> serde_json::Value {
    let mut details = json!({
        "name": place.name.as_deref().unwrap_or_default(),
        "kind": place.resource.plural,
        "uid": uid,
    });
    if !place.resource.group.is_empty() {
        details["group"] = place.resource.group.into();
    }
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    })
}
