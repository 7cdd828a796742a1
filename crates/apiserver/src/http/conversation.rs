//! Requests whose answer is a conversation: whether policies let it begin.

use super::objects::write;
use super::query::Query;
use super::route::{Place, Subresource};
use crate::access::User;
use crate::error::Error;
use crate::policy::Operation;
use crate::server::ApiServer;
use hyper::Request;
use serde_json::{Map, Value};

/// Texts, flags and lists in the options of a connection; what else is asked is no part of them.
const FLAGS: [&str; 4] = ["stdin", "stdout", "stderr", "tty"];
const LISTS: [&str; 2] = ["command", "ports"];
const TEXTS: [&str; 2] = ["container", "path"];

pub(super) async fn admit<T>(
    server: &ApiServer,
    place: &Place,
    request: &Request<T>,
    user: User,
) -> Result<(), Error> {
    let Some(subresource) = place.subresource else { return Ok(()) };
    let kind = match (subresource, place.resource.plural) {
        (Subresource::Exec, _) => "PodExecOptions",
        (Subresource::Attach, _) => "PodAttachOptions",
        (Subresource::PortForward, _) => "PodPortForwardOptions",
        (_, "services") => "ServiceProxyOptions",
        (_, "nodes") => "NodeProxyOptions",
        _ => "PodProxyOptions",
    };
    let options = options(kind, request.uri().query().unwrap_or_default());
    let query = Query::of(user);
    let write = write(place, &query);
    let decided = server.write_asking(|registry| {
        let (act, key) = ((Operation::Connect, subresource.name()), place.key());
        let (about, kind) = ((place.resource, &key), ("", "v1", kind));
        let decided = registry.ask_about_act(act, about, kind, &options, write);
        // The answer is no object, and has no place for warnings.
        drop(registry.take_warnings());
        decided
    });
    decided.await
}

fn options(kind: &str, query: &str) -> Value {
    let mut options = Map::new();
    options.insert("kind".into(), kind.into());
    options.insert("apiVersion".into(), "v1".into());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let flag = matches!(value.as_ref(), "true" | "1");
        match name.as_ref() {
            name if FLAGS.contains(&name) => drop(options.insert(name.to_owned(), flag.into())),
            name if TEXTS.contains(&name) => {
                options.insert(name.to_owned(), value.as_ref().into());
            }
            name if LISTS.contains(&name) => {
                let list = options.entry(name.to_owned()).or_insert(Value::Array(Vec::new()));
                let value = value.parse::<u16>().map_or(Value::from(value.as_ref()), Value::from);
                list.as_array_mut().into_iter().for_each(|list| list.push(value.clone()));
            }
            _ => {}
        }
    }
    Value::Object(options)
}
