//! Who asks, and whether they may: each request passes here first.

use super::question;
use crate::access::User;
use crate::error::Error;
use crate::rights::{self, Question};
use crate::server::ApiServer;
use hyper::header::HeaderMap;
use hyper::{Method, Request};

/// What needs no credential.
const PUBLIC: [&str; 4] = ["/healthz", "/livez", "/readyz", "/version"];
/// Connections to a pod are opened by GET where they are WebSockets, but are no reading.
const CONNECTIONS: [&str; 3] = ["exec", "attach", "portforward"];

/// The user in whose name the request is done, or why it is not.
pub(super) fn admit<T>(
    server: &ApiServer,
    caller: Option<User>,
    request: &Request<T>,
) -> Result<User, Error> {
    let path = request.uri().path();
    let is_public = || PUBLIC.iter().any(|it| path == *it || path.starts_with(&format!("{it}/")));
    let Some(user) = caller else {
        return if is_public() { Ok(User::default()) } else { Err(Error::Unauthorized) };
    };
    let query = request.uri().query().unwrap_or_default();
    server.read(|registry| {
        let user = impersonated(request.headers(), user, |user, question| {
            rights::check(&registry.store, user, question)
        })?;
        let question = question::of(request.method(), path, query);
        rights::check(&registry.store, &user, &question)?;
        if *request.method() == Method::GET && CONNECTIONS.contains(&&*question.subresource) {
            let question = Question { verb: "create".into(), ..question };
            rights::check(&registry.store, &user, &question)?;
        }
        Ok(user)
    })
}

/// Somebody else, where the caller asks for that and may.
///
/// <https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/>
fn impersonated(
    headers: &HeaderMap,
    user: User,
    check: impl Fn(&User, &Question) -> Result<(), Error>,
) -> Result<User, Error> {
    let all = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter();
        values.filter_map(|it| it.to_str().ok()).map(str::to_owned).collect()
    };
    let (names, groups) = (all("impersonate-user"), all("impersonate-group"));
    let Some(name) = names.into_iter().next().filter(|name| !name.is_empty()) else {
        let strays = ["impersonate-group", "impersonate-uid"];
        if strays.iter().any(|name| headers.contains_key(*name)) {
            let message = "requested impersonation of groups or a uid without impersonating a user";
            return Err(Error::BadRequest { message: message.into() });
        }
        return Ok(user);
    };
    let about = |group: &str, resource: &str, name: &str| Question {
        name: name.to_owned(),
        ..Question::about("impersonate", group, resource)
    };
    let account = name.strip_prefix("system:serviceaccount:").and_then(|it| it.split_once(':'));
    match account {
        Some((namespace, account)) => {
            let namespace = namespace.to_owned();
            check(&user, &Question { namespace, ..about("", "serviceaccounts", account) })?;
        }
        None => check(&user, &about("", "users", &name))?,
    }
    for group in &groups {
        check(&user, &about("", "groups", group))?;
    }
    let mut other = User { groups: User::groups_of(&name), name, ..User::default() };
    if let Some(uid) = all("impersonate-uid").into_iter().next() {
        check(&user, &about("authentication.k8s.io", "uids", &uid))?;
        other.uid = uid;
    }
    for (name, values) in headers.keys().filter_map(|key| {
        let name = key.as_str().strip_prefix("impersonate-extra-")?;
        let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy().into_owned();
        Some((name, all(key.as_str())))
    }) {
        for value in &values {
            let mut question = about("authentication.k8s.io", "userextras", value);
            question.subresource.clone_from(&name);
            check(&user, &question)?;
        }
        other.extra.insert(name, values);
    }
    other.groups.splice(0..0, groups);
    other.groups.dedup();
    Ok(other)
}
