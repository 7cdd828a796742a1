//! Webhooks that answer over TLS: what this server makes of their answers, and, with `PODWAY_KUBE_APISERVER`, that the
//! real one makes the same of them.

use crate::cluster::{Cluster, in_time};
use crate::corpus::real;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body;
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// A webhook on loopback that ends with this value.
struct Hook {
    address: SocketAddr,
    /// PEM in Base64.
    authority: String,
    /// What it was asked.
    asked: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hook {
    /// `is_own`: it is its own authority.
    async fn start(is_own: bool) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "hooks");
        params.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
        let own = KeyPair::generate().unwrap();
        let own_key = own.serialize_pem();
        let authority = CertifiedIssuer::self_signed(params, own).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let (served, key) = match is_own {
            true => (authority.der().to_vec(), own_key),
            false => (certificate.der().to_vec(), key.serialize_pem()),
        };
        let chain = vec![CertificateDer::from(served)];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
        let task = tokio::spawn(serve(listener, acceptor, asked.clone()));
        let authority = STANDARD.encode(authority.pem());
        Self { address, authority, asked, task }
    }

    fn client(&self, path: &str) -> Value {
        json!({"url": format!("https://{}/{path}", self.address), "caBundle": self.authority})
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, asked: Arc<Mutex<Vec<Value>>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, asked) = (acceptor.clone(), asked.clone());
        tokio::spawn(async move {
            // Whoever does not trust it hangs up.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request| answer(request, asked.clone()));
            let builder = hyper::server::conn::http1::Builder::new();
            builder.serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

/// What it answers depends on the name of what it is asked about.
async fn answer(
    request: Request<Incoming>,
    asked: Arc<Mutex<Vec<Value>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let request = review["request"].clone();
    asked.lock().unwrap().push(request.clone());
    let name = request["name"].as_str().unwrap_or_default();
    let mut response = json!({"uid": request["uid"], "allowed": true});
    match name {
        "deny" => {
            response["allowed"] = false.into();
            response["status"] =
                json!({"message": "not this one", "reason": "Forbidden", "code": 403});
        }
        "silent" => response["allowed"] = false.into(),
        "stranger" => response["uid"] = "x".into(),
        "slow" => std::future::pending().await,
        "warns" => response["warnings"] = json!(["mind the gap"]),
        "broken" => {
            let mut broken = Response::new(Full::new(Bytes::from("out of order")));
            *broken.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
            return Ok(broken);
        }
        _ => {}
    }
    let changes = [json!({"op": "add", "path": "/data/seen", "value": path})];
    let may_change = path == "/mutate" && request["operation"] != "DELETE";
    if may_change && name == "changed" || name == "meddles" {
        response["patch"] = STANDARD.encode(json!(changes).to_string()).into();
        response["patchType"] = "JSONPatch".into();
    }
    if name == "garbled" {
        response["patch"] = "!!".into();
        response["patchType"] = "JSONPatch".into();
    }
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    Ok(Response::new(Full::new(Bytes::from(review.to_string()))))
}

/// The code, the message or the whole answer, and the warnings.
async fn ask(client: &Client, method: &str, path: &str, body: &Value) -> (u16, Value, Vec<String>) {
    let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let asked = Request::builder().method(method).uri(path).header("content-type", media);
    let asked = asked.body(Body::from(body.to_string().into_bytes())).unwrap();
    let response = in_time(client.send(asked)).await.unwrap();
    let code = response.status().as_u16();
    let warnings = response.headers().get_all("warning").iter();
    let warnings = warnings.map(|it| it.to_str().unwrap().to_owned()).collect();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&body).unwrap_or_default(), warnings)
}

async fn configure(client: &Client, kind: &str, webhooks: Value) {
    let path = format!("/apis/admissionregistration.k8s.io/v1/{kind}");
    let body = json!({"metadata": {"name": "test"}, "webhooks": webhooks});
    let (code, answer, _) = ask(client, "POST", &path, &body).await;
    assert_eq!(code, 201, "{answer}");
}

fn webhook(name: &str, resource: &str, client: Value) -> Value {
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": [resource], "scope": "Namespaced"}]);
    json!({"name": format!("{name}.example.com"), "rules": rules, "clientConfig": client, "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "timeoutSeconds": 1,
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "hooked"}},
        "matchConditions": [{"name": "not-free", "expression": "request.name != 'free'"}]})
}

const CONFIG_MAPS: &str = "/api/v1/namespaces/hooked/configmaps";

