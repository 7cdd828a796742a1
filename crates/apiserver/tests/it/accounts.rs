//! Service accounts, their tokens, and what roles let them and others do.

use crate::access::{client, guarded};
use crate::cluster::in_time;
use apiserver::Access;
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use kube::config::Kubeconfig;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;

/// A server with the administrator's client.
struct Cluster {
    address: SocketAddr,
    access: Arc<Access>,
    admin: Client,
}

impl Cluster {
    async fn start() -> Self {
        let (address, access) = guarded().await;
        let kubeconfig = access.kubeconfig("lab", &format!("https://{address}")).unwrap();
        Self { address, admin: client(&kubeconfig, |_| {}).await, access }
    }

    /// A client with this token alone.
    async fn holder(&self, token: &str) -> Client {
        let kubeconfig = self.access.kubeconfig("lab", &format!("https://{}", self.address));
        let bare = |config: &mut Kubeconfig| {
            let user = config.auth_infos[0].auth_info.as_mut().unwrap();
            user.client_certificate_data = None;
            user.client_key_data = None;
            user.token = Some(token.to_owned().into());
        };
        client(&kubeconfig.unwrap(), bare).await
    }

    /// As the administrator, in somebody's name where the path is followed by ` as NAME`.
    async fn ask(&self, line: &str, body: Value) -> (u16, Value) {
        ask(&self.admin, line, body).await
    }

    /// A new token of an account in the namespace `default`.
    async fn token(&self, account: &str, spec: Value) -> String {
        let path = format!("POST /api/v1/namespaces/default/serviceaccounts/{account}/token");
        let (code, answer) = self.ask(&path, json!({"spec": spec})).await;
        assert_eq!(code, 201, "{answer}");
        answer["status"]["token"].as_str().unwrap().to_owned()
    }
}

async fn ask(client: &Client, line: &str, body: Value) -> (u16, Value) {
    let (line, name) = line.split_once(" as ").unwrap_or((line, ""));
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = http::Request::builder().method(method).uri(path);
    if !name.is_empty() {
        request = request.header("impersonate-user", name);
    }
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = request.header("content-type", "application/json").body(Body::from(body));
    let response = in_time(client.send(request.unwrap())).await.unwrap();
    let code = response.status().as_u16();
    let text = in_time(response.into_body().collect()).await.unwrap().to_bytes();
    (code, serde_json::from_slice(&text).unwrap_or_default())
}

fn bind(role: &str, subject: Value) -> Value {
    json!({"metadata": {"name": format!("{role}-here")}, "subjects": [subject],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}})
}

const DEFAULT: &str = "/api/v1/namespaces/default";
const BINDINGS: &str = "POST /apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";

