//! Requests for certificates: who signs what, and what one is good for.

use crate::access::{client, guarded};
use crate::cluster::in_time;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use kube::Client;
use kube::config::Kubeconfig;
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use serde_json::{Value, json};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const DECLINED: &str =
    "certificatesigningrequests.certificates.k8s.io \"other\" is forbidden: user not permitted to";

struct Cluster {
    kubeconfig: String,
    admin: Client,
}

impl Cluster {
    async fn start() -> Self {
        let (address, access) = guarded().await;
        let kubeconfig = access.kubeconfig("lab", &format!("https://{address}")).unwrap();
        Self { admin: client(&kubeconfig, |_| {}).await, kubeconfig }
    }

    /// Who has this certificate, PEM in base64, and its key.
    async fn holder(&self, certificate: &Value, key: &KeyPair) -> Client {
        let change = |config: &mut Kubeconfig| {
            let user = config.auth_infos[0].auth_info.as_mut().unwrap();
            user.client_certificate_data = Some(certificate.as_str().unwrap().to_owned());
            user.client_key_data = Some(BASE64.encode(key.serialize_pem()).into());
        };
        client(&self.kubeconfig, change).await
    }
}

async fn ask(client: &Client, line: &str, body: &Value) -> Result<Value, String> {
    let (method, path) = line.split_once(' ').unwrap();
    let (path, name) = path.split_once(" as ").unwrap_or((path, ""));
    let mut request = http::Request::builder().method(method).uri(path);
    if !name.is_empty() {
        request =
            request.header("impersonate-user", name).header("impersonate-group", "system:nodes");
    }
    let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = request.header("content-type", media).body(body).unwrap();
    match in_time(client.request::<Value>(request)).await {
        Ok(answer) => Ok(answer),
        Err(kube::Error::Api(status)) => Err(status.message),
        Err(other) => panic!("{line}: {other}"),
    }
}

/// A request for these names: `O/CN`, and after a `+` another name.
fn request(names: &str, key: &KeyPair) -> String {
    let (subject, other) = names.split_once('+').unwrap_or((names, ""));
    let (group, name) = subject.split_once('/').unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, group);
    params.distinguished_name.push(DnType::CommonName, name);
    if !other.is_empty() {
        params.subject_alt_names.push(SanType::DnsName(other.try_into().unwrap()));
    }
    BASE64.encode(params.serialize_request(key).unwrap().pem().unwrap())
}

fn approval() -> Value {
    json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "ByHand"}]}})
}

/// What came of a request: its conditions, and ` issued`.
fn outcome(object: &Value) -> String {
    let text = |it: &Value, field: &str| it[field].as_str().unwrap_or_default().to_owned();
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let mut parts: Vec<String> =
        conditions.map(|it| format!("{} {}", text(it, "type"), text(it, "message"))).collect();
    if object["status"]["certificate"].is_string() {
        parts.push("issued".into());
    }
    parts.join("; ")
}

#[tokio::test]
async fn each_signer_signs_what_it_is_for() {
    let cluster = Cluster::start().await;
    let key = KeyPair::generate().unwrap();
    let admin = &cluster.admin;
    let auto = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient";
    let subjects = json!([{"kind": "User", "name": "system:node:n1", "apiGroup": "rbac.authorization.k8s.io"}]);
    for (number, role) in [auto, "system:node"].iter().enumerate() {
        let reference =
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role});
        let binding = json!({"metadata": {"name": format!("nodes-{number}")}, "subjects": subjects, "roleRef": reference});
        let bindings = "POST /apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
        ask(admin, bindings, &binding).await.unwrap();
    }
    let (client_usages, server_usages) =
        (["digital signature", "client auth"], ["digital signature", "server auth"]);
    for (number, (who, signer, names, usages, expected)) in [
        ("", "kube-apiserver-client", "dev/jane", &client_usages[1..], "Approved ; issued"),
        ("", "kube-apiserver-client", "dev/jane", &client_usages, "Approved ; issued"),
        ("", "kube-apiserver-client", "dev/jane", &server_usages, "Approved ; Failed invalid usage for client certificate: server auth"),
        ("", "kube-apiserver-client", "dev/jane", &client_usages[..1], "Approved ; Failed missing required usage for client certificate: client auth"),
        (" as system:node:n1", "kube-apiserver-client-kubelet", "system:nodes/system:node:n1", &client_usages, "Approved Auto approving self kubelet client certificate after SubjectAccessReview.; issued"),
        (" as system:node:n1", "kube-apiserver-client-kubelet", "system:nodes/system:node:n2", &client_usages, "Approved ; issued"),
        ("", "kube-apiserver-client-kubelet", "dev/system:node:n1", &client_usages, "Approved ; Failed subject organization is not system:nodes"),
        ("", "kube-apiserver-client-kubelet", "system:nodes/n1", &client_usages, "Approved ; Failed subject common name does not begin with system:node:"),
        ("", "kube-apiserver-client-kubelet", "system:nodes/system:node:n1+n1", &client_usages, "Approved ; Failed DNS subjectAltNames are not allowed"),
        ("", "kubelet-serving", "system:nodes/system:node:n1+n1", &server_usages, "Approved ; issued"),
        ("", "kubelet-serving", "system:nodes/system:node:n1", &server_usages, "Approved ; Failed DNS or IP subjectAltName is required"),
        ("", "kubelet-serving", "system:nodes/system:node:n1+n1", &client_usages, "Approved ; Failed usages did not match [digital signature key encipherment server auth]"),
        ("", "other", "dev/jane", &client_usages, "Approved "),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("r{number}");
        let spec = json!({"request": request(names, &key), "signerName": format!("kubernetes.io/{signer}"), "usages": usages});
        let body = json!({"metadata": {"name": name}, "spec": spec});
        ask(admin, &format!("POST {REQUESTS}{who}"), &body).await.unwrap();
        let path = format!("{REQUESTS}/{name}");
        let mut found = ask(admin, &format!("GET {path}"), &Value::Null).await.unwrap();
        let asked = if who.is_empty() { "kubernetes-admin" } else { &who[4..] };
        assert_eq!(found["spec"]["username"], asked);
        if outcome(&found).is_empty() {
            ask(admin, &format!("PATCH {path}/approval"), &approval()).await.unwrap();
            found = ask(admin, &format!("GET {path}"), &Value::Null).await.unwrap();
        }
        assert_eq!(outcome(&found), expected, "{signer} {names} {usages:?}");
    }
}

