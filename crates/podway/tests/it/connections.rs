//! What kubectl does through the API with a pod that runs: forward ports, attach, read logs in all ways.

use crate::clients::{KUBECTLS, Session};
use crate::labs::{Done, wait_until};
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};

/// Ended when dropped. What it prints must have a reader: it dies of a broken pipe.
struct Forward {
    child: Child,
    _output: BufReader<ChildStdout>,
}

impl Forward {
    fn start(mut command: Command) -> (Self, u16) {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let port = line.split_once(" 127.0.0.1:");
        let port = port.and_then(|(_, it)| it.split_whitespace().next()?.parse().ok());
        (Self { child, _output: output }, port.unwrap_or_else(|| panic!("{line}")))
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// `kubectl port-forward`, and the port of this machine that it listens on.
fn forward(session: &Session, kubectl: &str, target: &str, websockets: bool) -> (Forward, u16) {
    let mut command = session.command(kubectl);
    command.args(["port-forward", target, ":80"]).stderr(Stdio::null());
    command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets.to_string());
    Forward::start(command)
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn ports_of_pods_are_forwarded() {
    let session = Session::start();
    let ports = json!([{"containerPort": 80}]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "echo"},
        "spec": {"containers": [{"name": "c", "image": "x", "ports": ports}]}});
    session.check(KUBECTLS[1], "apply -f -", &pod.to_string(), "created");
    session.check(KUBECTLS[1], "wait --for=condition=Ready pod/echo --timeout=30s", "", "met");
    for kubectl in KUBECTLS {
        for websockets in [true, false] {
            let (_forward, port) = forward(&session, kubectl, "pod/echo", websockets);
            for round in 0..20 {
                let answer = get(port, &format!("/{round}"));
                assert!(answer.starts_with("HTTP/1.") && answer.contains("echo"), "{answer}");
            }
        }
        // Nobody listens there: the connection ends, and the reason is told.
        let mut command = session.command(kubectl);
        command.args(["port-forward", "deployment/web", ":81"]).stderr(Stdio::piped());
        let (mut child, port) = Forward::start(command);
        assert_eq!(get(port, "/"), "");
        let mut errors = BufReader::new(child.child.stderr.as_mut().unwrap());
        let mut told = String::new();
        while !told.contains("refused") {
            assert_ne!(errors.read_line(&mut told).unwrap(), 0, "{told}");
        }
        assert!(told.contains("failed to connect to localhost:81 inside the pod"), "{told}");
    }
}

#[test]
fn http_of_pods_and_services_goes_through_the_api() {
    let session = Session::start();
    let ports = json!([{"containerPort": 80}]);
    let metadata = json!({"name": "echo", "labels": {"app": "echo"}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {"containers": [{"name": "c", "image": "x", "ports": ports}]}});
    session.check(KUBECTLS[1], "apply -f -", &pod.to_string(), "created");
    session.check(KUBECTLS[1], "wait --for=condition=Ready pod/echo --timeout=30s", "", "met");
    session.check(KUBECTLS[1], "expose pod echo --port 8080 --target-port 80", "", "exposed");
    let here = "/api/v1/namespaces/default";
    wait_until("the Service has an endpoint", || {
        let slices = session.kubectl(KUBECTLS[1], "get endpointslices -l app=echo", "");
        slices.stdout.contains("10.244.")
    });
    for kubectl in KUBECTLS {
        for place in ["pods/echo", "pods/http:echo:80", "services/echo:8080", "services/echo:"] {
            let line = format!("get --raw {here}/{place}/proxy/x?a=b");
            session.check(kubectl, &line, "", "\"echo\"");
        }
        let refused =
            session.kubectl(kubectl, &format!("get --raw {here}/pods/echo:81/proxy/"), "");
        assert!(refused.stderr.contains("error trying to reach service"), "{refused:?}");
        let mut command = session.command(kubectl);
        command.args(["proxy", "--port=0"]).stderr(Stdio::null());
        let (_proxy, port) = Forward::start(command);
        let answer = get(port, &format!("{here}/services/echo:8080/proxy/"));
        assert!(answer.contains(" 200 OK") && answer.contains("\"echo\""), "{answer}");
    }
}

#[test]
fn old_clients_exec_over_spdy() {
    let session = Session::start();
    for kubectl in KUBECTLS {
        let run = |words: &[&str], input: &str| {
            let mut command = session.command(kubectl);
            command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false").args(words);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            Done::of(&child.wait_with_output().unwrap())
        };
        let large = "x".repeat(300_000);
        let echoed = run(&["exec", "-i", "deployment/web", "--", "cat"], &large);
        assert_eq!((echoed.code, echoed.stdout.len()), (0, large.len()), "{}", echoed.stderr);
        let failed = run(&["exec", "deployment/web", "--", "sh", "-c", "echo no >&2; exit 3"], "");
        assert_eq!(failed.code, 3, "{failed:?}");
        assert!(failed.stderr.starts_with("no\n"), "{failed:?}");
    }
}

