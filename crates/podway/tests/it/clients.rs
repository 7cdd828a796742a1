//! Real clients on a real lab: kubectl of two versions, helm, client-go, and the Python client.
//!
//! `scripts/clients` builds them where they are not there yet.

use crate::labs::{Done, Lab, new_name};
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

pub(crate) const KUBECTLS: [&str; 2] = ["kubectl-1.34", "kubectl-1.36"];

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: c, image: x, command: [sh, -c, 'echo hello; while :; do sleep 1; done']}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
";

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folder of the clients.
pub(crate) fn clients() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let output = Command::new(root().join("scripts/clients")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        target.unwrap_or_else(|| root().join("target")).join("clients")
    })
}

/// A folder of one lab's files, gone with it.
pub(crate) struct Session {
    pub(crate) lab: Lab,
    pub(crate) folder: PathBuf,
}

impl Session {
    pub(crate) fn start() -> Session {
        Session::with(&[])
    }

    /// With more arguments of `lab up`.
    pub(crate) fn with(arguments: &[&str]) -> Session {
        clients();
        let folder = std::env::temp_dir().join(format!("podway-{}", new_name()));
        std::fs::create_dir_all(&folder).unwrap();
        let manifest = folder.join("web.yaml");
        std::fs::write(&manifest, WEB).unwrap();
        let lab = Lab::up(&[&manifest], &[&["--nodes", "2"], arguments].concat());
        let kubeconfig = lab.run("lab kubeconfig");
        assert_eq!(kubeconfig.code, 0, "{kubeconfig:?}");
        std::fs::write(folder.join("kubeconfig"), kubeconfig.stdout).unwrap();
        Session { lab, folder }
    }

    pub(crate) fn command(&self, client: &str) -> Command {
        let mut command = Command::new(clients().join(client));
        command.env("KUBECONFIG", self.folder.join("kubeconfig")).env("HOME", &self.folder);
        command.env("KUBECTL_EXTERNAL_DIFF", "diff -u -N");
        command
    }

    /// Runs kubectl with the words of a line and this standard input.
    pub(crate) fn kubectl(&self, kubectl: &str, line: &str, input: &str) -> Done {
        let mut command = self.command(kubectl);
        command.args(line.split_whitespace()).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Done::of(&child.wait_with_output().unwrap())
    }

