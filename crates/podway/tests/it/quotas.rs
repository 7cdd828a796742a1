//! Quotas and ranges of limits as kubectl makes, shows and meets them.

use crate::clients::{KUBECTLS, clients};
use crate::kept::{Scratch, Server};
use crate::labs::Done;
use std::io::Write;
use std::process::{Command, Stdio};

const RANGE: &str = "
apiVersion: v1
kind: LimitRange
metadata: {name: usual}
spec: {limits: [{type: Container, default: {cpu: 200m, memory: 64Mi}, defaultRequest: {cpu: 100m}}]}
";

#[test]
fn a_namespace_holds_what_its_quota_has_room_for() {
    for kubectl in KUBECTLS {
        let scratch = Scratch::new();
        std::fs::create_dir(&scratch.0).unwrap();
        let (_server, kubeconfig) = Server::start(&scratch);
        let run = |line: &str, input: &str| {
            let mut command = Command::new(clients().join(kubectl));
            command.env("KUBECONFIG", &kubeconfig).env("HOME", &scratch.0);
            command.args(line.split_whitespace()).stdin(Stdio::piped());
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            Done::of(&child.wait_with_output().unwrap())
        };
        let table = |line: &str| {
            let done = run(line, "");
            let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            done.stdout.lines().map(words).collect::<Vec<_>>()
        };
        for (line, input, answer) in [
            (
                "create quota small --hard=cpu=250m,limits.memory=1Gi,pods=3,count/configmaps=2",
                "",
                "created",
            ),
            ("run bare --image x", "", "must specify cpu for: bare; limits.memory for: bare"),
            ("apply -f -", RANGE, "created"),
            ("run one --image x", "", "created"),
            ("run two --image x", "", "created"),
            (
                "run three --image x",
                "",
                "exceeded quota: small, requested: cpu=100m, used: cpu=200m, limited: cpu=250m",
            ),
            ("create configmap a", "", "created"),
            (
                "create configmap b",
                "",
                "exceeded quota: small, requested: count/configmaps=1, used: count/configmaps=2, limited: count/configmaps=2",
            ),
            ("delete pod two", "", "deleted"),
            ("run three --image x", "", "created"),
        ] {
            let done = run(line, input);
            let said = format!("{}{}", done.stdout, done.stderr);
            assert!(said.contains(answer), "{kubectl} {line}: {answer:?} is not in {said:?}");
        }
        let described = table("describe quota small");
        for row in ["count/configmaps 2 2", "cpu 200m 250m", "limits.memory 128Mi 1Gi", "pods 2 3"]
        {
            assert!(described.iter().any(|line| line == row), "{row}: {described:#?}");
        }
        let listed = table("get quota");
        let row = "small count/configmaps: 2/2, cpu: 200m/250m, pods: 2/3 limits.memory: 128Mi/1Gi";
        assert!(listed.iter().any(|line| line.starts_with(row)), "{listed:#?}");
        let limits = table("describe limits usual");
        let row = "Container memory - - 64Mi 64Mi -";
        assert!(limits.iter().any(|line| line == row), "{limits:#?}");
    }
}
