//! Calls that change a node.

use crate::space::{Pod, call, config, on_a_node, reserved, wait_until_gone, with};
use kernel::namespace::{Namespace, in_netns, unpin};
use kernel::netlink::Socket;
use kernel::route::{self, Change};
use netstate::Address;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

fn address(result: &Value) -> IpAddr {
    let text = result["ips"][0]["address"].as_str().unwrap();
    text.strip_suffix("/32").unwrap().parse().unwrap()
}

fn has_link(name: &str) -> bool {
    route::link(&mut Socket::route().unwrap(), name).unwrap().is_some()
}

fn change(changes: &[Change]) {
    route::apply(&mut Socket::route().unwrap(), changes).unwrap();
}

/// Asks for one connection to `to` from the calling thread's namespace; who the other end says that asked.
fn ask(to: SocketAddr) -> IpAddr {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.parse().unwrap()
}

/// Tells clients of port 80 in `netns` their own address, as long as the test runs.
fn tell(netns: &Namespace, any: &str) {
    let listener = in_netns(netns, || TcpListener::bind((any, 80)).unwrap()).unwrap();
    std::thread::spawn(move || {
        loop {
            let (mut stream, client) = listener.accept().unwrap();
            write!(stream, "{}", client.ip()).unwrap();
        }
    });
}

#[test]
fn pods_reach_each_other_and_their_node() {
    on_a_node("pods::pods_reach_each_other_and_their_node", || {
        let config = config("1.1.0");
        let (one, two) = (Pod::new("0a1b2c3d4e5f"), Pod::new("ffff00001111"));
        let (first, second) = (one.add(&config), two.add(&config));
        assert_eq!(address(&first).to_string(), "10.244.0.2");
        assert_eq!(address(&second).to_string(), "10.244.0.3");

        tell(&two.netns, "0.0.0.0");
        let to = SocketAddr::new(address(&second), 80);
        assert_eq!(in_netns(&one.netns, || ask(to)).unwrap(), address(&first));
        assert_eq!(in_netns(&two.netns, || ask(to)).unwrap(), address(&second));
        assert_eq!(ask(to).to_string(), "10.244.0.1", "the node speaks as the gateway");
        let routes = route::routes(&mut Socket::route().unwrap()).unwrap();
        let route = routes.iter().find(|it| it.destination.addr() == address(&first)).unwrap();
        assert_eq!((route.device.as_str(), route.protocol), ("pdw0a1b2c3d", 77));
    });
}

#[test]
fn a_deletion_takes_everything_away_and_may_come_twice() {
    on_a_node("pods::a_deletion_takes_everything_away_and_may_come_twice", || {
        let config = config("1.1.0");
        let pod = Pod::new("0a1b2c3d4e5f");
        let first = pod.add(&config);
        for _ in 0..2 {
            assert_eq!(pod.call("DEL", &config), (0, Value::Null));
            assert!(!has_link("pdw0a1b2c3d"));
            assert!(reserved().is_empty());
        }
        assert_ne!(
            address(&pod.add(&config)),
            address(&first),
            "an address rests before it comes again"
        );
        unpin(&pod.path).unwrap();
        assert_eq!(pod.call("DEL", &config), (0, Value::Null), "also when the namespace is gone");
        assert!(reserved().is_empty());
    });
}

#[test]
fn a_failed_addition_changes_nothing() {
    on_a_node("pods::a_failed_addition_changes_nothing", || {
        let config = config("1.1.0");
        let pod = Pod::new("0a1b2c3d4e5f");
        let result = pod.add(&config);
        let (exit, error) = pod.call("ADD", &config);
        assert_eq!((exit, &error["code"]), (1, &json!(101)), "{error}");
        // Another container whose id begins alike would get the same name on the node.
        let alike = Pod::new("0a1b2c3dffff");
        let (exit, error) = alike.call("ADD", &config);
        assert_eq!((exit, &error["code"]), (1, &json!(101)), "{error}");
        assert_eq!(alike.call("DEL", &config), (0, Value::Null));
        assert_eq!(reserved(), ["10.244.0.2"]);
        let config = with(&config, json!({"prevResult": result}));
        assert_eq!(pod.call("CHECK", &config), (0, Value::Null));
    });
}

