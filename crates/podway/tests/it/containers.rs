//! What the lab's kubelet does with containers: start them in order, probe them, restart them, end them.

use crate::clients::{KUBECTLS, Session, clients};
use crate::labs::{self, Lab, new_name, wait_until};
use serde_json::{Value, json};
use std::path::PathBuf;

const PODS: &str = "/api/v1/namespaces/default/pods";

/// A manifest of pods on node-1, gone when dropped.
struct Manifest(PathBuf);

impl Manifest {
    fn of(pods: &[(&str, Value)]) -> Manifest {
        let path = std::env::temp_dir().join(format!("{}.yaml", new_name()));
        let pod = |(name, spec): &(&str, Value)| {
            let mut spec = spec.clone();
            spec["nodeName"] = "node-1".into();
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
        };
        let documents: Vec<_> = pods.iter().map(|it| pod(it).to_string()).collect();
        std::fs::write(&path, documents.join("\n---\n")).unwrap();
        Manifest(path)
    }
}

impl Drop for Manifest {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

fn pod(lab: &Lab, name: &str) -> Value {
    lab.api("GET", &format!("{PODS}/{name}"))
}

fn shell(line: &str) -> Value {
    json!(["sh", "-c", line])
}

/// The container's part of the status.
fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let lists = ["initContainerStatuses", "containerStatuses"];
    let all = lists.iter().filter_map(|list| pod["status"][list].as_array()).flatten();
    all.into_iter().find(|it| it["name"] == name).unwrap_or_else(|| panic!("{name}: {pod}"))
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True")
}

#[test]
fn containers_start_in_order_and_know_who_they_are() {
    let manifest = Manifest::of(&[(
        "ordered",
        json!({
            "initContainers": [
                {"name": "first", "image": "x", "command": shell("echo first $WHO"), "env": [
                    {"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
                {"name": "side", "image": "x", "restartPolicy": "Always",
                    "ports": [{"containerPort": 81}], "startupProbe": {"tcpSocket": {"port": 81}}},
                {"name": "unknown", "image": "no-such-image"},
            ],
            "containers": [{"name": "main", "image": "x", "ports": [{"name": "web", "containerPort": 80}],
                "readinessProbe": {"httpGet": {"path": "/", "port": "web"}}}],
        }),
    )]);
    let lab = Lab::up(&[&manifest.0], &[]);
    let pod = pod(&lab, "ordered");
    for (name, state) in [
        ("first", "terminated"),
        ("unknown", "terminated"),
        ("side", "running"),
        ("main", "running"),
    ] {
        assert!(container(&pod, name)["state"][state].is_object(), "{name}: {pod}");
    }
    let ip = pod["status"]["podIP"].as_str().unwrap();
    for port in [80, 81] {
        let answer = lab.get("node/node-2", &format!("http://{ip}:{port}/path"));
        assert_eq!((&answer["pod"], &answer["path"]), (&json!("ordered"), &json!("/path")));
        assert_eq!((&answer["podIP"], &answer["localPort"]), (&json!(ip), &json!(port)));
    }
    assert!(lab.run("lab logs pod/ordered").stdout.contains("first ordered"));
}

#[test]
fn a_container_is_told_of_services_and_configuration() {
    let told =
        "echo $KUBERNETES_SERVICE_HOST:$KUBERNETES_PORT_443_TCP_PORT $COLOR $PASSWORD $P_color";
    let from = |kind: &str, key: &str| json!({(kind): {"name": "settings", "key": key}});
    let manifest = Manifest::of(&[(
        "informed",
        json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "x", "command": shell(told),
            "env": [{"name": "COLOR", "valueFrom": from("configMapKeyRef", "color")},
                {"name": "PASSWORD", "valueFrom": from("secretKeyRef", "password")}],
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "settings"}}]}]}),
    )]);
    let configuration = labs::Manifest::of(&[
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"color": "blue"}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "settings"},
            "data": {"password": "aHVudGVyMg=="}}),
    ]);
    let lab = Lab::up(&[&manifest.0, &configuration.0], &["--nodes", "1"]);
    let log = lab.shell("node/node-1", "cat /run/podway/logs/node-1/pods/default_informed/c.log");
    assert_eq!(log.stdout, "10.96.0.1:443 blue hunter2 blue\n");
}

#[test]
fn a_container_that_fails_its_liveness_probe_is_started_again() {
    let alive = std::env::temp_dir().join(new_name());
    let test = json!(["test", "-e", alive]);
    let line = format!("touch {}; exec sleep 1000", alive.display());
    let manifest = Manifest::of(&[(
        "lively",
        json!({
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": "x", "command": shell(&line),
                "readinessProbe": {"exec": {"command": test}, "periodSeconds": 1},
                "livenessProbe": {"exec": {"command": test}, "periodSeconds": 1, "failureThreshold": 1,
                    "initialDelaySeconds": 1}}],
        }),
    )]);
    let lab = Lab::up(&[&manifest.0], &[]);
    std::fs::remove_file(&alive).unwrap();
    wait_until("it runs again, and is ready", || {
        let pod = pod(&lab, "lively");
        container(&pod, "c")["restartCount"].as_u64() >= Some(1) && is_ready(&pod)
    });
    drop(lab);
    std::fs::remove_file(&alive).unwrap();
}