/// All that is to be seen of webhooks, on either server.
async fn check(client: &Client) {
    let (hook, own) = (Hook::start(false).await, Hook::start(true).await);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    ask(client, "POST", "/api/v1/namespaces", &json!({"metadata": {"name": "hooked"}})).await;
    let again = json!("IfNeeded");
    let mut mutating = webhook("mutating", "configmaps", hook.client("mutate"));
    mutating["reinvocationPolicy"] = again;
    configure(client, "mutatingwebhookconfigurations", json!([mutating])).await;
    let lost = json!({"url": format!("https://{closed}/"), "caBundle": hook.authority});
    let stranger = json!({"url": format!("https://{}/", hook.address)});
    let service = |name: &str| json!({"service": {"name": name, "namespace": "hooked"}});
    let mut ignored = webhook("ignored", "secrets", lost.clone());
    ignored["failurePolicy"] = "Ignore".into();
    configure(
        client,
        "validatingwebhookconfigurations",
        json!([
            webhook("validating", "configmaps", hook.client("validate")),
            webhook("lost", "endpoints", lost),
            ignored,
            webhook("own", "resourcequotas", own.client("own")),
            webhook("service", "serviceaccounts", service("nobody")),
            webhook("unknown", "limitranges", stranger),
        ]),
    )
    .await;
    // The real server takes note of them in a moment, of the last one last.
    let pod = json!({"metadata": {"name": "x"}, "spec": {"limits": []}});
    let ranges = "/api/v1/namespaces/hooked/limitranges?dryRun=All";
    in_time(async { while ask(client, "POST", ranges, &pod).await.0 == 201 {} }).await;

    refusals(client, &hook).await;
    changes(client, &hook).await;
    failures(client, &hook, closed).await;
    let quotas = "/api/v1/namespaces/hooked/resourcequotas";
    let (code, answer, _) =
        ask(client, "POST", quotas, &json!({"metadata": {"name": "deny"}})).await;
    let message = "admission webhook \"own.example.com\" denied the request: not this one";
    assert_eq!((code, &answer["message"]), (403, &message.into()), "{answer}");
}

fn object(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"a": "b"}})
}

fn failed(why: &str) -> String {
    format!("Internal error occurred: failed calling webhook {why}")
}

async fn refusals(client: &Client, hook: &Hook) {
    let address = hook.address;
    let denied = "admission webhook \"mutating.example.com\" denied the request";
    for (name, code, message) in [
        ("deny", 403, format!("{denied}: not this one")),
        ("silent", 400, format!("{denied} without explanation")),
        (
            "slow",
            500,
            failed(&format!(
                "\"mutating.example.com\": failed to call webhook: Post \"https://{address}/mutate?timeout=1s\": context deadline exceeded"
            )),
        ),
        (
            "broken",
            500,
            failed(
                "\"mutating.example.com\": failed to call webhook: an error on the server (\"out of order\") has prevented the request from succeeding",
            ),
        ),
        (
            "garbled",
            500,
            failed(
                "\"mutating.example.com\": failed to call webhook: illegal base64 data at input byte 0",
            ),
        ),
        (
            "meddles",
            500,
            failed(
                "\"validating.example.com\": received invalid webhook response: validating webhook may not return response.patch",
            ),
        ),
    ] {
        let (found, answer, _) = ask(client, "POST", CONFIG_MAPS, &object(name)).await;
        assert_eq!((found, &answer["message"]), (code, &message.into()), "{name}: {answer}");
    }
    let (code, answer, _) = ask(client, "POST", CONFIG_MAPS, &object("stranger")).await;
    let message = answer["message"].as_str().unwrap();
    assert!(
        code == 500 && message.contains("expected response.uid=") && message.ends_with("got \"x\""),
        "{answer}"
    );
    let (code, _, warnings) = ask(client, "POST", CONFIG_MAPS, &object("warns")).await;
    assert_eq!((code, warnings.len()), (201, 1), "{warnings:?}");
    assert!(warnings[0].contains("mind the gap"));
}

