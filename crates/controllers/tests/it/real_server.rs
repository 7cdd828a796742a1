//! A real API server for a test, where one is given, and what was asked of it.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Names a kube-apiserver.
const SERVER: &str = "PODWAY_KUBE_APISERVER";
const POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
";
/// For a server and its etcd, on a machine that has much else to do.
const START: Duration = Duration::from_secs(90);

/// Said by a test where none is given.
pub(crate) const LEFT_OUT: &str = "left out: PODWAY_KUBE_APISERVER names no kube-apiserver";

pub(crate) fn is_given() -> bool {
    std::env::var_os(SERVER).is_some()
}

/// A kube-apiserver with an etcd of its own, gone with all it kept when this is dropped.
pub(crate) struct RealServer {
    pub(crate) folder: PathBuf,
    script: Child,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

impl RealServer {
    pub(crate) fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("podway-real-{}-{number}", std::process::id());
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
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }
}

/// What was asked of the server of this folder, by whom.
pub(crate) fn audit(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("audit.log")).unwrap();
    // The last line may be on its way.
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
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

/// The objects of a file of `deploy/`.
pub(crate) fn deployed(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(root().join("deploy").join(path)).unwrap();
    let documents = model::manifest::parse(path, &text).unwrap();
    documents.into_iter().map(|document| document.value).collect()
}

/// A verb and what it is done to, as `patch pods/status`.
pub(crate) type Right = String;

/// All that the roles among these objects allow.
pub(crate) fn granted(objects: &[Value]) -> BTreeSet<Right> {
    let texts = |list: &Value| -> Vec<String> {
        let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    };
    let rules = objects.iter().filter_map(|object| object["rules"].as_array()).flatten();
    let rights = rules.flat_map(|rule| {
        let (verbs, resources) = (texts(&rule["verbs"]), texts(&rule["resources"]));
        verbs.into_iter().flat_map(move |verb| {
            resources.clone().into_iter().map(move |resource| format!("{verb} {resource}"))
        })
    });
    rights.collect()
}

/// What an account of kube-system did; nothing of it was forbidden.
pub(crate) fn used(audit: &[Value], account: &str) -> BTreeSet<Right> {
    let user = format!("system:serviceaccount:kube-system:{account}");
    let theirs = audit.iter().filter(|event| event["user"]["username"] == *user);
    let right = |event: &Value| {
        assert_ne!(event["annotations"]["authorization.k8s.io/decision"], "forbid", "{event}");
        let text = |name: &str| event["objectRef"][name].as_str().unwrap_or_default().to_owned();
        let mut resource = text("resource");
        if !text("subresource").is_empty() {
            resource += &format!("/{}", text("subresource"));
        }
        format!("{} {resource}", event["verb"].as_str().unwrap_or_default())
    };
    theirs.map(right).collect()
}