    /// As [`Self::kubectl`]; it must succeed, and its output hold this text.
    pub(crate) fn check(&self, kubectl: &str, line: &str, input: &str, expected: &str) {
        let done = self.kubectl(kubectl, line, input);
        assert_eq!(done.code, 0, "{kubectl} {line}: {done:?}");
        assert!(
            done.stdout.contains(expected),
            "{kubectl} {line}: {expected:?} is not in {done:?}"
        );
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

#[test]
fn kubectl_works_as_on_any_cluster() {
    let session = Session::start();
    for kubectl in KUBECTLS {
        let changed = WEB.replace("replicas: 2", "replicas: 1");
        for (line, input, expected) in [
            ("version", "", "Server Version: v1.36"),
            ("get nodes", "", "node-1   Ready"),
            ("get pods -l app=web -o wide", "", "10.244."),
            ("api-resources", "", "statefulsets"),
            ("auth can-i create pods", "", "yes"),
            ("auth whoami", "", "kubernetes-admin"),
            ("get ipaddresses", "", "services/default/web"),
            ("get servicecidrs", "", "10.96.0.0/12"),
            ("explain service.spec.ports.nodePort", "", "FIELD: nodePort <integer>"),
            ("apply -f -", WEB, "service/web"),
            ("apply -f -", &*changed, "deployment.apps/web configured"),
            ("rollout status deployment/web --timeout=30s", "", "successfully rolled out"),
            ("scale deployment/web --replicas=2", "", "scaled"),
            ("set env deployment/web A=b", "", "env updated"),
            ("rollout status deployment/web --timeout=30s", "", "successfully rolled out"),
            ("rollout undo deployment/web", "", "rolled back"),
            ("wait --for=condition=Available deployment/web --timeout=30s", "", "condition met"),
            ("describe service web", "", "Selector:"),
            ("describe deployment web", "", "Scaled up replica set web-"),
            (
                "get events --field-selector=reason=Scheduled",
                "",
                "Successfully assigned default/web-",
            ),
            ("create configmap cm --from-literal=a=b", "", "created"),
            ("create deployment two --image=x --replicas=1", "", "created"),
            ("expose deployment two --port=80", "", "exposed"),
            ("autoscale deployment two --min=1 --max=2", "", "autoscaled"),
            ("create job once --image=x", "", "created"),
            ("create rolebinding rb --clusterrole=view --user=jane", "", "created"),
            ("label configmap cm x=y", "", "labeled"),
            (
                "patch configmap cm --type=json -p [{\"op\":\"add\",\"path\":\"/data/c\",\"value\":\"d\"}]",
                "",
                "patched",
            ),
            ("get configmap cm -o jsonpath={.data.c}{.metadata.labels.x}", "", "dy"),
            ("apply --server-side --force-conflicts -f -", WEB, "serverside-applied"),
            (
                "delete configmap/cm deployment/two service/two job/once hpa/two rolebinding/rb",
                "",
                "deleted",
            ),
        ] {
            session.check(kubectl, line, input, expected);
        }
        let differs = session.kubectl(kubectl, "diff -f -", &changed);
        assert_eq!(differs.code, 1, "{differs:?}");
        assert!(differs.stdout.contains("-  replicas: 2"), "{differs:?}");
    }
}

const RIGHTS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]
";

#[test]
fn kubectl_makes_every_kind_that_it_can_make() {
    let session = Session::start();
    for kubectl in KUBECTLS {
        let mut kinds = vec!["delete"];
        for (made, kind, shown) in [
            ("secret generic s --from-literal=a=b", "secret/s", "Opaque"),
            (
                "role r --verb=get --resource=pods/log,deployments.apps",
                "role/r",
                "deployments.apps",
            ),
            ("clusterrole cr --verb=get --non-resource-url=/logs", "clusterrole/cr", "[/logs]"),
            ("rolebinding b --role=r --group=devs", "rolebinding/b", "devs"),
            ("clusterrolebinding cb --clusterrole=view --user=jo", "clusterrolebinding/cb", "jo"),
            ("pdb p --selector=app=web --min-available=1", "pdb/p", "Allowed disruptions:  1"),
            ("priorityclass pc --value=9 --preemption-policy=Never", "pc/pc", "Never"),
            ("ingress i --rule=foo.com/bar*=web:80,tls=s", "ingress/i", "s terminates foo.com"),
            ("cronjob c --image=x --schedule=@yearly -- date", "cronjob/c", "@yearly"),
            ("job j --from=cronjob/c", "job/j", "Controlled By:    CronJob/c"),
            ("service nodeport n --tcp=80 --node-port=31234", "service/n", "31234/TCP"),
            ("service externalname e --external-name=example.com", "service/e", "example.com"),
            ("serviceaccount sa", "serviceaccount/sa", "Image pull secrets"),
            ("quota q --hard=pods=20", "quota/q", "Resource"),
        ] {
            session.check(kubectl, &format!("create {made}"), "", "created");
            session.check(kubectl, &format!("describe {kind}"), "", shown);
            // What owns another comes later.
            kinds.insert(1, kind);
        }
        session.check(kubectl, &kinds.join(" "), "", "deleted");
    }
}

#[test]
fn kubectl_changes_what_is_there() {
    let session = Session::start();
    let slower = WEB.replace("sleep 1", "sleep 2");
    for kubectl in KUBECTLS {
        for (line, input, expected) in [
            ("apply --server-side --force-conflicts -f -", WEB, "serverside-applied"),
            ("set image deployment/web c=y", "", "image updated"),
            ("set resources deployment/web --limits=cpu=200m", "", "requirements updated"),
            ("set serviceaccount deployment/web default", "", "serviceaccount updated"),
            ("set env deployment/web --from=configmap/kube-root-ca.crt", "", "env updated"),
            ("set selector service/web app=web", "", "selector updated"),
            ("rollout status deployment/web --timeout=30s", "", "successfully rolled out"),
            ("rollout history deployment/web", "", "CHANGE-CAUSE"),
            ("rollout pause deployment/web", "", "paused"),
            ("rollout resume deployment/web", "", "resumed"),
            ("rollout restart deployment/web", "", "restarted"),
            ("rollout status deployment/web --timeout=30s", "", "successfully rolled out"),
            ("get deployment web --subresource=scale", "", "DESIRED   AVAILABLE"),
            (
                "patch deployment web --subresource=scale --type=merge -p {\"spec\":{\"replicas\":1}}",
                "",
                "patched",
            ),
            ("scale deployment/web --current-replicas=1 --replicas=2", "", "scaled"),
            ("replace --force -f -", &*slower, "deployment.apps/web replaced"),
            ("auth reconcile -f -", RIGHTS, "reconciled"),
            ("create token default --duration=1h", "", "."),
            ("annotate deployment web a=b", "", "annotated"),
            ("label --list deployment web", "", "app=web"),
            ("label nodes --all a=b --overwrite", "", "node/node-2"),
            ("taint nodes node-1 a=b:NoSchedule", "", "tainted"),
            ("taint nodes node-1 a-", "", "untainted"),
            (
                "wait --for=jsonpath={.status.readyReplicas}=2 deployment/web --timeout=30s",
                "",
                "met",
            ),
            ("drain node-1 --ignore-daemonsets --force --timeout=30s", "", "node/node-1 drained"),
            ("uncordon node-1", "", "uncordoned"),
        ] {
            session.check(kubectl, line, input, expected);
        }
    }
}

#[test]
fn kubectl_shows_the_cluster() {
    let session = Session::start();
    for kubectl in KUBECTLS {
        for (line, expected) in [
            ("events --for deployment/web", "Scaled up replica set"),
            ("describe node node-1", "Kubelet Version:            v1.36"),
            ("describe node node-1", "0 (0%)"),
            ("get nodes -o wide", "podway://"),
            ("get node node-1 -o jsonpath={.status.allocatable.pods}", "253"),
            ("get priorityclass system-node-critical", "2000001000"),
            ("auth can-i --list --as=jane", "selfsubjectreviews"),
            ("get --raw /livez?verbose", "[+]etcd ok"),
            ("get --raw /readyz?verbose&exclude=etcd", "readyz check passed"),
            ("get --raw /openapi/v3", "apis/apps/v1"),
            ("explain --recursive networkpolicies", "ipBlock"),
            ("cluster-info", "control plane"),
            ("cluster-info dump", "\"kind\": \"NodeList\""),
            ("api-versions", "events.k8s.io/v1"),
            ("exec deployment/web -- hostname", "web-"),
            ("logs -l app=web --all-containers --prefix --timestamps", "Z hello"),
        ] {
            session.check(kubectl, line, "", expected);
        }
    }
}

#[test]
fn kubectl_deletes_in_the_order_that_is_asked_for() {
    let session = Session::start();
    for kubectl in KUBECTLS {
        for (line, expected) in [
            ("create deployment two --image=x", "created"),
            ("rollout status deployment/two --timeout=30s", "successfully rolled out"),
            ("delete deployment two --cascade=orphan", "deleted"),
            ("get replicasets -l app=two -o name", "replicaset.apps/two-"),
            ("create deployment two --image=x", "created"),
            ("rollout status deployment/two --timeout=30s", "successfully rolled out"),
            ("delete deployment two --cascade=foreground --timeout=60s", "deleted"),
            ("run one --image=x", "created"),
            ("wait --for=condition=Ready pod/one --timeout=30s", "met"),
            ("delete pod one --grace-period=0 --force", "force deleted"),
            ("wait --for=delete pod/one --timeout=30s", ""),
        ] {
            session.check(kubectl, line, "", expected);
        }
        let left = session.kubectl(kubectl, "get replicasets,pods -l app=two -o name", "");
        assert_eq!(left.stdout, "", "{left:?}");
    }
}

#[test]
fn kubectl_says_what_is_wrong() {
    let session = Session::start();
    for kubectl in KUBECTLS {
        let slip = WEB.replace("replicas:", "replcas:");
        let other = WEB.replace("replicas: 2", "replicas: 7");
        session.check(kubectl, "apply --server-side --force-conflicts -f -", WEB, "applied");
        for (line, input, expected) in [
            ("get nosuch", "", "the server doesn't have a resource type \"nosuch\""),
            ("get pod nosuch", "", "pods \"nosuch\" not found"),
            ("create -f -", &*slip, "unknown field \"spec.replcas\""),
            (
                "create -f -",
                "{apiVersion: v1, kind: Widget, metadata: {name: x}}",
                "no matches for kind \"Widget\" in version \"v1\"",
            ),
            ("create -f -", WEB, "deployments.apps \"web\" already exists"),
            (
                "apply --server-side --field-manager=me -f -",
                &*other,
                "conflicts with \"kubectl\":\n- .spec.replicas",
            ),
            ("scale deployment/web --replicas=-1", "", "greater than or equal to 0"),
            ("logs deployment/web -c nosuch", "", "container nosuch is not valid for pod"),
            ("exec deployment/web -- /nosuch", "", "No such file or directory"),
        ] {
            let done = session.kubectl(kubectl, line, input);
            assert_ne!(done.code, 0, "{kubectl} {line}: {done:?}");
            assert!(
                done.stderr.contains(expected),
                "{kubectl} {line}: {expected:?} is not in {done:?}"
            );
        }
    }
}

#[test]
fn kubectl_reads_logs_and_runs_commands() {
    let session = Session::start();
    for kubectl in KUBECTLS {
        session.check(kubectl, "logs deployment/web", "", "hello\n");
        session.check(kubectl, "exec deployment/web -- ip -br addr show eth0", "", "10.244.");
        session.check(kubectl, "exec -i deployment/web -- tr a-z A-Z", "words", "WORDS");
        let failed = session.kubectl(kubectl, "exec deployment/web -- sh -c exit\\ 3", "");
        assert_ne!(failed.code, 0);
        let failed = session.kubectl(kubectl, "exec deployment/web -- false", "");
        assert_eq!(failed.code, 1);
        assert!(failed.stderr.contains("terminated with exit code 1"), "{failed:?}");
        let large = "x".repeat(300_000);
        let echoed = session.kubectl(kubectl, "exec -i deployment/web -- cat", &large);
        assert_eq!(echoed.stdout.len(), large.len());
    }
}

#[test]
fn an_old_kubectl_reads_the_description_of_the_api() {
    const OLD: &str = "kubectl-1.23";
    let session = Session::start();
    for (line, expected) in [
        ("explain pod.spec.containers", "RESOURCE: containers <[]Object>"),
        ("explain service.spec.ports.port", "FIELD:    port <integer>"),
        ("explain vip.spec", "KIND:     VirtualIP"),
    ] {
        session.check(OLD, line, "", expected);
    }
    session.check(OLD, "apply -f -", WEB, "deployment.apps/web configured");
    let slip = session.kubectl(OLD, "apply -f -", &WEB.replace("replicas:", "replcas:"));
    let expected = "unknown field \"replcas\" in io.k8s.api.apps.v1.DeploymentSpec";
    assert!(slip.code == 1 && slip.stderr.contains(expected), "{slip:?}");
}

#[test]
fn client_go_does_all_and_its_informer_sees_what_is_there_and_what_comes() {
    let session = Session::start();
    for (media, late) in
        [("application/json", "late"), ("application/vnd.kubernetes.protobuf", "later")]
    {
        let mut command = session.command("informer");
        command.args([late, media]).env("KUBE_FEATURE_WatchListClient", "true");
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        session.check(KUBECTLS[1], &format!("run {late} --image=x"), "", "created");
        let done = Done::of(&child.wait_with_output().unwrap());
        assert_eq!(done.code, 0, "{media}: {done:?}");
        let initial = done.stdout.lines().filter(|line| line.starts_with("web-"));
        assert_eq!(initial.filter(|line| line.ends_with("initial=true")).count(), 2, "{done:?}");
        for expected in ["round\n", " definitions\n", "synced\n", &format!("{late} initial=")] {
            assert!(done.stdout.contains(expected), "{media}: {done:?}");
        }
    }
}

const CHART: &str = "apiVersion: v2\nname: shop\nversion: 1.0.0\n";
const TEMPLATE: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      containers: [{name: c, image: x, ports: [{containerPort: 80}]}]
";

#[test]
fn helm_installs_upgrades_and_uninstalls() {
    let session = Session::start();
    let chart = session.folder.join("chart");
    std::fs::create_dir_all(chart.join("templates")).unwrap();
    std::fs::write(chart.join("Chart.yaml"), CHART).unwrap();
    std::fs::write(chart.join("values.yaml"), "replicas: 1\n").unwrap();
    std::fs::write(chart.join("templates/shop.yaml"), TEMPLATE).unwrap();
    for (line, replicas) in [
        ("install shop chart --wait --timeout 30s", "1/1"),
        ("upgrade shop chart --set replicas=2 --wait --timeout 30s", "2/2"),
        ("rollback shop 1 --wait --timeout 30s", "1/1"),
    ] {
        let mut helm = session.command("helm");
        helm.args(line.split_whitespace()).current_dir(&session.folder);
        let done = Done::of(&helm.output().unwrap());
        assert_eq!(done.code, 0, "helm {line}: {done:?}");
        session.check(KUBECTLS[1], "get deployment shop --no-headers", "", replicas);
    }
    let mut helm = session.command("helm");
    helm.args(["uninstall", "shop", "--wait", "--timeout", "30s"]);
    let done = Done::of(&helm.output().unwrap());
    assert_eq!(done.code, 0, "{done:?}");
    let gone = session.kubectl(KUBECTLS[1], "get deployment shop", "");
    assert!(gone.stderr.contains("not found"), "{gone:?}");
}

#[test]
fn the_python_client_works() {
    let session = Session::start();
    let mut command = Command::new("/usr/bin/python3");
    command.arg(root().join("crates/podway/tests/clients/check.py"));
    command.env("PYTHONPATH", clients().join("python"));
    command.env("KUBECONFIG", session.folder.join("kubeconfig"));
    let done = Done::of(&command.output().unwrap());
    assert_eq!(done.code, 0, "{done:?}");
    let why = "command terminated with non-zero exit code: exit status 3";
    let protocols = [
        "v5.channel.k8s.io",
        "v4.base64.channel.k8s.io",
        "channel.k8s.io",
        "base64.channel.k8s.io",
    ];
    let protocols = protocols.map(Some).into_iter().chain([None]);
    let logs = [Some("binary.k8s.io"), Some("base64.binary.k8s.io"), None];
    let expected = json!({
        "sockets": protocols.map(|name| json!([name, "out\n", why])).collect::<Vec<_>>(),
        "logs": logs.map(|name| json!([name, {"": "hello\n"}])),
        "version": "36",
        "data": {"a": "1", "b": "2"},
        "pods": 2,
        "ready": 3,
        "exec": ["err", "out"],
        "missing": [404, "NotFound"],
        "nodes": ["node-1", "node-2"],
    });
    assert_eq!(done.json(), expected);
}