async fn changes(client: &Client, hook: &Hook) {
    let (code, answer, _) = ask(client, "POST", CONFIG_MAPS, &object("changed")).await;
    assert_eq!((code, &answer["data"]), (201, &json!({"a": "b", "seen": "/mutate"})), "{answer}");
    hook.asked.lock().unwrap().clear();
    let path = format!("{CONFIG_MAPS}/changed");
    let (code, answer, _) = ask(client, "PATCH", &path, &json!({"data": {"a": "c"}})).await;
    assert_eq!(code, 200, "{answer}");
    let asked = hook.asked.lock().unwrap().clone();
    let (first, last) = (&asked[0], &asked[asked.len() - 1]);
    assert_eq!(
        (&first["operation"], &first["resource"]["resource"]),
        (&json!("UPDATE"), &json!("configmaps"))
    );
    assert_eq!(
        (&first["object"]["data"]["a"], &first["oldObject"]["data"]["a"]),
        (&json!("c"), &json!("b"))
    );
    assert_eq!(last["object"]["data"]["seen"], "/mutate");
    let (code, answer, _) = ask(client, "DELETE", &path, &Value::Null).await;
    assert_eq!(code, 200, "{answer}");
    let asked = hook.asked.lock().unwrap().clone();
    let of_deletion = asked.iter().filter(|it| it["operation"] == "DELETE");
    assert_eq!(of_deletion.map(|it| &it["oldObject"]["data"]["a"]).collect::<Vec<_>>(), ["c", "c"]);

    hook.asked.lock().unwrap().clear();
    let (code, answer, _) = ask(client, "POST", CONFIG_MAPS, &object("free")).await;
    assert_eq!((code, hook.asked.lock().unwrap().len()), (201, 0), "{answer}");
}

async fn failures(client: &Client, hook: &Hook, closed: SocketAddr) {
    let address = hook.address;
    let secret = json!({"metadata": {"name": "x"}});
    let of = |resource: &str| format!("/api/v1/namespaces/hooked/{resource}");
    assert_eq!(ask(client, "POST", &of("secrets"), &secret).await.0, 201);
    for (resource, message) in [
        ("endpoints", format!("\"lost.example.com\": failed to call webhook: Post \"https://{closed}/?timeout=1s\": dial tcp {closed}: connect: connection refused")),
        ("serviceaccounts", "\"service.example.com\": failed to call webhook: Post \"https://nobody.hooked.svc:443/?timeout=1s\": service \"nobody\" not found".to_owned()),
        ("limitranges", format!("\"unknown.example.com\": failed to call webhook: Post \"https://{address}/?timeout=1s\": tls: failed to verify certificate: x509: certificate signed by unknown authority")),
    ] {
        let (code, answer, _) = ask(client, "POST", &of(resource), &secret).await;
        assert_eq!((code, &answer["message"]), (500, &failed(&message).into()), "{resource}: {answer}");
    }
}

#[tokio::test]
async fn webhooks_decide_and_change() {
    let cluster = Cluster::start(|_| {}).await;
    check(&cluster.client).await;
}

#[tokio::test]
async fn webhooks_of_the_real_server() {
    let Some(real) = real::Server::start("webhooks") else {
        eprintln!("left out: PODWAY_KUBE_APISERVER names no kube-apiserver");
        return;
    };
    check(&real.client().await).await;
}

#[tokio::test]
async fn what_a_webhook_adds_to_a_custom_object_has_to_be_in_its_schema() {
    let cluster = Cluster::start(|_| {}).await;
    let client = &cluster.client;
    let hook = Hook::start(false).await;
    ask(client, "POST", "/api/v1/namespaces", &json!({"metadata": {"name": "hooked"}})).await;
    let data = |fields: Value| {
        json!({"openAPIV3Schema": {"type": "object", "properties": {
            "data": {"type": "object", "properties": fields}}}})
    };
    let text = json!({"type": "string"});
    for (plural, kind, schema, seen) in [
        (
            "kites",
            "Kite",
            data(json!({"own": text, "seen": text})),
            json!({"own": "x", "seen": "/mutate"}),
        ),
        ("gulls", "Gull", data(json!({"own": text})), json!({"own": "x"})),
    ] {
        let versions = json!([{"name": "v1", "served": true, "storage": true, "schema": schema}]);
        let definition = json!({"metadata": {"name": format!("{plural}.example.com")}, "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
            "versions": versions}});
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        assert_eq!(ask(client, "POST", path, &definition).await.0, 201);
        let mut webhook = webhook("mutating", plural, hook.client("mutate"));
        webhook["rules"][0]["apiGroups"] = json!(["example.com"]);
        let body = json!({"metadata": {"name": plural}, "webhooks": [webhook]});
        let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
        assert_eq!(ask(client, "POST", path, &body).await.0, 201);
        let object = json!({"apiVersion": "example.com/v1", "kind": kind,
            "metadata": {"name": "changed"}, "data": {"own": "x"}});
        let path = format!("/apis/example.com/v1/namespaces/hooked/{plural}");
        let (code, made, _) = ask(client, "POST", &path, &object).await;
        assert_eq!((code, &made["data"]), (201, &seen), "{made}");
    }
}
