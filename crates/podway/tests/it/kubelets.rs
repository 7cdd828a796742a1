//! What kubectl sees of the lab's kubelet: Events, conditions, and containers that people talk to.

use crate::clients::{KUBECTLS, Session};
use crate::labs::{Done, wait_until};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

const KUBECTL: &str = KUBECTLS[1];

/// A manifest of pods that end soon.
fn pods(pods: &[(&str, Value)]) -> String {
    let pod = |(name, spec): &(&str, Value)| {
        let mut spec = spec.clone();
        spec["terminationGracePeriodSeconds"] = 1.into();
        spec["nodeName"] = "node-1".into();
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
            .to_string()
    };
    pods.iter().map(pod).collect::<Vec<_>>().join("\n---\n")
}

/// A pod of one container that goes on, with these fields too.
fn container(fields: Value) -> Value {
    let mut container = json!({"name": "c", "image": "x", "command": ["sleep", "1000"]});
    for (name, value) in fields.as_object().unwrap() {
        container[name] = value.clone();
    }
    json!({"containers": [container]})
}

/// Waits until kubectl prints all these texts, each with any number of blanks between words.
fn wait_for(session: &Session, line: &str, expected: &[&str]) {
    let said = || {
        let words = session.kubectl(KUBECTL, line, "").stdout;
        words.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for text in expected {
        let mut last = String::new();
        wait_until(&format!("{line}: {text}"), || {
            last = said();
            last.contains(text)
        });
    }
}

#[test]
fn the_kubelet_tells_what_it_does() {
    let session = Session::start();
    let exec = |line: &str| json!({"exec": {"command": ["sh", "-c", line]}});
    let probe = |mut probe: Value| {
        probe["periodSeconds"] = 1.into();
        probe["failureThreshold"] = 1.into();
        probe
    };
    let mut unmounted = container(json!({"volumeMounts": [{"name": "v", "mountPath": "/mnt"}]}));
    unmounted["volumes"] = json!([{"name": "v", "configMap": {"name": "nosuch"}}]);
    let manifest = pods(&[
        ("good", container(json!({}))),
        ("crashing", container(json!({"command": ["false"]}))),
        ("sick", container(json!({"readinessProbe": probe(exec("echo because; exit 1"))}))),
        ("dying", container(json!({"livenessProbe": probe(json!({"tcpSocket": {"port": 9}}))}))),
        (
            "unset",
            container(json!({"env": [{"name": "A", "valueFrom":
                {"configMapKeyRef": {"name": "nosuch", "key": "a"}}}]})),
        ),
        ("unmounted", unmounted),
        ("hooked", container(json!({"lifecycle": {"postStart": exec("exit 1")}}))),
        ("hanging", container(json!({"lifecycle": {"preStop": exec("exit 1")}}))),
    ]);
    session.check(KUBECTL, "create -f -", &manifest, "created");
    for (pod, expected) in [
        (
            "good",
            &[
                "kubelet spec.containers{c}: Container image \"x\" already present on machine and can be accessed by the pod",
                "kubelet spec.containers{c}: Container created",
                "kubelet spec.containers{c}: Container started",
            ][..],
        ),
        (
            "crashing",
            &[
                "Warning BackOff",
                "Back-off restarting failed container c in pod crashing_default(",
                "Reason: CrashLoopBackOff",
            ],
        ),
        ("sick", &["(x2 over ", "Readiness probe failed: because"]),
        (
            "dying",
            &[
                ":9: connect: connection refused",
                "Normal Killing",
                "Container c failed liveness probe, will be restarted",
            ],
        ),
        ("unset", &["Error: configmap \"nosuch\" not found", "Reason: CreateContainerConfigError"]),
        (
            "unmounted",
            &[
                "Warning FailedMount",
                "MountVolume.SetUp failed for volume \"v\" : configmap \"nosuch\" not found",
                "Reason: ContainerCreating",
            ],
        ),
        ("hooked", &["FailedPostStartHook", "PostStartHook failed"]),
    ] {
        wait_for(&session, &format!("describe pod {pod}"), expected);
    }
    wait_for(&session, "get pod hanging", &["1/1 Running"]);
    session.check(KUBECTL, "delete pod hanging", "", "deleted");
    let events = "get events --field-selector=involvedObject.name=hanging";
    wait_for(&session, events, &["Stopping container c", "PreStopHook failed"]);
    check_node(&session);
    let source = "get events --field-selector=reason=Started,involvedObject.name=good -o \
                  jsonpath={.items[0].source}{.items[0].involvedObject.fieldPath}";
    session.check(
        KUBECTL,
        source,
        "",
        "{\"component\":\"kubelet\",\"host\":\"node-1\"}spec.containers{c}",
    );
}

/// What it tells of its node.
fn check_node(session: &Session) {
    wait_for(
        session,
        "describe node node-1",
        &["Starting kubelet.", "Node node-1 status is now: NodeReady"],
    );
    session.check(KUBECTL, "cordon node-1", "", "cordoned");
    wait_for(session, "describe node node-1", &["status is now: NodeNotSchedulable"]);
}

#[test]
fn the_kubelet_keeps_conditions_as_that_of_kubernetes_does() {
    let session = Session::start();
    let mut gated = container(json!({}));
    gated["readinessGates"] = json!([{"conditionType": "example.com/open"}]);
    let crashing = container(json!({"command": ["false"]}));
    session.check(KUBECTL, "create -f -", &pods(&[("gated", gated), ("crashing", crashing)]), "");
    let conditions = "-o jsonpath={range.status.conditions[*]}{.type}={.status},{.observedGeneration}{\"\\n\"}{end}";
    let all = |ready: &str| {
        format!(
            "PodReadyToStartContainers=True,1 Initialized=True,1 Ready={ready},1 \
             ContainersReady=True,1 PodScheduled=True,1"
        )
    };
    wait_for(&session, &format!("get pod gated {conditions}"), &[&all("False")]);
    wait_for(&session, "describe pod gated", &["example.com/open <none>"]);
    let open = "patch pod gated --subresource=status -p \
                {\"status\":{\"conditions\":[{\"type\":\"example.com/open\",\"status\":\"True\"}]}}";
    session.check(KUBECTL, open, "", "patched");
    wait_for(&session, "wait --for=condition=Ready pod/gated --timeout=30s", &["condition met"]);
    wait_for(
        &session,
        &format!("get pod gated {conditions}"),
        &["example.com/open=True,", &all("True")],
    );
    let unready = "{.status.conditions[?(@.type==\"ContainersReady\")].message}";
    wait_for(
        &session,
        &format!("get pod crashing -o jsonpath={unready}"),
        &["containers with unready status: [c]"],
    );
}

/// As [`Session::kubectl`] at a terminal, where somebody types this.
fn at_terminal(session: &Session, line: &str, typed: &str) -> Done {
    let kubectl = session.command(KUBECTL);
    let mut command = Command::new("script");
    command.args(["-qec", &format!("{} {line}", kubectl.get_program().display()), "/dev/null"]);
    for (name, value) in kubectl.get_envs() {
        command.env(name, value.unwrap());
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    Done::of(&child.wait_with_output().unwrap())
}

#[test]
fn people_talk_to_containers() {
    let session = Session::start();
    for kubectl in KUBECTLS {
        let run = "run once -i --rm --restart=Never --image=x -- tr a-z A-Z";
        session.check(kubectl, run, "words", "WORDS");
    }
    let asks = "while read line; do echo got:$line; done; echo over; sleep 1000";
    let talker = |fields: Value| {
        let mut spec = container(json!({"command": ["sh", "-c", asks], "stdin": true}));
        for (name, value) in fields.as_object().unwrap() {
            spec["containers"][0][name] = value.clone();
        }
        spec
    };
    let manifest = pods(&[
        ("listening", talker(json!({}))),
        ("deaf", talker(json!({"stdin": false}))),
        ("shell", container(json!({"command": [], "stdin": true, "tty": true}))),
    ]);
    session.check(KUBECTL, "create -f -", &manifest, "created");
    for pod in ["listening", "deaf", "shell"] {
        wait_for(&session, &format!("get pod {pod}"), &["1/1 Running"]);
    }
    for word in ["one", "two"] {
        session.check(KUBECTL, "attach -i listening", &format!("{word}\n"), "");
        wait_for(&session, "logs listening", &[&format!("got:{word}")]);
    }
    wait_for(&session, "logs deaf", &["over"]);
    let log = session.kubectl(KUBECTL, "logs listening", "").stdout;
    assert_eq!(log, "got:one\ngot:two\n", "its input goes on");

    let typed = at_terminal(&session, "attach -it shell", "echo $((6*7)); tty; exit\n");
    assert!(typed.stdout.contains("42\r\n/dev/pts/"), "{typed:?}");
    wait_for(
        &session,
        "get pod shell -o jsonpath={.status.containerStatuses[0].restartCount}",
        &["1"],
    );
    let line = "run tty -it --rm --restart=Never --image=x -- sh -c 'read word; stty size; echo got:$word'";
    let typed = at_terminal(&session, line, "hello\n");
    assert!(typed.stdout.contains("got:hello\r\n"), "{typed:?}");
}

#[test]
fn people_look_into_pods_with_debugging_containers() {
    let session = Session::start();
    let mut spec = container(json!({}));
    spec["initContainers"] = json!([{"name": "never", "image": "x", "command": ["sleep", "1000"]}]);
    let manifest = pods(&[("web", container(json!({}))), ("stuck", spec)]);
    session.check(KUBECTL, "create -f -", &manifest, "created");
    wait_for(&session, "get pod web", &["1/1 Running"]);
    for (kubectl, name) in KUBECTLS.iter().zip(["one", "two"]) {
        let debug = format!("debug web -i --image=busybox --target=c -c {name} -- sh -s");
        // Without `stdinOnce`, who has said all is shown no more.
        let said = "ip -br address show eth0; hostname; exit\n";
        session.check(kubectl, &debug, said, "Targeting container \"c\"");
        wait_for(&session, &format!("logs web -c {name}"), &["10.244.", "web"]);
    }
    let described = "Ephemeral Containers: one:";
    let told = "spec.ephemeralContainers{two}: Container started";
    wait_for(&session, "describe pod web", &[described, "Exit Code: 0", told]);
    wait_for(&session, "get pod web", &["1/1 Running"]);

    let typed =
        at_terminal(&session, "debug -it web --image=busybox -c shell", "echo $((6*7)); exit 3\n");
    assert!(typed.stdout.contains("42\r\n"), "{typed:?}");
    let code =
        "{.status.ephemeralContainerStatuses[?(@.name==\"shell\")].state.terminated.exitCode}";
    wait_for(&session, &format!("get pod web -o jsonpath={code}"), &["3"]);

    session.check(KUBECTL, "debug stuck --image=busybox -c guest -- sleep 1000", "", "");
    let state = "get pod stuck -o jsonpath={.status.ephemeralContainerStatuses[0].state}";
    wait_for(&session, state, &["running"]);
    session.check(KUBECTL, "exec stuck -c guest -- echo inside", "", "inside");
    let refused = session.kubectl(KUBECTL, "debug web --image=x --target=nosuch -c bad", "");
    let expected = "spec.ephemeralContainers[3].targetContainerName: Not found: \"nosuch\"";
    assert!(refused.code != 0 && refused.stderr.contains(expected), "{refused:?}");
    session.check(KUBECTL, "delete pod web stuck --timeout=30s", "", "deleted");
    let left = "pgrep -f lab-consol[e]; ls /run/podway/nodes/node-1/consoles";
    wait_until("nobody holds what nobody reads", || {
        session.lab.shell("node/node-1", left).stdout.is_empty()
    });
}