/// What is done to a pod's network, and what CHECK must say of it.
type Damage = (&'static str, fn(&Pod));

#[test]
fn a_check_finds_what_is_missing() {
    let damages: [Damage; 4] = [
        ("route to 10.244.0.2/32", |_| {
            let routes = route::routes(&mut Socket::route().unwrap()).unwrap();
            change(&routes.into_iter().map(Change::DeleteRoute).collect::<Vec<_>>());
        }),
        ("address 10.244.0.1/32", |_| {
            let addresses = route::addresses(&mut Socket::route().unwrap()).unwrap();
            change(&addresses.into_iter().map(Change::DeleteAddress).collect::<Vec<_>>());
        }),
        ("eth0 is", |pod| {
            let device = "eth0".to_owned();
            in_netns(&pod.netns, || change(&[Change::SetUp { device, up: false }])).unwrap();
        }),
        ("not reserved", |_| std::fs::remove_file("/run/ipam/10.244.0.2").unwrap()),
    ];
    on_a_node("pods::a_check_finds_what_is_missing", || {
        for (missing, damage) in damages {
            let pod = Pod::new("0a1b2c3d4e5f");
            std::fs::remove_file("/run/ipam/last-10.244.0.0-24").ok();
            let made = pod.add(&config("1.1.0"));
            let config = with(&config("1.1.0"), json!({"prevResult": made}));
            assert_eq!(pod.call("CHECK", &config), (0, Value::Null));
            damage(&pod);
            let (exit, error) = pod.call("CHECK", &config);
            assert_eq!((exit, &error["code"]), (1, &json!(103)), "{error}");
            assert!(error["msg"].as_str().unwrap().contains(missing), "{error}");
            assert_eq!(pod.call("DEL", &config), (0, Value::Null));
            unpin(&pod.path).unwrap();
        }
    });
}

#[test]
fn a_full_pool_gives_the_addresses_of_the_dead_again() {
    on_a_node("pods::a_full_pool_gives_the_addresses_of_the_dead_again", || {
        let config = with(&config("1.1.0"), json!({"subnet": "10.244.0.0/29"}));
        let status = || call(&[("CNI_COMMAND", "STATUS")], config.to_string().as_bytes());
        assert_eq!(status(), (0, Value::Null));
        let mut pods: Vec<_> = (0..5).map(|number| Pod::new(&format!("{number}0000000"))).collect();
        for pod in &pods {
            pod.add(&config);
        }
        let late = Pod::new("60000000");
        let (_, error) = late.call("ADD", &config);
        assert_eq!(error["code"], 100, "{error}");
        assert!(error["msg"].as_str().unwrap().contains("10.244.0.0/29"), "{error}");
        assert_eq!(status().1["code"], 50);

        let dead = pods.remove(2);
        unpin(&dead.path).unwrap();
        drop(dead);
        wait_until_gone("pdw20000000");
        assert_eq!(status(), (0, Value::Null));
        assert_eq!(address(&late.add(&config)).to_string(), "10.244.0.4");
    });
}

#[test]
fn garbage_is_what_the_runtime_does_not_list() {
    on_a_node("pods::garbage_is_what_the_runtime_does_not_list", || {
        let plain = config("1.1.0");
        let (kept, forgotten) = (Pod::new("0a1b2c3d4e5f"), Pod::new("ffff00001111"));
        kept.add(&plain);
        forgotten.add(&plain);
        std::fs::write("/run/ipam/10.244.0.9", "").unwrap();
        let valid = json!([{"containerID": kept.id, "ifname": "eth0"}]);
        let config = with(&plain, json!({"cni.dev/valid-attachments": valid}));
        let collected = call(&[("CNI_COMMAND", "GC")], config.to_string().as_bytes());
        assert_eq!(collected, (0, Value::Null));
        assert_eq!(reserved(), ["10.244.0.2"]);
        assert!(has_link("pdw0a1b2c3d") && !has_link("pdwffff0000"));
    });
}

#[test]
fn results_are_written_as_each_version_has_them() {
    on_a_node("pods::results_are_written_as_each_version_has_them", || {
        for (version, has_family, has_mtu) in [
            ("0.3.1", true, false),
            ("0.4.0", true, false),
            ("1.0.0", false, false),
            ("1.1.0", false, true),
        ] {
            let pod = Pod::new("0a1b2c3d4e5f");
            let before = json!({
                "interfaces": [{"name": "before", "mac": "0a:00:00:00:00:01"}],
                "ips": [],
                "dns": {"nameservers": ["10.96.0.10"]},
            });
            let result = pod.add(&with(&config(version), json!({"prevResult": before})));
            assert_eq!(result["cniVersion"], version);
            let names =
                [0, 1, 2].map(|index| result["interfaces"][index]["name"].as_str().unwrap());
            assert_eq!(names, ["before", "pdw0a1b2c3d", "eth0"]);
            assert_eq!(result["interfaces"][2]["sandbox"], pod.path.to_str().unwrap());
            assert_eq!(result["ips"][0]["interface"], 2);
            assert_eq!(result["ips"][0]["gateway"], "10.244.0.1");
            assert_eq!(result["ips"][0].get("version"), has_family.then(|| json!("4")).as_ref());
            assert_eq!(result["interfaces"][2].get("mtu"), has_mtu.then(|| json!(1450)).as_ref());
            assert_eq!(result["routes"][0], json!({"dst": "0.0.0.0/0", "gw": "10.244.0.1"}));
            assert_eq!(result["dns"]["nameservers"][0], "10.96.0.10");
            let config = with(&config(version), json!({"prevResult": result}));
            if version != "0.3.1" {
                assert_eq!(pod.call("CHECK", &config), (0, Value::Null));
            }
            pod.call("DEL", &config);
            unpin(&pod.path).unwrap();
        }
    });
}

#[test]
fn a_pod_has_an_address_of_each_family() {
    on_a_node("pods::a_pod_has_an_address_of_each_family", || {
        let config = with(&config("1.1.0"), json!({"subnets": ["fd00:244::/64"]}));
        let (one, two) = (Pod::new("0a1b2c3d4e5f"), Pod::new("ffff00001111"));
        let (first, second) = (one.add(&config), two.add(&config));
        let addresses = |result: &Value| -> Vec<String> {
            let ips = result["ips"].as_array().unwrap().iter();
            ips.map(|ip| ip["address"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(addresses(&first), ["10.244.0.2/32", "fd00:244::2/128"]);
        assert_eq!(addresses(&second), ["10.244.0.3/32", "fd00:244::3/128"]);
        assert_eq!(reserved().len(), 4);

        tell(&two.netns, "::");
        let to = |text: &str| SocketAddr::new(text.parse().unwrap(), 80);
        let answer = in_netns(&one.netns, || ask(to("fd00:244::3"))).unwrap();
        assert_eq!(answer.to_string(), "fd00:244::2");
        let answer = in_netns(&one.netns, || ask(to("10.244.0.3"))).unwrap();
        assert_eq!(answer.to_canonical().to_string(), "10.244.0.2");
        assert_eq!(ask(to("fd00:244::3")).to_string(), "fd00:244::1", "the node");
        let checked = with(&config, json!({"prevResult": first}));
        assert_eq!(one.call("CHECK", &checked), (0, Value::Null));
        let solicitor =
            Address { device: "pdw0a1b2c3d".to_owned(), net: "fe80::1/64".parse().unwrap() };
        change(&[Change::DeleteAddress(solicitor)]);
        let (exit, error) = one.call("CHECK", &checked);
        assert_eq!((exit, &error["code"]), (1, &json!(103)), "{error}");
        for pod in [&one, &two] {
            assert_eq!(pod.call("DEL", &config), (0, Value::Null));
        }
        assert!(reserved().is_empty());
    });
}
