//! Questions that are asked as objects: whose token is this, who am I, and what may somebody do?

use super::objects::body;
use super::reply::Reply;
use super::route::Place;
use crate::access::User;
use crate::access::tokens::ISSUER;
use crate::error::{Cause, Error, Reason};
use crate::resources::{Kind, Resource};
use crate::rights::{self, Judgement, Question};
use crate::server::ApiServer;
use hyper::Request;
use hyper::body::Incoming;
use serde_json::{Value, json};

pub(super) async fn answer(
    server: &ApiServer,
    place: &Place,
    user: &User,
    request: Request<Incoming>,
) -> Result<Reply, Error> {
    let mut asked = body(request).await?;
    let spec = asked["spec"].clone();
    let review = place.resource;
    let status = match review.kind {
        Kind::SelfSubjectReview => json!({"userInfo": user.json()}),
        Kind::TokenReview => whose(server, &spec),
        Kind::SelfSubjectAccessReview => judged(server, user, &question(review, &spec)?),
        Kind::SubjectAccessReview | Kind::LocalSubjectAccessReview => {
            let mut question = question(review, &spec)?;
            question.namespace = place.namespace.clone().unwrap_or(question.namespace);
            judged(server, &somebody(review, &spec)?, &question)
        }
        Kind::SelfSubjectRulesReview => {
            let namespace = spec["namespace"].as_str().unwrap_or_default();
            server.read(|registry| rights::rules(&registry.store, user, namespace))
        }
        _ => return Err(Error::MethodNotAllowed),
    };
    let Value::Object(fields) = &mut asked else {
        return Err(Error::BadRequest { message: "the body is not an object".into() });
    };
    fields.insert("kind".into(), review.name.into());
    fields.insert("apiVersion".into(), review.api_version().into());
    fields.insert("status".into(), status);
    Ok(Reply::json(&asked).code(201))
}

fn judged(server: &ApiServer, user: &User, question: &Question) -> Value {
    let judgement = server.read(|registry| rights::judge(&registry.store, user, question));
    let Judgement { allowed, reason } = judgement;
    let mut status = json!({"allowed": allowed});
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    status
}

fn question(review: &'static Resource, spec: &Value) -> Result<Question, Error> {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let text = |part: &Value, field: &str| part[field].as_str().unwrap_or_default().to_owned();
    match (resource.is_object(), path.is_object()) {
        (true, false) => Ok(Question {
            verb: text(resource, "verb"),
            path: None,
            group: text(resource, "group"),
            resource: text(resource, "resource"),
            subresource: text(resource, "subresource"),
            namespace: text(resource, "namespace"),
            name: text(resource, "name"),
        }),
        (false, true) => Ok(Question {
            verb: text(path, "verb"),
            path: Some(text(path, "path")),
            ..Question::default()
        }),
        _ => {
            let message =
                "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            Err(invalid(
                review,
                "spec.resourceAttributes",
                format!("Invalid value: null: {message}"),
            ))
        }
    }
}

fn somebody(review: &'static Resource, spec: &Value) -> Result<User, Error> {
    let name = spec["user"].as_str().unwrap_or_default().to_owned();
    let groups = spec["groups"].as_array().into_iter().flatten();
    let groups: Vec<String> = groups.filter_map(Value::as_str).map(str::to_owned).collect();
    if name.is_empty() && groups.is_empty() {
        let message = "Invalid value: \"\": at least one of user or group must be specified";
        return Err(invalid(review, "spec.user", message.to_owned()));
    }
    Ok(User { name, groups, ..User::default() })
}

fn invalid(review: &'static Resource, field: &str, message: String) -> Error {
    let causes = vec![Cause { reason: Reason::Invalid, field: field.to_owned(), message }];
    Error::Review { group: review.group, kind: review.name, causes }
}

fn whose(server: &ApiServer, spec: &Value) -> Value {
    let listed = spec["audiences"].as_array().into_iter().flatten();
    let mut audiences: Vec<String> = listed.filter_map(Value::as_str).map(str::to_owned).collect();
    if audiences.is_empty() {
        audiences.push(ISSUER.to_owned());
    }
    let token = spec["token"].as_str().unwrap_or_default();
    match server.user_of_token(token, &audiences) {
        Some((user, audiences)) => {
            json!({"authenticated": true, "user": user.json(), "audiences": audiences})
        }
        None => json!({"user": {}, "error": "invalid bearer token"}),
    }
}
