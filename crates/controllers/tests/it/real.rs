//! The same against a real API server, where one is given: with the rights of `deploy/` and no others.

use crate::cluster::Cluster;
use crate::{batches, elections, endpoints, nodes, workloads};
use client::{Client, connect, create};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const SERVER: &str = "PODWAY_KUBE_APISERVER";
const ACCOUNT: &str = "podway-controllers";
const POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
";
/// For a server and its etcd, on a machine that has much else to do.
const START: Duration = Duration::from_secs(90);

/// A kube-apiserver with an etcd of its own, gone with all it kept when this is dropped.
pub(crate) struct RealServer {
    folder: PathBuf,
    script: Child,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

impl RealServer {
    pub(crate) async fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("podway-controllers-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("audit.yaml"), POLICY).unwrap();
        let option = |name: &str, file: &str| format!("--{name}={}", folder.join(file).display());
        let script = Command::new(root().join("scripts/kube-apiserver"))
            .arg(&folder)
            .arg(option("audit-policy-file", "audit.yaml"))
            .arg(option("audit-log-path", "audit.log"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = RealServer { folder, script };
        let deadline = Instant::now() + START;
        while !server.folder.join("kubeconfig").exists() {
            assert_eq!(server.script.try_wait().unwrap(), None, "the server has ended");
            assert!(Instant::now() < deadline, "the server does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        server
    }

    /// For who may do everything, and for the controllers.
    pub(crate) async fn clients(&self) -> (Client, Client) {
        let admin = connect(Some(&self.folder.join("kubeconfig")), None).await.unwrap();
        // Nobody makes it here, and pods wait for it.
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": "default"}});
        create(&admin, &account).await.unwrap();
        for object in rights() {
            create(&admin, &object).await.unwrap();
        }
        let asked =
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let answer = client::request_token(&admin, "kube-system", ACCOUNT, &asked).await.unwrap();
        let token = answer["status"]["token"].as_str().unwrap();
        let text = std::fs::read_to_string(self.folder.join("kubeconfig")).unwrap();
        let (before, rest) = text.split_once("token: \"").unwrap();
        let (_, after) = rest.split_once('"').unwrap();
        let theirs = self.folder.join("theirs");
        std::fs::write(&theirs, format!("{before}token: \"{token}\"{after}")).unwrap();
        (admin, connect(Some(&theirs), None).await.unwrap())
    }

    pub(crate) fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.join("audit.log")).unwrap();
        // The last line may be on its way.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        let told = Command::new("kill").arg(self.script.id().to_string()).status();
        if told.is_ok_and(|told| told.success()) {
            self.script.wait().ok();
        }
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

fn objects(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(root().join("deploy").join(path)).unwrap();
    let documents = model::manifest::parse(path, &text).unwrap();
    documents.into_iter().map(|document| document.value).collect()
}

/// What `deploy/` gives to the account of the controllers.
fn rights() -> Vec<Value> {
    let mut all = objects("base/controllers.yaml");
    all.extend(objects("all-controllers/rights.yaml"));
    all.retain(|object| object["kind"] != "Deployment");
    all
}

/// A verb and what it is done to, as `patch pods/status`.
type Right = String;

/// All that the roles allow.
fn granted() -> BTreeSet<Right> {
    let texts = |list: &Value| -> Vec<String> {
        let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    };
    let roles = rights();
    let rules = roles.iter().filter_map(|object| object["rules"].as_array()).flatten();
    let rights = rules.flat_map(|rule| {
        let (verbs, resources) = (texts(&rule["verbs"]), texts(&rule["resources"]));
        verbs.into_iter().flat_map(move |verb| {
            resources.clone().into_iter().map(move |resource| format!("{verb} {resource}"))
        })
    });
    rights.collect()
}

/// What the controllers did; nothing of it was forbidden.
fn used(audit: &[Value]) -> BTreeSet<Right> {
    let user = format!("system:serviceaccount:kube-system:{ACCOUNT}");
    let theirs = audit.iter().filter(|event| event["user"]["username"] == *user);
    let right = |event: &Value| {
        assert_ne!(event["responseStatus"]["code"], 403, "{event}");
        let text = |name: &str| event["objectRef"][name].as_str().unwrap_or_default().to_owned();
        let mut resource = text("resource");
        if !text("subresource").is_empty() {
            resource += &format!("/{}", text("subresource"));
        }
        format!("{} {resource}", event["verb"].as_str().unwrap_or_default())
    };
    theirs.map(right).collect()
}

async fn observe(used_so_far: &mut BTreeSet<Right>, scenario: impl AsyncFnOnce(&mut Cluster)) {
    let mut cluster = Cluster::real().await;
    scenario(&mut cluster).await;
    used_so_far.extend(used(&cluster.audit()));
}

/// What is granted and does not show in a scenario: reading again what somebody else has changed at the same moment,
/// and naming an owner as one whose deletion waits, which only some servers ask a right for.
fn is_for_rare_moments(right: &Right) -> bool {
    right.starts_with("get ") || right.ends_with("/finalizers")
}

#[tokio::test]
async fn the_same_comes_of_it_with_a_real_server_and_no_more_rights_than_needed() {
    if std::env::var_os(SERVER).is_none() {
        eprintln!("left out: {SERVER} names no kube-apiserver");
        return;
    }
    let mut used = BTreeSet::new();
    observe(&mut used, workloads::rollout).await;
    observe(&mut used, workloads::claims).await;
    observe(&mut used, batches::stateful_set).await;
    observe(&mut used, batches::daemon_set).await;
    observe(&mut used, batches::jobs).await;
    observe(&mut used, batches::cron_job).await;
    observe(&mut used, nodes::power_cut).await;
    observe(&mut used, endpoints::mirror).await;
    observe(&mut used, elections::election).await;
    let idle: Vec<_> =
        granted().into_iter().filter(|it| !used.contains(it) && !is_for_rare_moments(it)).collect();
    assert_eq!(idle, Vec::<Right>::new(), "granted, and used by nobody");
}