#[tokio::test]
async fn every_namespace_has_an_account_and_every_pod_its_token() {
    let cluster = Cluster::start().await;
    let namespace = json!({"metadata": {"name": "shop"}});
    assert_eq!(cluster.ask("POST /api/v1/namespaces", namespace).await.0, 201);
    let account = "GET /api/v1/namespaces/shop/serviceaccounts/default";
    assert_eq!(cluster.ask(account, Value::Null).await.0, 200);
    let delete = account.replace("GET", "DELETE");
    assert_eq!(cluster.ask(&delete, Value::Null).await.0, 200);
    assert_eq!(cluster.ask(account, Value::Null).await.0, 200, "it comes back");
    let map = "GET /api/v1/namespaces/shop/configmaps/kube-root-ca.crt";
    assert_eq!(
        cluster.ask(map, Value::Null).await.1["data"]["ca.crt"],
        cluster.access.certificate()
    );

    let pod =
        json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c", "image": "x"}]}});
    let pods = "POST /api/v1/namespaces/shop/pods";
    let (_, made) = cluster.ask(pods, pod.clone()).await;
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    let mount = &made["spec"]["containers"][0]["volumeMounts"][0];
    assert_eq!(mount["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_eq!(mount["name"], made["spec"]["volumes"][0]["name"]);
    let token = &made["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(*token, json!({"expirationSeconds": 3607, "path": "token"}));

    let mut other = pod.clone();
    other["metadata"]["name"] = "bare".into();
    other["spec"]["automountServiceAccountToken"] = false.into();
    assert_eq!(cluster.ask(pods, other).await.1["spec"]["volumes"], Value::Null);
    let mut other = pod;
    other["metadata"]["name"] = "lost".into();
    other["spec"]["serviceAccountName"] = "nosuch".into();
    let (code, status) = cluster.ask(pods, other).await;
    let expected = "pods \"lost\" is forbidden: error looking up service account shop/nosuch: serviceaccount \"nosuch\" not found";
    assert_eq!((code, status["message"].as_str()), (403, Some(expected)));
}

#[tokio::test]
async fn the_certificate_that_every_namespace_has_comes_back_as_it_was() {
    let cluster = Cluster::start().await;
    let path = "/api/v1/namespaces/default/configmaps/kube-root-ca.crt";
    let (_, first) = cluster.ask(&format!("GET {path}"), Value::Null).await;
    let certificate = &first["data"]["ca.crt"];
    assert!(certificate.as_str().is_some_and(|it| it.starts_with("-----BEGIN CERTIFICATE")));
    let changed =
        json!({"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": "", "more": "x"}});
    for (line, body) in [("DELETE", Value::Null), ("PUT", changed)] {
        let (code, answer) = cluster.ask(&format!("{line} {path}"), body).await;
        assert_eq!(code, 200, "{answer}");
        let (_, found) = cluster.ask(&format!("GET {path}"), Value::Null).await;
        assert_eq!(found["data"], json!({"ca.crt": certificate}), "after {line}");
    }
}

#[tokio::test]
async fn a_token_opens_what_its_roles_allow_until_its_pod_is_gone() {
    let cluster = Cluster::start().await;
    let pod =
        json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c", "image": "x"}]}});
    let (_, pod) = cluster.ask(&format!("POST {DEFAULT}/pods"), pod).await;
    let bound =
        json!({"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": pod["metadata"]["uid"]});
    let token = cluster.token("default", json!({"boundObjectRef": bound})).await;
    let robot = cluster.holder(&token).await;
    let list = format!("GET {DEFAULT}/pods");
    let (code, status) = ask(&robot, &list, Value::Null).await;
    let expected = "pods is forbidden: User \"system:serviceaccount:default:default\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"";
    assert_eq!((code, status["message"].as_str()), (403, Some(expected)));
    assert_eq!(status["details"], json!({"kind": "pods"}));
    assert_eq!(ask(&robot, "GET /apis", Value::Null).await.0, 200, "everybody may look around");

    let subject = json!({"kind": "ServiceAccount", "name": "default"});
    assert_eq!(cluster.ask(BINDINGS, bind("view", subject)).await.0, 201);
    assert_eq!(ask(&robot, &list, Value::Null).await.0, 200);
    assert_eq!(ask(&robot, &format!("GET {DEFAULT}/secrets"), Value::Null).await.0, 403);
    assert_eq!(ask(&robot, &format!("DELETE {DEFAULT}/pods/web"), Value::Null).await.0, 403);

    let review = json!({"spec": {"token": token}});
    let reviews = "POST /apis/authentication.k8s.io/v1/tokenreviews";
    let (_, answer) = cluster.ask(reviews, review.clone()).await;
    assert_eq!(answer["status"]["authenticated"], true, "{answer}");
    assert_eq!(answer["status"]["user"]["username"], "system:serviceaccount:default:default");
    let extra = &answer["status"]["user"]["extra"];
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], json!(["web"]));

    let delete = format!("DELETE {DEFAULT}/pods/web?gracePeriodSeconds=0");
    assert_eq!(cluster.ask(&delete, Value::Null).await.0, 200);
    assert_eq!(ask(&robot, &list, Value::Null).await.0, 401);
    let (_, answer) = cluster.ask(reviews, review).await;
    assert_eq!(answer["status"], json!({"user": {}, "error": "invalid bearer token"}));
}

#[tokio::test]
async fn a_token_is_for_its_audience() {
    let cluster = Cluster::start().await;
    let token = cluster.token("default", json!({"audiences": ["vault"]})).await;
    let robot = cluster.holder(&token).await;
    assert_eq!(ask(&robot, "GET /apis", Value::Null).await.0, 401);
    let review = json!({"spec": {"token": token, "audiences": ["vault", "other"]}});
    let (_, answer) = cluster.ask("POST /apis/authentication.k8s.io/v1/tokenreviews", review).await;
    assert_eq!(answer["status"]["audiences"], json!(["vault"]));
    let path = format!("POST {DEFAULT}/serviceaccounts/default/token");
    for (spec, code, message) in [
        (
            json!({"expirationSeconds": 60}),
            422,
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes",
        ),
        (
            json!({"boundObjectRef": {"kind": "Pod", "name": "nosuch"}}),
            404,
            "pods \"nosuch\" not found",
        ),
        (
            json!({"boundObjectRef": {"kind": "Job", "name": "x"}}),
            400,
            "cannot bind token to object of type Job",
        ),
    ] {
        let (found, status) = cluster.ask(&path, json!({"spec": spec})).await;
        assert_eq!((found, status["message"].as_str()), (code, Some(message)));
    }
}

