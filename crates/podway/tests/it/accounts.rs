//! Service accounts and roles on a real lab: kubectl on the machine and in pods, client-go in a pod.

use crate::clients::{KUBECTLS, Session, clients};
use crate::labs::wait_until;
use serde_json::json;
use std::path::Path;

#[test]
fn roles_decide_for_others_and_for_pods() {
    let session = Session::start();
    for kubectl in KUBECTLS {
        let robot = "system:serviceaccount:default:robot";
        session.check(kubectl, "create serviceaccount robot", "", "created");
        session.check(kubectl, "create token robot --duration=1h", "", ".");
        let can = format!("auth can-i list pods --as={robot}");
        assert_eq!(session.kubectl(kubectl, &can, "").stdout, "no\n");
        let bind = "create rolebinding robots --clusterrole=view --serviceaccount=default:robot";
        session.check(kubectl, bind, "", "created");
        session.check(kubectl, &can, "", "yes");
        session.check(kubectl, &format!("get pods --as={robot}"), "", "Running");
        let list = format!("auth can-i --list --as={robot}");
        session.check(kubectl, &list, "", "endpointslices.discovery.k8s.io");
        let refused = session.kubectl(kubectl, &format!("get secrets --as={robot}"), "");
        let expected = format!(
            "Error from server (Forbidden): secrets is forbidden: User \"{robot}\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\""
        );
        assert!(refused.stderr.contains(&expected), "{refused:?}");

        let inside = format!("exec deployment/web -- {}", clients().join(kubectl).display());
        let whoami = format!("{inside} auth whoami");
        session.check(kubectl, &whoami, "", "system:serviceaccount:default:default");
        session.check(kubectl, &whoami, "", "web-");
        let refused = session.kubectl(kubectl, &format!("{inside} get pods"), "");
        let expected =
            "User \"system:serviceaccount:default:default\" cannot list resource \"pods\"";
        assert!(refused.stderr.contains(expected), "{refused:?}");
        let bind = "create rolebinding own --clusterrole=view --serviceaccount=default:default";
        session.check(kubectl, bind, "", "created");
        session.check(kubectl, &format!("{inside} get pods"), "", "Running");
        session.check(kubectl, "delete rolebinding/own rolebinding/robots sa/robot", "", "deleted");
    }
}

#[test]
fn client_go_runs_in_a_pod_as_in_a_cluster() {
    let session = Session::start();
    let binding =
        "create clusterrolebinding watcher --clusterrole=view --serviceaccount=default:watcher";
    session.check(KUBECTLS[1], "create serviceaccount watcher", "", "created");
    session.check(KUBECTLS[1], binding, "", "created");
    let informer = clients().join("informer").display().to_string();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "watcher"},
        "spec": {"serviceAccountName": "watcher", "restartPolicy": "Never",
            "containers": [{"name": "c", "image": "x", "command": [informer, "late"]}]},
    });
    session.check(KUBECTLS[1], "apply -f -", &pod.to_string(), "created");
    let log = || session.kubectl(KUBECTLS[1], "logs watcher", "").stdout;
    wait_until("the informer has what is there", || log().contains("synced"));
    session.check(KUBECTLS[1], "run late --image=x", "", "created");
    wait_until("the informer has what comes", || log().contains("late initial=false"));
}