#[tokio::test]
async fn a_certificate_opens_the_door_for_its_name_and_gives_no_right_to_sign() {
    let cluster = Cluster::start().await;
    let key = KeyPair::generate().unwrap();
    let body = |name: &str, signer: &str| {
        let spec = json!({"request": request("dev/jane", &key), "signerName": signer, "usages": ["client auth"]});
        json!({"metadata": {"name": name}, "spec": spec})
    };
    let admin = &cluster.admin;
    let create = format!("POST {REQUESTS}");
    ask(admin, &create, &body("jane", "kubernetes.io/kube-apiserver-client")).await.unwrap();
    ask(admin, &create, &body("other", "example.com/one")).await.unwrap();
    ask(admin, &format!("PATCH {REQUESTS}/jane/approval"), &approval()).await.unwrap();
    let signed = ask(admin, &format!("GET {REQUESTS}/jane"), &Value::Null).await.unwrap();
    let jane = cluster.holder(&signed["status"]["certificate"], &key).await;

    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let reviews = "POST /apis/authentication.k8s.io/v1/selfsubjectreviews";
    let user = &ask(&jane, reviews, &review).await.unwrap()["status"]["userInfo"];
    assert_eq!(user["username"], "jane");
    assert_eq!(user["groups"], json!(["dev", "system:authenticated"]));

    let rule = |resources: &[&str], verbs: &[&str], names: &[&str]| json!({"apiGroups": ["certificates.k8s.io"], "resources": resources, "verbs": verbs, "resourceNames": names});
    let parts = ["certificatesigningrequests/approval", "certificatesigningrequests/status"];
    let all = rule(&parts, &["patch"], &[]);
    let own = "example.com/*";
    for (rules, approve, sign) in [
        (json!([all]), "approve", "sign"),
        (json!([all, rule(&["signers"], &["approve"], &["example.org/*"])]), "approve", "sign"),
        (json!([all, rule(&["signers"], &["approve"], &["example.com/one"])]), "", "sign"),
        (json!([all, rule(&["signers"], &["sign"], &[own])]), "approve", ""),
    ] {
        let role = json!({"metadata": {"name": "jane"}, "rules": rules});
        let rights = "/apis/rbac.authorization.k8s.io/v1";
        let reference =
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "jane"});
        let subjects =
            json!([{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}]);
        let binding =
            json!({"metadata": {"name": "jane"}, "subjects": subjects, "roleRef": reference});
        ask(admin, &format!("PUT {rights}/clusterroles/jane"), &role).await.unwrap();
        ask(admin, &format!("PUT {rights}/clusterrolebindings/jane"), &binding).await.unwrap();
        for (part, verb) in [("approval", approve), ("status", sign)] {
            let odd = json!({"type": "Odd", "status": "True", "message": format!("{part} {role}")});
            let change = json!({"status": {"conditions": [odd]}});
            let line = format!("PATCH {REQUESTS}/other/{part}");
            let answer = ask(&jane, &line, &change).await;
            let why = answer.err().unwrap_or_default();
            let expected = match verb {
                "" => String::new(),
                verb => format!("{DECLINED} {verb} requests with signerName \"example.com/one\""),
            };
            assert_eq!(why, expected, "{rules}");
        }
    }
}