#[tokio::test]
async fn somebody_else_may_do_what_his_roles_say() {
    let cluster = Cluster::start().await;
    let jane = json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"});
    assert_eq!(cluster.ask(BINDINGS, bind("edit", jane)).await.0, 201);
    let map = json!({"metadata": {"name": "a"}});
    for (line, body, code) in [
        (format!("POST {DEFAULT}/configmaps as jane"), map.clone(), 201),
        (format!("POST {DEFAULT}/configmaps as john"), map, 403),
        ("GET /api/v1/nodes as jane".into(), Value::Null, 403),
        ("GET /version as john".into(), Value::Null, 200),
        ("GET /nosuch as john".into(), Value::Null, 403),
        ("GET /nosuch".into(), Value::Null, 404),
    ] {
        assert_eq!(cluster.ask(&line, body).await.0, code, "{line}");
    }
    let access = |user: &str, verb: &str| {
        json!({"spec": {"user": user, "resourceAttributes":
            {"namespace": "default", "verb": verb, "resource": "pods"}}})
    };
    let reviews = "POST /apis/authorization.k8s.io/v1/subjectaccessreviews";
    let (_, answer) = cluster.ask(reviews, access("jane", "delete")).await;
    let reason = "RBAC: allowed by RoleBinding \"edit-here/default\" of ClusterRole \"edit\" to User \"jane\"";
    assert_eq!(answer["status"], json!({"allowed": true, "reason": reason}));
    let (_, answer) = cluster.ask(reviews, access("john", "delete")).await;
    assert_eq!(answer["status"], json!({"allowed": false}));
    let own = "POST /apis/authentication.k8s.io/v1/selfsubjectreviews as jane";
    let (_, answer) = cluster.ask(own, json!({})).await;
    let expected = json!({"userInfo": {"username": "jane", "groups": ["system:authenticated"]}});
    assert_eq!(answer["status"], expected);
    let rules = "POST /apis/authorization.k8s.io/v1/selfsubjectrulesreviews as jane";
    let (_, answer) = cluster.ask(rules, json!({"spec": {"namespace": "default"}})).await;
    assert!(answer["status"]["resourceRules"].as_array().unwrap().len() > 20, "{answer}");

    // Who has a token cannot make himself somebody else.
    let robot = cluster.holder(&cluster.token("default", json!({})).await).await;
    let (code, status) = ask(&robot, "GET /apis as jane", Value::Null).await;
    let expected = "users \"jane\" is forbidden: User \"system:serviceaccount:default:default\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope";
    assert_eq!((code, status["message"].as_str()), (403, Some(expected)));
}

#[tokio::test]
async fn who_may_write_roles_gives_no_more_than_he_has() {
    const RIGHTS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let cluster = Cluster::start().await;
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let roles =
        rule("rbac.authorization.k8s.io", &["roles"], &["create", "update", "patch", "get"]);
    let own = json!({"metadata": {"name": "own"}, "rules": [roles, rule("", &["pods"], &["get"])]});
    let (code, answer) = cluster.ask(&format!("POST {RIGHTS}/roles"), own).await;
    assert_eq!(code, 201, "{answer}");
    let mut binding = bind("own", json!({"kind": "User", "name": "jane"}));
    binding["roleRef"]["kind"] = "Role".into();
    let (code, answer) = cluster.ask(&format!("POST {RIGHTS}/rolebindings"), binding).await;
    assert_eq!(code, 201, "{answer}");

    let role = |verbs: &[&str]| json!({"metadata": {"name": "made"}, "rules": [rule("", &["pods"], verbs)]});
    let made = format!("POST {RIGHTS}/roles as jane");
    let (code, answer) = cluster.ask(&made, role(&["get", "delete"])).await;
    let expected = "roles.rbac.authorization.k8s.io \"made\" is forbidden: user \"jane\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}";
    assert_eq!((code, answer["message"].as_str()), (403, Some(expected)), "{answer}");
    assert_eq!(cluster.ask(&made, role(&["get"])).await.0, 201);
    let replaced = format!("PUT {RIGHTS}/roles/made as jane");
    assert_eq!(cluster.ask(&replaced, role(&["get", "list"])).await.0, 403);
    // What others gave may stay while the rest changes.
    let by_admin = format!("PUT {RIGHTS}/roles/made");
    assert_eq!(cluster.ask(&by_admin, role(&["get", "list"])).await.0, 200);
    let mut labelled = role(&["get", "list"]);
    labelled["metadata"]["labels"] = json!({"a": "b"});
    let (code, answer) = cluster.ask(&replaced, labelled).await;
    assert_eq!(code, 200, "{answer}");
}