#[test]
fn volumes_hold_what_the_api_has() {
    let session = Session::start();
    for line in [
        "create configmap settings --from-literal=color=blue",
        "create secret generic key --from-literal=word=hunter2",
    ] {
        session.check(KUBECTLS[1], line, "", "created");
    }
    let volumes = json!([
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "all", "projected": {"sources": [
            {"secret": {"name": "key", "items": [{"key": "word", "path": "deep/word"}]}},
            {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        ]}},
        {"name": "scratch", "emptyDir": {}},
    ]);
    let mount = |name: &str, place: &str| json!({"name": name, "mountPath": place});
    let mounts = json!([
        mount("settings", "/run/settings"),
        mount("all", "/run/all"),
        mount("scratch", "/tmp"),
    ]);
    let script =
        "cat /run/settings/color /run/all/deep/word /run/all/labels; echo x > /tmp/made; sleep 60";
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "reader", "labels": {"a": "b"}},
        "spec": {"volumes": volumes, "terminationGracePeriodSeconds": 0, "containers":
            [{"name": "c", "image": "x", "command": ["sh", "-c", script], "volumeMounts": mounts}]},
    });
    session.check(KUBECTLS[1], "apply -f -", &pod.to_string(), "created");
    session.check(KUBECTLS[1], "wait --for=condition=Ready pod/reader --timeout=30s", "", "met");
    wait_until("the files are read", || {
        session.kubectl(KUBECTLS[1], "logs reader", "").stdout == "bluehunter2a=\"b\"\n"
    });
    session.check(KUBECTLS[1], "exec reader -- ls /tmp", "", "made\n");
    let change = r#"patch configmap settings -p {"data":{"color":"red"}}"#;
    session.check(KUBECTLS[1], change, "", "patched");
    wait_until("the file is as the ConfigMap is now", || {
        session.kubectl(KUBECTLS[1], "exec reader -- cat /run/settings/color", "").stdout == "red"
    });
    let others = session.kubectl(KUBECTLS[1], "exec deployment/web -- ls /tmp", "");
    assert!(!others.stdout.lines().any(|name| name == "made"), "{others:?}");
}

#[test]
fn volumes_are_at_places_that_no_machine_has() {
    let session = Session::start();
    let made = "create configmap settings --from-literal=color=blue --from-literal=size=big";
    session.check(KUBECTLS[1], made, "", "created");
    let mount = |name: &str, place: &str| json!({"name": name, "mountPath": place});
    let mut file = mount("settings", "/etc/podway-test/file");
    file["subPath"] = "size".into();
    let mut part = mount("scratch", "/podway-test/part");
    part["subPath"] = "a/b".into();
    let mounts = json!([
        mount("settings", "/podway-test/scratch/nested"),
        mount("settings", "/podway-test/deep/er"),
        mount("settings", "/etc/podway-test/all"),
        mount("scratch", "/podway-test/scratch"),
        file,
        part,
    ]);
    let script = "cd /podway-test; cat deep/er/color /etc/podway-test/all/color /etc/podway-test/file \
        scratch/nested/size; echo; test -d /proc/self -a -c /dev/null -a -e /etc/passwd && echo whole; \
        echo x | tee part/made other; sleep 60";
    let probe =
        json!({"exec": {"command": ["cat", "/podway-test/deep/er/color", "/podway-test/other"]}});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "reader"},
        "spec": {"terminationGracePeriodSeconds": 0,
            "volumes": [{"name": "settings", "configMap": {"name": "settings"}}, {"name": "scratch", "emptyDir": {}}],
            "containers": [{"name": "c", "image": "x", "command": ["sh", "-c", script],
                "readinessProbe": probe, "volumeMounts": mounts}]},
    });
    session.check(KUBECTLS[1], "apply -f -", &pod.to_string(), "created");
    session.check(KUBECTLS[1], "wait --for=condition=Ready pod/reader --timeout=30s", "", "met");
    let log = session.kubectl(KUBECTLS[1], "logs reader", "").stdout;
    assert_eq!(log, "bluebluebigbig\nwhole\nx\n");
    for (path, expected) in [
        ("/podway-test/deep/er/color", "blue"),
        ("/etc/podway-test/file", "big"),
        ("/podway-test/scratch/a/b/made", "x\n"),
        ("/podway-test/other", "x\n"),
    ] {
        session.check(KUBECTLS[1], &format!("exec reader -- cat {path}"), "", expected);
    }
    let words = session.folder.join("words");
    std::fs::write(&words, "hello").unwrap();
    let copy = format!("cp --no-preserve {} reader:/podway-test/scratch/words", words.display());
    session.check(KUBECTLS[1], &copy, "", "");
    session.check(KUBECTLS[1], "exec reader -- cat /podway-test/scratch/words", "", "hello");
    session.check(KUBECTLS[1], "delete pod reader", "", "deleted");
    drop(session);
    for place in ["/podway-test", "/etc/podway-test"] {
        assert!(!Path::new(place).exists(), "{place}");
    }
    assert!(Path::new("/etc/passwd").exists(), "what a container shared with the machine stays");
}
