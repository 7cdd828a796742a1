//! Questions that are asked as objects: who am I, and what may I do? Everybody who got in may do everything.

use super::objects::body;
use super::reply::Reply;
use crate::access::User;
use crate::error::Error;
use hyper::Request;
use hyper::body::Incoming;
use serde_json::{Value, json};

/// Groups with their kinds and plurals; each is only ever created.
const REVIEWS: [(&str, &str, &str); 3] = [
    ("authentication.k8s.io", "SelfSubjectReview", "selfsubjectreviews"),
    ("authorization.k8s.io", "SelfSubjectAccessReview", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "SelfSubjectRulesReview", "selfsubjectrulesreviews"),
];

/// The kind of the review that is asked for at this place.
pub(super) fn find(group: &str, version: &str, plural: &str) -> Option<&'static str> {
    let review = REVIEWS.iter().find(|review| review.0 == group && review.2 == plural);
    review.filter(|_| version == "v1").map(|review| review.1)
}

pub(super) async fn answer(
    kind: &str,
    user: &User,
    request: Request<Incoming>,
) -> Result<Reply, Error> {
    let mut review = body(request).await?;
    let Value::Object(fields) = &mut review else {
        return Err(Error::BadRequest { message: "the body is not an object".into() });
    };
    fields.insert("status".into(), status(kind, user));
    Ok(Reply::json(&review).code(201))
}

fn status(kind: &str, user: &User) -> Value {
    let everything = json!(["*"]);
    match kind {
        "SelfSubjectReview" => {
            let mut groups = user.groups.clone();
            groups.push("system:authenticated".into());
            json!({"userInfo": {"username": user.name, "groups": groups}})
        }
        "SelfSubjectRulesReview" => json!({
            "resourceRules": [{"verbs": everything, "apiGroups": everything, "resources": everything}],
            "nonResourceRules": [{"verbs": everything, "nonResourceURLs": everything}],
            "incomplete": false,
        }),
        _ => json!({"allowed": true}),
    }
}
