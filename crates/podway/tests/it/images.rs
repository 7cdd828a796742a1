//! What stands for images in a lab, and what its pods find: the API, and each other's names.

use crate::kept::Scratch;
use crate::labs::{Done, Lab, PODWAY, new_name, podway, wait_until};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const SCRIPT: &str = "#!/bin/sh\necho ran \"$@\"\n[ \"$1\" = once ] || exec sleep 1000\n";

/// A program and manifests.
struct Folder(PathBuf);

impl Folder {
    fn new(scratch: &Scratch) -> Folder {
        std::fs::create_dir_all(&scratch.0).unwrap();
        Folder(scratch.0.clone())
    }

    fn program(&self) -> PathBuf {
        let path = self.0.join("tool");
        std::fs::write(&path, SCRIPT).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    fn manifest(&self, pods: &[(&str, Value)]) -> PathBuf {
        let pod = |(name, container): &(&str, Value)| {
            let mut container = container.clone();
            container["name"] = "c".into();
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}})
        };
        let items: Vec<_> = pods.iter().map(pod).collect();
        let path = self.0.join("pods.json");
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        std::fs::write(&path, list.to_string()).unwrap();
        path
    }
}

fn log(lab: &Lab, pod: &str) -> String {
    let said = lab.run(&format!("lab logs pod/{pod}")).stdout;
    said.lines().filter_map(|line| line.strip_prefix("c: ")).collect::<Vec<_>>().join("\n")
}

fn status(lab: &Lab, pod: &str) -> Value {
    let pod = lab.api("GET", &format!("/api/v1/namespaces/default/pods/{pod}"));
    pod["status"]["containerStatuses"][0].clone()
}

