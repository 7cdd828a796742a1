use super::*;
use crate::kubelet::container::Setting;
use kernel::namespace;
use kernel::process::{Signal, may_administer};
use kernel::spawn::{Place, spawn};
use std::net::TcpListener;
use std::process::Command;

/// Only root enters a container; an ordinary user runs the test anew as root of a user namespace.
fn as_root(test: &str, body: impl AsyncFnOnce()) {
    if !may_administer().unwrap() {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args([&format!("kubelet::prober::tests::{test}"), "--exact"]);
        let death_signal = Some(Signal::SIGKILL);
        let place = Place { make: vec![namespace::Kind::User], death_signal, ..Place::default() };
        assert!(spawn(again, place).unwrap().reap().unwrap().success(), "{test} as root");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(body());
}

fn target(ports: Vec<model::object::pod::ContainerPort>) -> Target {
    let object = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "command": ["true"]}]},
    });
    let spec = crate::kubelet::spec::Spec::parse(&object).unwrap();
    let surroundings = crate::kubelet::spec::Surroundings::default();
    let launch = Launch::plan(&spec, 0, &surroundings, Setting::default());
    let container = Container { ports, ..spec.pod.containers[0].clone() };
    Target { address: Some([127, 0, 0, 1].into()), container, launch }
}

/// A port where nobody listens, and one where somebody does who never answers.
fn ports() -> (u16, TcpListener) {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    (closed.local_addr().unwrap().port(), silent)
}

#[test]
fn what_fails_says_why() {
    as_root("what_fails_says_why", async || all_say_why().await);
}

async fn all_say_why() {
    let (closed, silent) = ports();
    let silent_port = silent.local_addr().unwrap().port();
    let get = |https, port| ProbeAction::HttpGet {
        https,
        path: "ok".to_owned(),
        port: PortRef::Number(port),
        host: None,
        headers: vec![],
    };
    let tcp = |port| ProbeAction::TcpSocket { port, host: None };
    let exec =
        |line: &str| ProbeAction::Exec { command: ["sh", "-c", line].map(str::to_owned).to_vec() };
    let refused = format!("dial tcp 127.0.0.1:{closed}: connect: connection refused");
    let late = "context deadline exceeded";
    let rows = [
        (tcp(PortRef::Number(silent_port)), None),
        (tcp(PortRef::Number(closed)), Some(refused.clone())),
        (get(false, closed), Some(format!("Get \"http://127.0.0.1:{closed}/ok\": {refused}"))),
        (
            get(true, silent_port),
            Some(format!(
                "Get \"https://127.0.0.1:{silent_port}/ok\": {late} \
                 (Client.Timeout exceeded while awaiting headers)"
            )),
        ),
        (
            ProbeAction::Grpc { port: closed, service: String::new() },
            Some(format!(
                "timeout: failed to connect service \"127.0.0.1:{closed}\" within 1s: {late}"
            )),
        ),
        (
            ProbeAction::Grpc { port: silent_port, service: String::new() },
            Some("timeout: health rpc did not complete within 1s".to_owned()),
        ),
        (exec("exit 0"), None),
        (exec("echo out; echo err >&2; exit 3"), Some("out\nerr\n".to_owned())),
        (
            exec("sleep 1000"),
            Some("command timed out: \"sh -c sleep 1000\" timed out after 1s".to_owned()),
        ),
    ];
    for (action, why) in rows {
        let outcome = probe(action.clone(), &target(vec![]), Duration::from_secs(1)).await;
        let expected = why.map_or(Outcome::Passed, Outcome::Failed);
        assert_eq!(outcome, expected, "{action:?}");
    }
    drop(silent);
}

#[test]
fn what_cannot_be_asked_is_an_error() {
    as_root("what_cannot_be_asked_is_an_error", async || errors_are_told().await);
}

async fn errors_are_told() {
    let named = ProbeAction::TcpSocket { port: PortRef::Name("web".into()), host: None };
    let missing = ProbeAction::Exec { command: vec!["/no-such-program".to_owned()] };
    for (action, expected) in [
        (named, "couldn't find port: web"),
        (missing, "failed to exec in container: start /no-such-program: "),
    ] {
        let outcome = probe(action, &target(vec![]), Duration::from_secs(10)).await;
        let Outcome::Errored(why) = outcome else { panic!("{outcome:?}") };
        assert!(why.starts_with(expected), "{why}");
    }
}

#[test]
fn times_are_spelled_as_in_go() {
    for (seconds, expected) in
        [(0, "0s"), (59, "59s"), (80, "1m20s"), (300, "5m0s"), (3601, "1h0m1s")]
    {
        assert_eq!(spelled(Duration::from_secs(seconds)), expected);
    }
}
