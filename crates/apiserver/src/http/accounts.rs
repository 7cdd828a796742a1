//! `serviceaccounts/token`, and where others learn how to verify such tokens.

use super::objects::body;
use super::reply::Reply;
use super::route::Place;
use crate::access::tokens::{Bound, Claims, ISSUER};
use crate::error::{Cause, Clash, Error, Reason};
use crate::registry::Registry;
use crate::resources::Kind;
use crate::server::{ApiServer, now};
use crate::store::Key;
use crate::time;
use hyper::Request;
use hyper::body::Incoming;
use serde_json::{Value, json};

const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenRequest";
/// Seconds for which a token is good, at least and at most, and where nothing is said.
const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;
const USUAL: i64 = 3600;

/// Answers a `TokenRequest`.
pub(super) async fn issue(
    server: &ApiServer,
    place: &Place,
    request: Request<Incoming>,
) -> Result<Reply, Error> {
    let mut asked = body(request).await?;
    if !asked.is_object() {
        return Err(Error::BadRequest { message: "the body is not an object".into() });
    }
    let spec = &asked["spec"];
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(USUAL);
    check_lifetime(seconds)?;
    let audiences = spec["audiences"].as_array().into_iter().flatten();
    let mut audiences: Vec<String> =
        audiences.filter_map(Value::as_str).map(str::to_owned).collect();
    if audiences.is_empty() {
        audiences.push(ISSUER.to_owned());
    }
    let mut claims = server.read(|registry| claims(registry, place, &spec["boundObjectRef"]))?;
    let unsigned = |error: crate::AccessError| Error::Internal { message: error.to_string() };
    let issued = now();
    claims.audiences.clone_from(&audiences);
    (claims.issued, claims.expires) = (issued, issued + claims.lifetime(seconds));
    claims.id = server.tokens.identity().map_err(unsigned)?;
    let token = server.tokens.issue(&claims).map_err(unsigned)?;
    asked["kind"] = KIND.into();
    asked["apiVersion"] = format!("{GROUP}/v1").into();
    asked["metadata"] = json!({
        "name": place.name, "namespace": place.namespace, "creationTimestamp": time::rfc3339(issued),
    });
    asked["spec"]["audiences"] = audiences.into();
    asked["spec"]["expirationSeconds"] = seconds.into();
    asked["status"] =
        json!({"token": token, "expirationTimestamp": time::rfc3339(issued + seconds)});
    Ok(Reply::json(&asked).code(201))
}

fn check_lifetime(seconds: i64) -> Result<(), Error> {
    let detail = match seconds {
        ..SHORTEST => "may not specify a duration less than 10 minutes",
        SHORTEST..=LONGEST => return Ok(()),
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    let message = format!("Invalid value: {seconds}: {detail}");
    let causes =
        vec![Cause { reason: Reason::Invalid, field: "spec.expirationSeconds".into(), message }];
    Err(Error::Review { group: GROUP, kind: KIND, causes })
}

fn claims(registry: &Registry, place: &Place, bound: &Value) -> Result<Claims, Error> {
    let key = place.key();
    let account = registry.get(Kind::ServiceAccount, &key)?;
    let of = |name: &str, uid: &str| Bound { name: name.to_owned(), uid: uid.to_owned() };
    let mut claims = Claims {
        namespace: key.namespace.clone(),
        account: of(&key.name, &account.uid()),
        ..Claims::default()
    };
    if bound.is_null() {
        return Ok(claims);
    }
    let name = bound["name"].as_str().unwrap_or_default();
    let (kind, namespace) = match bound["kind"].as_str() {
        Some("Pod") => (Kind::Pod, key.namespace.as_str()),
        Some("Secret") => (Kind::Secret, key.namespace.as_str()),
        Some("Node") => (Kind::Node, ""),
        other => {
            let other = other.unwrap_or_default();
            let message = format!("cannot bind token to object of type {other}");
            return Err(Error::BadRequest { message });
        }
    };
    let object = registry.get(kind, &Key::new(namespace, name))?;
    if let Some(wanted) =
        bound["uid"].as_str().filter(|uid| !uid.is_empty() && *uid != object.uid())
    {
        let (wanted, found) = (wanted.to_owned(), object.uid());
        let clash = Clash::Precondition { field: "UID", wanted, found };
        return Err(Error::Conflict { resource: kind.resource(), name: name.to_owned(), clash });
    }
    let it = of(name, &object.uid());
    match kind {
        Kind::Pod => {
            let spec = &object.value["spec"];
            if spec["serviceAccountName"] != key.name.as_str() {
                let account = &key.name;
                let message = format!(
                    "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                );
                return Err(Error::BadRequest { message });
            }
            claims.node = spec["nodeName"].as_str().and_then(|node| {
                let found = registry.store.get(Kind::Node, &Key::new("", node))?;
                Some(of(node, &found.uid()))
            });
            claims.pod = Some(it);
        }
        Kind::Secret => claims.secret = Some(it),
        _ => claims.node = Some(it),
    }
    Ok(claims)
}

/// `/.well-known/openid-configuration`
pub(super) fn configuration(server: &ApiServer) -> Value {
    json!({
        "issuer": ISSUER,
        "jwks_uri": format!("https://{}/openid/v1/jwks", server.advertise),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}