/// Why it waits.
fn reason(lab: &Lab, pod: &str) -> String {
    status(lab, pod)["state"]["waiting"]["reason"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn programs_stand_for_images_and_stay_with_the_lab() {
    let (scratch, data) = (Scratch::new(), Scratch::new());
    let folder = Folder::new(&scratch);
    let image = "example.com/tools/tool:1";
    let pods = folder.manifest(&[
        ("own", json!({"image": image, "args": ["a", "b"]})),
        ("usual", json!({"image": image})),
        ("path", json!({"image": image, "command": ["/bin/tool"], "args": ["c"]})),
        ("other", json!({"image": "example.com/other", "args": ["d"]})),
        (
            "probed",
            json!({"image": image,
            "readinessProbe": {"exec": {"command": ["/tool", "once"]}}}),
        ),
    ]);
    let program = folder.program();
    let stands = format!("example.com/tools/*={} by default", program.display());
    let (stands, kept) = (["--image", &stands], ["--nodes", "1", "--data-dir", data.path()]);
    let lab = Lab::up(&[&pods], &[&kept[..], &stands].concat());
    for (pod, expected) in [("own", "ran a b"), ("usual", "ran by default"), ("path", "ran c")] {
        assert_eq!(log(&lab, pod), expected, "{pod}");
        assert_eq!(status(&lab, pod)["imageID"], program.to_str().unwrap(), "{pod}");
    }
    assert_eq!(status(&lab, "other")["imageID"], "");

    let down = lab.run("lab down");
    assert_eq!(down.code, 0, "{down:?}");
    let again = podway(&lab.name, &["lab", "up", "--data-dir", data.path()]);
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(log(&lab, "usual"), "ran by default");
}

#[test]
fn images_that_nothing_stands_for_cannot_be_pulled() {
    let scratch = Scratch::new();
    let image = "example.com/known";
    let pods = Folder::new(&scratch).manifest(&[
        ("known", json!({"image": image})),
        ("absent", json!({"image": "example.com/unknown"})),
        ("never", json!({"image": "example.com/unknown", "imagePullPolicy": "Never"})),
        ("malformed", json!({"image": "No Name"})),
    ]);
    let lab = Lab { name: new_name() };
    let words = ["lab", "up", "--nodes", "1", "--timeout", "1", "--image", image, "--only-images"];
    let up = podway(&lab.name, &[&words[..], &["-f", pods.to_str().unwrap()]].concat());
    assert_eq!(up.code, 1, "{up:?}");
    wait_until("an image that is there runs", || status(&lab, "known")["ready"] == true);
    for (pod, expected) in [
        ("absent", "ImagePullBackOff"),
        ("never", "ErrImageNeverPull"),
        ("malformed", "InvalidImageName"),
    ] {
        wait_until(&format!("{pod} waits"), || reason(&lab, pod) == expected);
    }
    let events = lab.api("GET", "/api/v1/namespaces/default/events?fieldSelector=reason=Failed");
    let said = events["items"].as_array().unwrap().iter().map(|it| it["message"].to_string());
    let said: Vec<_> = said.collect();
    assert!(said.iter().any(|it| it.contains("Error: ErrImagePull")), "{said:?}");

    let patch = json!({"spec": {"containers": [{"name": "c", "image": image}]}});
    let line = format!(
        "curl -sS --unix-socket /run/podway/api.sock -X PATCH -d '{patch}' \
         -H 'Content-Type: application/strategic-merge-patch+json' \
         http://api/api/v1/namespaces/default/pods/absent"
    );
    assert_eq!(lab.shell("underlay", &line).code, 0);
    wait_until("the image is there", || status(&lab, "absent")["ready"] == true);
}

#[test]
fn images_are_checked_before_there_is_a_lab() {
    for (image, expected) in [
        ("Bad=/bin/true", "\"Bad\" is no name of an image"),
        ("a.io/b=/nosuch", "/nosuch: No such file"),
        ("a.io/b=/etc/passwd", "/etc/passwd cannot be run"),
    ] {
        let Done { code, stderr, .. } = podway("images-refused", &["lab", "up", "--image", image]);
        assert_eq!(code, 2, "{image}: {stderr}");
        assert!(stderr.contains(expected), "{image}: {stderr}");
    }
}

#[test]
fn what_the_page_says_of_images_can_be_typed() {
    let page = include_str!("../../../../docs/lab.md");
    let section = page.split("## Images\n").nth(1).unwrap();
    let line = section.split("```").nth(1).unwrap().strip_prefix("sh\n").unwrap().trim();
    let folder = Path::new(PODWAY).parent().unwrap().display();
    let lab = Lab { name: new_name() };
    let line = format!("PATH={folder}:$PATH PODWAY_LAB={} {line}", lab.name);
    let typed = Command::new("sh").args(["-c", &line]).output().unwrap();
    assert!(typed.status.success(), "{}", String::from_utf8_lossy(&typed.stderr));
}

#[test]
fn pods_ask_the_api_with_their_token() {
    let scratch = Scratch::new();
    let account = "/var/run/secrets/kubernetes.io/serviceaccount";
    let ask = format!(
        "curl -sS -m 5 --cacert {account}/ca.crt -H \"Authorization: Bearer $(cat {account}/token)\" \
         https://${{KUBERNETES_PORT#tcp://}}"
    );
    let who = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let line = format!(
        "{ask}/version; {ask}/apis/authentication.k8s.io/v1/selfsubjectreviews \
         -H 'Content-Type: application/json' -d '{who}'; cat /etc/hosts; exec sleep 1000"
    );
    let pods = Folder::new(&scratch)
        .manifest(&[("asks", json!({"image": "x", "command": ["sh", "-c", line]}))]);
    for family in ["ipv4", "ipv6", "dual"] {
        let lab = Lab::up(&[&pods], &["--nodes", "1", "--ip-family", family]);
        wait_until("the pod has asked", || log(&lab, "asks").contains("\tasks"));
        let said = log(&lab, "asks");
        assert!(said.contains("\"gitVersion\""), "{family}: {said}");
        assert!(said.contains("system:serviceaccount:default:default"), "{family}: {said}");
    }
}
