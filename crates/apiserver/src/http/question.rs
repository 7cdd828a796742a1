//! What a request wants to do, as roles speak of it (`k8s.io/apiserver/pkg/endpoints/request`).

use crate::rights::Question;
use hyper::Method;

/// Reads it from the method and the path, whether or not anything is served there.
pub(super) fn of(method: &Method, path: &str, query: &str) -> Question {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let question = match parts.as_slice() {
        ["api", _version, rest @ ..] if !rest.is_empty() => of_resource(method, "", rest, query),
        ["apis", group, _version, rest @ ..] if !rest.is_empty() => {
            of_resource(method, group, rest, query)
        }
        _ => None,
    };
    question.unwrap_or_else(|| Question {
        verb: method.as_str().to_lowercase(),
        path: Some(path.to_owned()),
        ..Question::default()
    })
}

fn of_resource(method: &Method, group: &str, parts: &[&str], query: &str) -> Option<Question> {
    let (namespace, parts) = match parts {
        ["namespaces", namespace, rest @ ..]
            if !rest.is_empty() && !["status", "finalize"].contains(&rest[0]) =>
        {
            (*namespace, rest)
        }
        // A namespace is in itself.
        ["namespaces", namespace, ..] => (*namespace, parts),
        _ => ("", parts),
    };
    let decoded = |at: usize| {
        let part = parts.get(at).copied().unwrap_or_default();
        percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned()
    };
    let mut question = Question::about("", group, &decoded(0));
    (question.name, question.subresource) = (decoded(1), decoded(2));
    question.namespace = namespace.to_owned();
    let all = question.name.is_empty();
    let parameter = |name: &str| {
        let mut parameters = form_urlencoded::parse(query.as_bytes());
        parameters.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    let watches = || parameter("watch").is_some_and(|it| matches!(it.as_str(), "true" | "1" | ""));
    question.verb = match *method {
        Method::GET | Method::HEAD if question.subresource.is_empty() && watches() => "watch",
        Method::GET | Method::HEAD if all => "list",
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if all => "deletecollection",
        Method::DELETE => "delete",
        _ => return None,
    }
    .to_owned();
    if all && matches!(question.verb.as_str(), "list" | "watch" | "deletecollection") {
        // One that is selected by its name counts as named.
        let fields = parameter("fieldSelector").unwrap_or_default();
        let name = fields.split(',').find_map(|term| term.strip_prefix("metadata.name="));
        question.name = name.unwrap_or_default().trim_start_matches('=').to_owned();
    }
    Some(question)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_in_the_words_of_roles() {
        for (request, expected) in [
            ("GET /api/v1/pods", "list .pods  "),
            ("GET /api/v1/namespaces/a/pods?watch=1", "watch .pods a "),
            ("GET /api/v1/namespaces/a/pods/b", "get .pods a b"),
            ("GET /api/v1/namespaces/a/pods/b/log", "get .pods/log a b"),
            ("POST /api/v1/namespaces/a/pods/b/exec", "create .pods/exec a b"),
            (
                "PUT /apis/apps/v1/namespaces/a/deployments/b/scale",
                "update apps.deployments/scale a b",
            ),
            (
                "DELETE /apis/apps/v1/namespaces/a/deployments",
                "deletecollection apps.deployments a ",
            ),
            ("PATCH /api/v1/namespaces/a", "patch .namespaces a a"),
            ("GET /api/v1/namespaces", "list .namespaces  "),
            ("PUT /api/v1/namespaces/a/finalize", "update .namespaces/finalize a a"),
            ("GET /api/v1/nodes?fieldSelector=metadata.name%3Dn-1", "list .nodes  n-1"),
            ("GET /apis/apps/v1", "get path /apis/apps/v1"),
            ("GET /metrics", "get path /metrics"),
            (
                "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                "create authorization.k8s.io.selfsubjectaccessreviews  ",
            ),
        ] {
            let (method, target) = request.split_once(' ').unwrap();
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let it = of(&method.parse().unwrap(), path, query);
            let part = if it.subresource.is_empty() { "" } else { "/" };
            let found = match &it.path {
                Some(path) => format!("{} path {path}", it.verb),
                None => format!(
                    "{} {}.{}{part}{} {} {}",
                    it.verb, it.group, it.resource, it.subresource, it.namespace, it.name
                ),
            };
            assert_eq!(found, expected);
        }
    }

    proptest! {
        #[test]
        fn any_path_is_safe(path in "(/[a-z0-9%./]{0,12}){0,8}", query in "\\PC{0,20}") {
            let _question = of(&Method::GET, &path, &query);
        }
    }
}
