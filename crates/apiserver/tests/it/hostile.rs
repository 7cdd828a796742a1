//! Whatever comes in, an answer goes out, and it is JSON.

use crate::ask::ask;
use crate::cluster::Cluster;
use proptest::prelude::*;
use serde_json::Value;

#[tokio::test]
async fn refusals_are_statuses() {
    let cluster = Cluster::start(|_| {}).await;
    let pods = "/api/v1/namespaces/default/pods";
    for (method, target, media, body, code, reason) in [
        ("GET", "/api/v1/nowhere", "", "", 404, "NotFound"),
        ("GET", "/api/v1/namespaces/default/pods/none", "", "", 404, "NotFound"),
        ("GET", "/api/v1/pods?limit=x", "", "", 400, "BadRequest"),
        ("POST", "/api/v1/pods", "", "{}", 405, "MethodNotAllowed"),
        ("POST", pods, "application/json", "{", 400, "BadRequest"),
        ("POST", pods, "application/json", "[]", 400, "BadRequest"),
        ("POST", pods, "application/json", r#"{"kind": "Service"}"#, 400, "BadRequest"),
        (
            "POST",
            pods,
            "application/json",
            r#"{"metadata": {"name": "a"}, "spec": 3}"#,
            400,
            "BadRequest",
        ),
        ("POST", pods, "application/json", r#"{"metadata": {"name": "a"}}"#, 422, "Invalid"),
        ("POST", pods, "application/yaml", "a: b", 422, "Invalid"),
        ("POST", pods, "application/yaml", "a: [", 400, "BadRequest"),
        ("POST", pods, "text/plain", "a: b", 415, "UnsupportedMediaType"),
        ("PATCH", "/api/v1/nodes/n", "application/apply-patch+yaml", "{}", 422, "Invalid"),
        (
            "POST",
            "/api/v1/namespaces/none/configmaps",
            "",
            r#"{"metadata": {"name": "a"}}"#,
            404,
            "NotFound",
        ),
        ("DELETE", "/api/v1/namespaces/default", "", "", 403, "Forbidden"),
        ("PUT", pods, "", "{}", 405, "MethodNotAllowed"),
        ("GET", "/api/v1/pods?watch=1&sendInitialEvents=true", "", "", 422, "Invalid"),
        ("GET", "/api/v1/pods?resourceVersion=9007199254740991", "", "", 504, "Timeout"),
    ] {
        let (got, status) = ask(&cluster, method, target, media, body).await;
        assert_eq!(
            (got, status["reason"].as_str()),
            (code, Some(reason)),
            "{method} {target} {body}: {status}"
        );
        assert_eq!(status["kind"], "Status");
    }
}

/// So many cases, or as many more as `PROPTEST_CASES` says.
pub(crate) fn cases(least: u32) -> ProptestConfig {
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|it| it.parse().ok());
    ProptestConfig::with_cases(wanted.unwrap_or(0).max(least))
}

pub(crate) fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z0-9./$-]{0,8}".prop_map(Value::from),
    ];
    let field = prop_oneof![
        "metadata",
        "spec",
        "status",
        "ports",
        "containers",
        "clusterIP",
        "nodePort",
        "port",
        "type",
        "labels",
        "ownerReferences",
        "finalizers",
        "name",
        "template",
        "selector",
        "listeners",
        "addresses",
        "endpoints",
        "[$]patch",
        "[$]setElementOrder/ports",
        "[a-z]{1,4}",
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((field.clone(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Where nothing of the API is, the real server has no Status either.
const NO_PAGE: &str = "404 page not found\n";

/// No request makes the server fail, and every refusal is a Status that says the same as the code.
pub(crate) fn check(request: &str, code: u16, answer: &Value) {
    assert!((200..300).contains(&code) || (400..505).contains(&code), "{request}: {code}");
    if code >= 400 && (code, answer) != (404, &NO_PAGE.into()) {
        assert_eq!(answer["kind"], "Status", "{request}: {code} {answer}");
        assert_eq!(answer["code"], code, "{request}: {answer}");
        assert!(answer["message"].as_str().is_some_and(|it| !it.is_empty()), "{request}: {answer}");
    }
    assert!(code != 500 || answer["reason"] != "InternalError", "{request}: {answer}");
}

proptest! {
    #![proptest_config(cases(24))]

    /// Each case sends a few dozen arbitrary requests to one server, which then still answers.
    #[test]
    fn arbitrary_requests_are_answered(
        requests in prop::collection::vec(
            (
                prop_oneof![Just("GET"), Just("POST"), Just("PUT"), Just("PATCH"), Just("DELETE"), Just("BREW")],
                prop_oneof![
                    "/api/v1/(pods|services|namespaces|nodes)(/default)?",
                    "/api/v1/namespaces/default/(services|pods|configmaps|events)(/a)?(/status|/binding)?",
                    "/apis/apps/v1/namespaces/default/(deployments|statefulsets)/a/(status|scale)",
                    "/openapi/(v2|v3)(/api/v1|/apis/apps/v1)?",
                    "/apis/(apps/v1/namespaces/default/deployments|podway[.]io/v1alpha1/virtualips)(/a)?(/status)?",
                    "(/[a-z0-9%.]{0,8}){0,6}",
                ],
                "(\\?(limit|labelSelector|fieldSelector|continue|resourceVersion|dryRun|watch|fieldManager)=[a-z0-9%=!,/.]{0,8})?",
                prop_oneof![
                    Just("application/json"),
                    Just("application/merge-patch+json"),
                    Just("application/json-patch+json"),
                    Just("application/strategic-merge-patch+json"),
                    Just("application/apply-patch+yaml"),
                ],
                json(),
            ),
            30,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let cluster = Cluster::start(|_| {}).await;
            for (method, path, query, media, body) in requests {
                let path = if path.is_empty() { "/".to_owned() } else { path };
                let query = query.replace("watch=", "timeoutSeconds=0&watch=");
                let target = format!("{path}{query}");
                let (code, answer) = ask(&cluster, method, &target, media, &named(body)).await;
                check(&format!("{method} {target}"), code, &answer);
            }
            let (code, list) = ask(&cluster, "GET", "/api/v1/namespaces", "", "").await;
            assert_eq!((code, list["kind"].as_str()), (200, Some("NamespaceList")));
        });
    }
}

/// The body with a name where one fits, so that more of them get past the first check.
fn named(mut body: Value) -> String {
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("name".into(), "a".into());
    }
    body.to_string()
}
