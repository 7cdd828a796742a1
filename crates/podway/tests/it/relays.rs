//! Proxy mode userspace: what carries the connections outlives agents and is replaced without harm.

use crate::labs::{Lab, Manifest, Traffic, wait_until};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Agents killed of each node; many more: `PODWAY_TEST_KILLS=500`.
const KILLS: usize = 8;
const NODES: [(&str, &str); 2] = [("node-1", "10.1.1.110"), ("node-2", "10.1.1.111")];

fn manifest() -> Manifest {
    let deployment = |name: &str, replicas: u32| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{
                        "name": "c", "image": "x", "ports": [{"containerPort": 80}],
                        "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 1},
                    }]},
                },
            },
        })
    };
    let service = |name: &str, port: u16| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {
                "type": "NodePort", "selector": {"app": name},
                "ports": [{"port": 80, "nodePort": port}],
            },
        })
    };
    Manifest::of(&[
        deployment("web", 4),
        service("web", 30_080),
        deployment("still", 1),
        service("still", 30_081),
    ])
}

fn up() -> Lab {
    let lab = Lab::up(&[&manifest().0], &["--nodes", "2", "--agent-arg=--proxy-mode=userspace"]);
    for (_, address) in NODES {
        wait_until("both Services answer", || {
            [30_080, 30_081]
                .iter()
                .all(|port| lab.try_get("client", &format!("http://{address}:{port}/")).code == 0)
        });
    }
    lab
}

/// Endpoints come and go.
fn scale(lab: &Lab, replicas: usize) {
    let patch = json!({"spec": {"replicas": replicas}});
    let line = format!(
        "curl -sS -f --unix-socket /run/podway/api.sock -X PATCH \
         -H 'Content-Type: application/merge-patch+json' \
         http://api/apis/apps/v1/namespaces/default/deployments/web -d '{patch}'"
    );
    let done = lab.shell("underlay", &line);
    assert_eq!(done.code, 0, "{done:?}");
}

/// Clients that connect anew each time, and one for each node whose connection lasts.
struct Clients {
    fresh: Vec<Traffic>,
    lasting: Vec<Traffic>,
}

impl Clients {
    fn start(lab: &Lab) -> Clients {
        let fresh = NODES.map(|(_, address)| lab.traffic(&format!("http://{address}:30080/")));
        let lasting = NODES.map(|(_, address)| lab.lasting(address, 30_081));
        Clients { fresh: fresh.into(), lasting: lasting.into() }
    }

    /// Every request was answered, and every connection that lasts is the one that it was.
    fn stop(self) {
        for client in self.fresh {
            let answers = client.stop();
            let failed: Vec<_> = answers.iter().filter(|it| *it != "200").collect();
            assert!(answers.len() > 20 && failed.is_empty(), "of {}: {failed:#?}", answers.len(),);
        }
        for client in self.lasting {
            let answers = client.stop();
            assert!(answers.len() > 20, "{} answers", answers.len());
            assert_eq!(answers.iter().find(|it| *it != "200"), None);
        }
    }
}

/// Their process numbers.
fn relays(lab: &Lab, node: &str) -> BTreeSet<String> {
    let line = "for process in /proc/[0-9]*; do
            tr '\\0' ' ' <$process/cmdline 2>/dev/null | grep -q '^podway relay ' && echo $process
        done; true";
    let done = lab.shell(&format!("node/{node}"), line);
    assert_eq!(done.code, 0, "{done:?}");
    done.stdout.lines().map(str::to_owned).collect()
}

/// Whether the relays of all nodes have been told of so many endpoints.
fn know(lab: &Lab, endpoints: usize) -> bool {
    NODES.iter().all(|(node, _)| {
        let shown = lab.run(&format!("lab exec node/{node} -- podway show services -o json"));
        let rows: Value = serde_json::from_str(&shown.stdout).unwrap_or_default();
        let mut rows = rows.as_array().into_iter().flatten();
        let web = rows.find(|row| row["port"] == 30_080);
        web.is_some_and(|row| row["endpoints"].as_array().is_some_and(|it| it.len() == endpoints))
    })
}

/// Of three agents one lives for long enough to tell the relay what there is: a pod that nobody tells of does not wait
/// for ever before it is gone.
#[test]
fn agents_killed_in_the_middle_of_their_work_cut_and_refuse_no_connection() {
    let lab = up();
    let clients = Clients::start(&lab);
    let kills = std::env::var("PODWAY_TEST_KILLS").ok().and_then(|kills| kills.parse().ok());
    let kills = kills.unwrap_or(KILLS);
    for round in 0..kills {
        let replicas = 2 + round % 3;
        scale(&lab, replicas);
        if round % 3 == 2 {
            wait_until("an agent tells of all endpoints", || know(&lab, replicas));
        }
        for (node, _) in NODES {
            wait_until("the agent runs again and is killed", || lab.kill_9(node, "agent") > 0);
        }
    }
    // What the last agents find they bring to what the cluster wants.
    scale(&lab, 3);
    wait_until("all endpoints are known", || know(&lab, 3));
    clients.stop();
    for (node, _) in NODES {
        assert_eq!(relays(&lab, node).len(), 1, "{node}");
    }
}

/// As an update does: a new process takes the sockets, the old one keeps its connections until they end.
#[test]
fn a_relay_is_replaced_without_a_refused_connection() {
    let lab = up();
    let clients = Clients::start(&lab);
    let mut staying = Vec::new();
    for more in ["--stay", "", ""] {
        for (node, _) in NODES {
            let before = relays(&lab, node);
            let line = format!("setsid podway relay {more} >/dev/null 2>&1 </dev/null &");
            let done = lab.shell(&format!("node/{node}"), &line);
            assert_eq!(done.code, 0, "{done:?}");
            wait_until("there is a new one", || !relays(&lab, node).is_subset(&before));
            wait_until("it serves", || {
                let shown = lab.run(&format!("lab exec node/{node} -- podway show services"));
                shown.stdout.contains("30080")
            });
            if more == "--stay" {
                let new = relays(&lab, node).difference(&before).cloned().collect::<Vec<_>>();
                staying.push((node, new[0].clone()));
            }
        }
    }
    clients.stop();
    for (node, relay) in staying {
        wait_until("all end but the last one, and the one that stays", || {
            relays(&lab, node).len() == 2
        });
        assert!(relays(&lab, node).contains(&relay), "{relay}");
        let number = relay.trim_start_matches("/proc/");
        assert_eq!(lab.shell(&format!("node/{node}"), &format!("kill {number}")).code, 0);
    }
    for (node, _) in NODES {
        wait_until("only the last one is left", || relays(&lab, node).len() == 1);
        assert_eq!(lab.kill_9(node, "relay"), 1);
    }
    for (node, address) in NODES {
        wait_until("the agent has started another one", || relays(&lab, node).len() == 1);
        wait_until("which serves", || {
            lab.try_get("client", &format!("http://{address}:30080/")).code == 0
        });
    }
}