const TALKER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  restartPolicy: OnFailure
  containers:
  - {name: c, image: x, command: [sh, -c, 'if [ -e /run/mark/mark ]; then echo second; sleep 1000; else touch /run/mark/mark; echo first; exit 1; fi'],
     volumeMounts: [{name: mark, mountPath: /run/mark}]}
  terminationGracePeriodSeconds: 0
  volumes: [{name: mark, emptyDir: {}}]
";

#[test]
fn logs_know_runs_and_times() {
    let session = Session::start();
    session.check(KUBECTLS[1], "apply -f -", TALKER, "created");
    let logs =
        |kubectl: &str, flags: &str| session.kubectl(kubectl, &format!("logs talker {flags}"), "");
    wait_until("the second run writes", || logs(KUBECTLS[1], "").stdout == "second\n");
    for kubectl in KUBECTLS {
        let stamped = logs(kubectl, "--timestamps").stdout;
        let (time, rest) = stamped.split_once(' ').unwrap_or_default();
        assert!(rest == "second\n" && time.len() == 30 && time.starts_with("20"), "{stamped}");
        for (flags, expected) in [
            ("--previous", "first\n"),
            ("--since=1h", "second\n"),
            ("--since-time=2020-01-01T00:00:00Z", "second\n"),
            ("--since-time=2999-01-01T00:00:00Z", ""),
            ("--tail=1", "second\n"),
            ("--limit-bytes=3", "sec"),
            ("--all-containers --prefix", "[pod/talker/c] second\n"),
        ] {
            let done = logs(kubectl, flags);
            assert_eq!((done.code, done.stdout.as_str()), (0, expected), "{flags}: {done:?}");
        }
        let none = session.kubectl(kubectl, "logs deployment/web --previous", "");
        assert!(none.stderr.contains("previous terminated container \"c\" in pod"), "{none:?}");
    }
}

#[test]
fn followers_end_with_the_container() {
    let session = Session::start();
    for (number, kubectl) in KUBECTLS.into_iter().enumerate() {
        let name = format!("short-{number}");
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x", "command":
                ["sh", "-c", "echo one; while [ ! -e /run/go/go ]; do sleep 0.1; done; echo two"],
                "volumeMounts": [{"name": "go", "mountPath": "/run/go"}]}],
                "volumes": [{"name": "go", "emptyDir": {}}]}});
        session.check(kubectl, "apply -f -", &pod.to_string(), "created");
        session.check(
            kubectl,
            &format!("wait --for=condition=Ready pod/{name} --timeout=30s"),
            "",
            "met",
        );
        let start = |words: &[&str]| {
            let mut command = session.command(kubectl);
            command.args(words).arg(&name).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        };
        let mut follower = start(&["logs", "-f"]);
        let mut attached = start(&["attach"]);
        let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "one");
        // It is attached once it says how to detach; it may say more, which somebody must take.
        let mut hints = BufReader::new(attached.stderr.take().unwrap()).lines();
        hints.next().unwrap().unwrap();
        session.check(kubectl, &format!("exec {name} -- touch /run/go/go"), "", "");
        assert_eq!(lines.next().unwrap().unwrap(), "two");
        assert!(lines.next().is_none() && follower.wait().unwrap().success());
        let done = attached.wait_with_output().unwrap();
        let hints: Vec<_> = hints.map_while(Result::ok).collect();
        assert!(done.status.success(), "{done:?} {hints:?}");
    }
}

#[test]
fn files_are_copied_and_what_is_not_there_is_said() {
    let session = Session::start();
    let file = session.folder.join("words");
    std::fs::write(&file, "hello").unwrap();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "box"},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "x", "command": ["sleep", "1000"],
            "volumeMounts": [{"name": "v", "mountPath": "/run/box"}]}],
            "volumes": [{"name": "v", "emptyDir": {}}]}});
    session.check(KUBECTLS[1], "apply -f -", &pod.to_string(), "created");
    session.check(KUBECTLS[1], "wait --for=condition=Ready pod/box --timeout=30s", "", "met");
    for kubectl in KUBECTLS {
        let back = session.folder.join("back");
        // A lab of an ordinary user has one user, whom all files belong to.
        let copy = format!("cp --no-preserve {} box:/run/box/words", file.display());
        session.check(kubectl, &copy, "", "");
        session.check(kubectl, "exec box -- cat /run/box/words", "", "hello");
        session.check(kubectl, &format!("cp box:/run/box/words {}", back.display()), "", "");
        assert_eq!(std::fs::read_to_string(&back).unwrap(), "hello");
        std::fs::remove_file(back).unwrap();
        session.check(kubectl, "get --raw /api/v1/namespaces/default/pods/box", "", "\"box\"");
        session.check(kubectl, "get --raw /openid/v1/jwks", "", "P-256");
        let top = session.kubectl(kubectl, "top pods", "");
        assert!(top.stderr.contains("Metrics API not available"), "{top:?}");
    }
}
