//! Processes and nodes that die under traffic.

use crate::labs::{Lab, wait_until};
use std::time::{Duration, Instant};

const URL: &str = "http://10.1.1.200:30000/";
/// Of killing under traffic.
const LONG_ENOUGH: Duration = Duration::from_secs(3);
const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];

fn failed(answers: &[String]) -> usize {
    answers.iter().filter(|code| *code != "200").count()
}

#[test]
fn a_killed_agent_or_kubelet_breaks_no_connection() {
    let lab = Lab::kubeadm_ha();
    let traffic = lab.traffic(URL);
    let begin = Instant::now();
    while begin.elapsed() < LONG_ENOUGH {
        for (node, program) in NODES.iter().flat_map(|node| [(node, "agent"), (node, "kubelet")]) {
            wait_until("the program runs again and is killed", || lab.kill_9(node, program) > 0);
        }
    }
    let answers = traffic.stop();
    assert_eq!(failed(&answers), 0, "of {}", answers.len());
    assert!(answers.len() > 20, "{} requests are no traffic", answers.len());
}

#[test]
fn a_killed_balancer_is_back_at_once() {
    let lab = Lab::kubeadm_ha();
    let (owner, others) = (NODES[0], &NODES[1..]);
    for node in others {
        let traffic = lab.traffic(URL);
        assert_eq!(lab.kill_9(node, "edge"), 1);
        lab.get("client", URL);
        let answers = traffic.stop();
        assert_eq!(failed(&answers), 0, "a balancer without the address carries nothing",);
    }
    assert_eq!(lab.kill_9(owner, "edge"), 1);
    wait_until("the virtual IP answers again", || lab.try_get("client", URL).code == 0);
}

#[test]
fn requests_go_on_when_the_owner_loses_its_power() {
    let lab = Lab::kubeadm_ha();
    let owner = NODES[0];
    let traffic = lab.traffic(URL);
    assert_eq!(lab.run(&format!("lab kill node/{owner}")).code, 0);
    assert_ne!(lab.owner("edge"), owner, "a node without power holds nothing");
    wait_until("the virtual IP answers again", || lab.try_get("client", URL).code == 0);
    wait_until("another node says that it holds it", || {
        let now = lab.owner("edge");
        now != owner && NODES.contains(&now.as_str())
    });
    let answers = traffic.stop();
    assert!(failed(&answers) <= 2, "{} of {} failed", failed(&answers), answers.len());
    assert_eq!(lab.run(&format!("lab start node/{owner}")).code, 0);
    wait_until("the node is back", || {
        let status = lab.status();
        status["nodes"].as_array().unwrap().iter().all(|node| node["ready"] == true)
    });
    // It takes the address back, and a connection on its way at that moment goes with the balancer it ran through.
    wait_until("every request is answered", || {
        (0..10).all(|_| lab.try_get("client", URL).code == 0)
    });
}
