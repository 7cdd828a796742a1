//! Rollouts under traffic: whoever asks is answered, whichever pods come and go.

use crate::labs::{Lab, Manifest, wait_until};
use serde_json::{Value, json};

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/web";

fn web(container: Value, strategy: Value) -> Manifest {
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": 4,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"rollingUpdate": strategy},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [container]},
            },
        },
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {
            "type": "NodePort", "selector": {"app": "web"},
            "ports": [{"port": 80, "nodePort": 30080}],
        },
    });
    Manifest::of(&[deployment, service])
}

fn patch(lab: &Lab, patch: &Value) {
    let line = format!(
        "curl -sS -f --unix-socket /run/podway/api.sock -X PATCH \
         -H 'Content-Type: application/merge-patch+json' http://api{DEPLOYMENT} -d '{patch}'"
    );
    let done = lab.shell("underlay", &line);
    assert_eq!(done.code, 0, "{done:?}");
}

/// Another template, and all pods made from it.
fn roll(lab: &Lab, round: usize) {
    let annotations = json!({"round": round.to_string()});
    patch(lab, &json!({"spec": {"template": {"metadata": {"annotations": annotations}}}}));
    wait_until("the rollout is over", || {
        let deployment = lab.api("GET", DEPLOYMENT);
        let status = &deployment["status"];
        let is = |field: &str, count: u64| status[field].as_u64().unwrap_or(0) == count;
        status["observedGeneration"] == deployment["metadata"]["generation"]
            && is("updatedReplicas", 4)
            && is("availableReplicas", 4)
            && is("replicas", 4)
    });
}

/// Rollouts of each test; many more: `PODWAY_ROUNDS=50`.
const ROUNDS: usize = 3;

fn answered_always(manifest: &Manifest, mode: &str) {
    answered_throughout(manifest, mode, |_| ());
}

fn answered_throughout(manifest: &Manifest, mode: &str, before: impl FnOnce(&Lab)) {
    let proxy = format!("--agent-arg=--proxy-mode={mode}");
    let lab = Lab::up(&[&manifest.0], &["--nodes", "2", &proxy]);
    let traffic: Vec<_> = ["10.1.1.110", "10.1.1.111"]
        .iter()
        .map(|node| lab.traffic(&format!("http://{node}:30080/")))
        .collect();
    before(&lab);
    let rounds = std::env::var("PODWAY_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    for round in 0..rounds.unwrap_or(ROUNDS) {
        roll(&lab, round);
    }
    for traffic in traffic {
        let codes = traffic.stop();
        let failed: Vec<_> = codes.iter().filter(|code| *code != "200").collect();
        let is_well = codes.len() > 20 && failed.is_empty();
        assert!(is_well, "{failed:#?} of {}", codes.len());
    }
}

fn built_in(lifecycle: Value) -> Manifest {
    let container = json!({
        "name": "c", "image": "x", "ports": [{"containerPort": 80}],
        "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 1},
        "lifecycle": lifecycle,
    });
    web(container, json!({"maxSurge": 1, "maxUnavailable": 1}))
}

fn goes_on_for(seconds: u32) -> Value {
    json!({"preStop": {"sleep": {"seconds": seconds}}})
}

#[test]
fn a_rolling_update_of_the_built_in_server_loses_no_request() {
    for mode in ["nft", "iptables", "userspace"] {
        answered_always(&built_in(Value::Null), mode);
    }
}

/// A lab's agents say why they do otherwise than they were told, and serve all the same.
#[test]
fn where_the_kernel_has_no_ipvs_another_mode_has_its_place() {
    answered_throughout(&built_in(Value::Null), "ipvs", |lab| {
        if let Err(lacks) = kernel::ipvs::Ipvs::open() {
            let logs = lab.run("lab logs node/node-1").stdout;
            let said = format!(
                "no such proxy mode here asked=ipvs instead=nft error=reaching IPVS: {lacks}"
            );
            assert!(logs.contains(&said), "{said:?} in {logs}");
            assert!(lab.shell("node/node-1", "nft list tables").stdout.contains("ip podway"));
        }
    });
}

/// On an emulated processor, where agents need their time to learn of what goes.
#[test]
#[ignore = "needs a kernel with IPVS: scripts/vm-tests"]
fn a_rolling_update_over_ipvs_loses_no_request() {
    answered_throughout(&built_in(goes_on_for(5)), "ipvs", |lab| {
        let table = lab.shell("node/node-1", "ipvsadm --list --numeric").stdout;
        assert!(table.contains("TCP  10.1.1.110:30080 rr"), "{table}");
    });
}

/// A server that ends at once when told to, as most do: its `preStop` gives others the time to learn of it.
#[test]
fn a_rolling_update_of_an_abrupt_server_loses_no_request_where_it_says_so() {
    let server = "import http.server as h, socketserver as s
class Server(h.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header('Content-Length', '0'); self.end_headers()
    def log_message(self, *words): pass
s.ThreadingTCPServer.request_queue_size = 99
s.ThreadingTCPServer(('', 80), Server).serve_forever()";
    let container = json!({
        "name": "c", "image": "x", "ports": [{"containerPort": 80}],
        "command": ["python3", "-c", server],
        "readinessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 1},
        "lifecycle": goes_on_for(5),
    });
    answered_always(&web(container, json!({"maxSurge": "50%", "maxUnavailable": 0})), "nft");
}