#[test]
fn a_killed_kubelet_finds_its_containers_again() {
    let manifest = Manifest::of(&[
        (
            "server",
            json!({"containers": [{"name": "c", "image": "x", "ports": [{"containerPort": 80}],
            "readinessProbe": {"httpGet": {"port": 80}}}]}),
        ),
        (
            "job",
            json!({"restartPolicy": "Never",
            "containers": [{"name": "c", "image": "x", "command": shell("echo once")}]}),
        ),
    ]);
    let lab = Lab::up(&[&manifest.0], &[]);
    wait_until("the job is done", || pod(&lab, "job")["status"]["phase"] == "Succeeded");
    let before = pod(&lab, "server");
    assert_eq!(lab.kill_9("node-1", "kubelet"), 1);
    assert_eq!(lab.shell("node/node-1", "kill -9 $(pgrep -f 'lab-echo --port 8[0]')").code, 0);
    wait_until("the new kubelet starts what has ended", || {
        let after = pod(&lab, "server");
        container(&after, "c")["restartCount"] == 1 && is_ready(&after)
    });
    let after = pod(&lab, "server");
    assert_eq!(after["status"]["podIP"], before["status"]["podIP"], "the sandbox stays");
    let job = pod(&lab, "job");
    assert_eq!(job["status"]["phase"], "Succeeded");
    assert_eq!(container(&job, "c")["restartCount"], 0, "what is done is not done again");
    let log = lab.shell("node/node-1", "cat /run/podway/logs/node-1/pods/default_job/c.log");
    assert_eq!(log.stdout, "once\n");
}

#[test]
fn a_deleted_pod_leaves_nothing() {
    let manifest = Manifest::of(&[(
        "stubborn",
        json!({"containers": [{"name": "c", "image": "x",
            "command": shell("trap '' TERM; sleep 1000 & while :; do sleep 1; done")}]}),
    )]);
    let lab = Lab::up(&[&manifest.0], &[]);
    let path = format!("{PODS}/stubborn?gracePeriodSeconds=1");
    assert_eq!(lab.api("DELETE", &path)["metadata"]["name"], "stubborn");
    wait_until("it is gone", || pod(&lab, "stubborn")["code"] == 404);
    let left = "ip -o link show type veth | grep pdw; pgrep sleep; ls /run/netns | grep pod-; \
                ls /run/podway/nodes/node-1/ipam | grep '10[.]244.*[.][0-9]*$' | grep -v last; \
                ls /run/podway/nodes/node-1/pods; true";
    assert_eq!(lab.shell("node/node-1", left).stdout, "");
}

#[test]
fn probes_ask_grpc_and_https() {
    let health = clients().join("health").display().to_string();
    let probed = |name: &'static str, probe: Value| {
        let command = json!([health, "9000", "9443"]);
        let mut probe = probe;
        probe["periodSeconds"] = 1.into();
        let container =
            json!({"name": "c", "image": "x", "command": command, "readinessProbe": probe});
        (name, json!({"terminationGracePeriodSeconds": 1, "containers": [container]}))
    };
    let grpc = |service: &str| json!({"grpc": {"port": 9000, "service": service}});
    let https = |path: &str| json!({"httpGet": {"port": 9443, "path": path, "scheme": "HTTPS"}});
    let pods = [
        probed("serving", grpc("")),
        probed("asleep", grpc("asleep")),
        probed("unknown", grpc("nosuch")),
        probed("good", https("/good")),
        probed("bad", https("/bad")),
    ];
    let manifest = Manifest::of(&pods);
    let session = Session::start();
    session.check(KUBECTLS[1], &format!("apply -f {}", manifest.0.display()), "", "created");
    for (name, asked) in
        [("asleep", "grpc \"asleep\""), ("unknown", "grpc \"nosuch\""), ("bad", "https /bad")]
    {
        wait_until("it is asked more than once", || {
            let log = session.kubectl(KUBECTLS[1], &format!("logs {name}"), "").stdout;
            log.lines().filter(|line| *line == asked).count() > 2
        });
    }
    for name in ["serving", "good"] {
        wait_until("it is ready", || is_ready(&pod(&session.lab, name)));
    }
    for name in ["asleep", "unknown", "bad"] {
        assert!(!is_ready(&pod(&session.lab, name)), "{name}");
    }
}
