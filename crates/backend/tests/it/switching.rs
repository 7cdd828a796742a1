//! From kube-proxy to Podway, between Podway's back ends, and back, while clients go on: no connection fails.

use crate::cluster::{NODE, nodes, object, pod_at, settings};
use crate::proxy::Kind;
use crate::space::{Space, as_root};
use crate::testbed::{Testbed, compiled};
use backend::iptables::frame::Frame;
use backend::iptables::{Tool, Variant, lower, names};
use backend::services::{Mode, clean, prepare};
use backend::{Services, iptables, ipvs, kube_proxy, nft};
use model::{Family, World};
use netstate::iptables::{Chain, Delta, RuleSet, Scope, TableName};
use program::Program;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(5);
const SERVICE: &str = "10.96.0.1:80";
/// Where nobody of the testbed listens.
const PORT: u16 = 9000;
const PODS: [u8; 2] = [2, 3];
/// Before there was a stand-in, some connection was refused in two of three runs with so many.
const REBUILDS: usize = 400;

/// One Service with an endpoint in each of two pods on the node.
fn program() -> Program {
    let service = object(&json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"type": "NodePort", "clusterIP": "10.96.0.1",
                 "ports": [{"protocol": "TCP", "port": 80, "nodePort": 30_080}]},
    }));
    let endpoints =
        PODS.map(|host| json!({"addresses": [format!("10.244.1.{host}")], "nodeName": NODE}));
    let slice = object(&json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "web", "namespace": "default",
                     "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"protocol": "TCP", "port": PORT}], "endpoints": endpoints,
    }));
    let pods = PODS.map(|host| object(&pod_at(&format!("here-{host}"), 1, host)));
    let objects = nodes().into_iter().chain(pods).chain([service, slice]);
    compiled(&World::from_objects(objects), &settings())
}

/// kube-proxy, as it leaves a node in each of its modes.
#[derive(Debug, Clone, Copy)]
enum Proxy {
    Iptables(Variant),
    Nftables,
}

impl Proxy {
    /// As it does when it starts: chains of its names become its own, other programs' stay.
    fn start(self, program: &Program) {
        match self {
            Proxy::Iptables(variant) => start_iptables(variant, program),
            Proxy::Nftables => start_nftables(),
        }
    }

    fn is_there(self, node: &Space) -> bool {
        match self {
            Proxy::Iptables(variant) => {
                let rules = node.inside(|| tool(variant).save().unwrap());
                rules.chain(TableName::Nat, names::KUBE_PROXY_CANARY).is_some()
            }
            Proxy::Nftables => node.run("nft list tables").contains("table ip kube-proxy"),
        }
    }
}

fn tool(variant: Variant) -> Tool {
    Tool { variant, family: Family::V4 }
}

fn start_iptables(variant: Variant, program: &Program) {
    let mut rules = lower::rules(program, &Frame::of(program, Family::V4, false));
    for table in rules.tables.values_mut() {
        table.chains.retain(|name, _| !names::is_podways(name));
        for chain in table.chains.values_mut() {
            chain.rules.retain(|rule| !rule.leads_to().is_some_and(names::is_podways));
        }
        table.chains.insert(names::KUBE_PROXY_CANARY.to_owned(), Chain::default());
    }
    let observed = tool(variant).save().unwrap();
    let scope = Scope { owns: &names::is_kube_proxys, unordered: &|_, _| None };
    tool(variant).restore(&Delta::between(&observed, &rules, &scope)).unwrap();
}

fn start_nftables() {
    let rules = "add table ip kube-proxy
        add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority dstnat; }
        add chain ip kube-proxy nat-postrouting { type nat hook postrouting priority srcnat; }
        add chain ip kube-proxy service-ULMVA6XW-default/web/tcp/
        add map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
        add element ip kube-proxy service-ips { 10.96.0.1 . tcp . 80 : goto service-ULMVA6XW-default/web/tcp/ }
        add rule ip kube-proxy nat-prerouting ip daddr . meta l4proto . th dport vmap @service-ips
        add rule ip kube-proxy service-ULMVA6XW-default/web/tcp/ meta l4proto tcp meta mark set mark or 0x4000
        add rule ip kube-proxy service-ULMVA6XW-default/web/tcp/ meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.244.1.2 . 9000, 1 : 10.244.1.3 . 9000 }
        add rule ip kube-proxy nat-postrouting mark and 0x4000 != 0 masquerade fully-random\n";
    let file = std::env::temp_dir().join(format!("podway-switching-{}.nft", std::process::id()));
    std::fs::write(&file, rules.replace("        ", "")).unwrap();
    nft(&["-f", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
}

fn nft(arguments: &[&str]) {
    let output = std::process::Command::new("nft").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Counted while clients go on.
#[derive(Debug, Default)]
struct Traffic {
    done: AtomicBool,
    /// No client is left.
    closing: AtomicBool,
    connections: AtomicUsize,
    failed: AtomicUsize,
}

impl Traffic {
    /// New connections one after the other, and one that lasts.
    fn go_on(&self) {
        let to: SocketAddr = SERVICE.parse().unwrap();
        let mut lasting = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
        while !self.done.load(Ordering::Relaxed) {
            let began = Instant::now();
            let new = TcpStream::connect_timeout(&to, PATIENCE);
            let answered = new.and_then(|mut new| ask(&mut new)).and_then(|()| ask(&mut lasting));
            self.connections.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = answered {
                println!("after {:?}: {error}", began.elapsed());
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Returns when so many more connections have been made, or some failed.
    fn await_more(&self, more: usize) {
        let wanted = self.connections.load(Ordering::Relaxed) + more;
        while self.connections.load(Ordering::Relaxed) < wanted {
            std::thread::yield_now();
        }
    }

    fn serve(&self, listener: &TcpListener) {
        std::thread::scope(|scope| {
            while let Ok((mut stream, _)) = listener.accept() {
                if self.closing.load(Ordering::Relaxed) {
                    return;
                }
                scope.spawn(move || {
                    let mut octet = [0];
                    while stream.read_exact(&mut octet).is_ok() {
                        stream.write_all(&octet).unwrap();
                    }
                });
            }
        });
    }
}

fn ask(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"?")?;
    stream.read_exact(&mut [0])
}

/// What is done in the node, by its name.
type Step<'a> = (String, Box<dyn FnMut() + Send + 'a>);

/// Makes the steps one after the other in the node, each with connections before and after it.
fn assert_nothing_fails(testbed: &Testbed, steps: &mut [Step<'_>]) {
    let traffic = Traffic::default();
    let listeners = PODS.map(|pod| {
        testbed.in_pod(pod, || TcpListener::bind((format!("10.244.1.{pod}"), PORT)).unwrap())
    });
    std::thread::scope(|scope| {
        for listener in &listeners {
            scope.spawn(|| traffic.serve(listener));
        }
        let client = scope.spawn(|| testbed.in_client(|| traffic.go_on()));
        for (name, step) in steps {
            traffic.await_more(20);
            testbed.node().inside(step);
            traffic.await_more(20);
            let failed = traffic.failed.load(Ordering::Relaxed);
            println!(
                "{name}: {} connections, {failed} failed",
                traffic.connections.load(Ordering::Relaxed)
            );
        }
        traffic.done.store(true, Ordering::Relaxed);
        client.join().unwrap();
        traffic.closing.store(true, Ordering::Relaxed);
        for pod in PODS {
            testbed.node().inside(|| drop(TcpStream::connect((format!("10.244.1.{pod}"), PORT))));
        }
    });
    assert_eq!(traffic.failed.load(Ordering::Relaxed), 0);
}

#[test]
fn from_kube_proxy_to_podway_and_back_no_connection_fails() {
    as_root("switching::from_kube_proxy_to_podway_and_back_no_connection_fails", || {
        let program = program();
        let mut testbed = Testbed::with(Kind::Nft);
        testbed.start(&program);
        let proxies =
            [Proxy::Iptables(Variant::Nft), Proxy::Iptables(Variant::Legacy), Proxy::Nftables];
        for proxy in proxies {
            testbed.node().inside(|| {
                proxy.start(&program);
                clean(Mode::Nft, Mode::Iptables).unwrap();
            });
            let foreign = "iptables-nft -t nat -A PREROUTING -m comment --comment mine -j RETURN";
            testbed.node().run(foreign);
            for mode in [Mode::Nft, Mode::Iptables] {
                let mut take_over: Vec<Step<'_>> = vec![(
                    format!("{proxy:?} to {mode}"),
                    Box::new(|| {
                        let settings = backend::services::Settings::default();
                        Services::open(mode, settings).unwrap().reconcile(&program).unwrap();
                        kube_proxy::remove(Mode::Nft).unwrap();
                    }),
                )];
                assert_nothing_fails(&testbed, &mut take_over);
                assert!(!proxy.is_there(testbed.node()), "{proxy:?}");
                let mut back: Vec<Step<'_>> = vec![(
                    format!("{mode} to {proxy:?}"),
                    Box::new(|| {
                        proxy.start(&program);
                        clean(mode, mode).unwrap();
                    }),
                )];
                assert_nothing_fails(&testbed, &mut back);
                assert!(proxy.is_there(testbed.node()), "{proxy:?}");
                assert_no_podway(testbed.node());
            }
            let left = testbed.node().run("iptables-nft-save -t nat");
            assert!(left.contains("--comment mine"), "{left}");
            testbed.node().inside(|| kube_proxy::remove(Mode::Nft).unwrap());
            assert_bare(testbed.node());
            testbed.start(&program);
        }
    });
}

#[test]
fn between_back_ends_no_connection_fails() {
    as_root("switching::between_back_ends_no_connection_fails", || {
        let program = program();
        let mut testbed = Testbed::with(Kind::Nft);
        testbed.start(&program);
        let serving = Mutex::new(None);
        let switch = |from: Mode, to: Mode| -> Step<'_> {
            let (program, serving) = (&program, &serving);
            (
                format!("{from} to {to}"),
                Box::new(move || {
                    let settings = backend::services::Settings::default();
                    let mut services = Services::open(to, settings).unwrap();
                    prepare(to).unwrap();
                    services.reconcile(program).unwrap();
                    clean(from, to).unwrap();
                    *serving.lock().unwrap() = Some(services);
                }),
            )
        };
        let (nft, iptables, userspace) = (Mode::Nft, Mode::Iptables, Mode::Userspace);
        let mut steps = [
            switch(nft, iptables),
            switch(iptables, nft),
            switch(nft, iptables),
            switch(iptables, nft),
            switch(nft, userspace),
            switch(userspace, nft),
            switch(nft, userspace),
            switch(userspace, iptables),
            switch(iptables, userspace),
            switch(userspace, nft),
        ];
        assert_nothing_fails(&testbed, &mut steps);
        testbed.node().inside(|| clean(nft, nft).unwrap());
        assert_no_podway(testbed.node());
        assert_bare(testbed.node());
        let deadline = Instant::now() + PATIENCE;
        while !testbed.node().run("ip route show table local proto 77").is_empty() {
            assert!(Instant::now() < deadline, "addresses stay");
        }
    });
}

/// What another version of Podway left: it serves, and has a set of a kind that this one does not know.
#[test]
fn a_table_of_another_shape_gives_way_and_no_connection_fails() {
    as_root("switching::a_table_of_another_shape_gives_way_and_no_connection_fails", || {
        let program = program();
        let mut testbed = Testbed::with(Kind::Nft);
        testbed.start(&program);
        let mut rebuild: [Step<'_>; 1] = [(
            "another shape, time and again".to_owned(),
            Box::new(|| {
                let mut rules = nft::Backend::open().unwrap();
                for _time in 0..REBUILDS {
                    nft(&["add set ip podway strange { type ipv4_addr ; flags timeout ; }"]);
                    assert_ne!(rules.reconcile(&program).unwrap(), nft::Applied::default());
                }
            }),
        )];
        assert_nothing_fails(&testbed, &mut rebuild);
        testbed.assert_settled(&program);
    });
}

/// As where kube-proxy's mode ipvs serves: virtual servers and their addresses are there, the service table is not.
#[test]
#[ignore = "needs a kernel with IPVS: scripts/vm-tests"]
fn while_the_table_of_ipvs_is_filled_no_connection_fails() {
    as_root("switching::while_the_table_of_ipvs_is_filled_no_connection_fails", || {
        let program = program();
        let mut testbed = Testbed::with(Kind::Ipvs);
        testbed.start(&program);
        // Without rules that need it the kernel would stop tracking connections.
        let theirs = "add table ip theirs ; \
            add chain ip theirs nat { type nat hook postrouting priority srcnat ; } ; \
            add rule ip theirs nat ip saddr 192.0.2.1 masquerade";
        testbed.node().inside(|| nft(&[theirs]));
        let mut fill: [Step<'_>; 1] = [(
            "the table goes and comes back, time and again".to_owned(),
            Box::new(|| {
                for _time in 0..50 {
                    nft::clean(Family::V4).unwrap();
                    let mut services = ipvs::Backend::open(ipvs::Settings::default()).unwrap();
                    services.reconcile(&program, Instant::now()).unwrap();
                }
            }),
        )];
        assert_nothing_fails(&testbed, &mut fill);
        testbed.assert_settled(&program);
    });
}

/// kube-proxy's ipvs mode leaves a device with every virtual address, chains, and the sets that they look into.
#[test]
fn what_kube_proxy_leaves_of_ipvs_goes() {
    as_root("switching::what_kube_proxy_leaves_of_ipvs_goes", || {
        let node = Space::new();
        node.run("ip link add kube-ipvs0 type bridge");
        node.run("ip address add 10.96.0.1/32 dev kube-ipvs0");
        for set in [
            "KUBE-CLUSTER-IP hash:ip,port",
            "KUBE-6-LOAD-BALANCER-SOURCE-CID hash:ip,port,net family inet6",
            "KUBE-NODE-PORT-TCP bitmap:port range 0-65535",
            "MINE hash:ip",
        ] {
            node.run(&format!("ipset create {set}"));
        }
        node.run("ipset add KUBE-NODE-PORT-TCP 30080");
        let node_ports = node.inside(|| kube_proxy::node_ports().unwrap());
        assert_eq!(node_ports, BTreeSet::from([(6, 30080)]));
        for line in [
            "-N KUBE-LOAD-BALANCER",
            "-N KUBE-SERVICES",
            "-A PREROUTING -j KUBE-SERVICES",
            "-A KUBE-SERVICES -j KUBE-LOAD-BALANCER",
            "-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT",
            "-N KUBE-KUBELET-CANARY",
            "-N MINE",
            "-A PREROUTING -j MINE",
        ] {
            node.run(&format!("iptables-nft -t nat {line}"));
        }
        node.inside(|| kube_proxy::remove(Mode::Nft).unwrap());
        assert!(!node.run("ip -o link").contains("kube-ipvs0"));
        assert_eq!(node.run("ipset list -name"), "MINE\n");
        let rules = node.inside(|| tool(Variant::Nft).save().unwrap());
        let chains: Vec<_> = rules.tables[&TableName::Nat]
            .chains
            .keys()
            .filter(|name| !name.ends_with("PUT") && !name.ends_with("ROUTING"))
            .collect();
        assert_eq!(chains, ["KUBE-KUBELET-CANARY", "MINE"]);
        let leads: Vec<_> = rules
            .chain(TableName::Nat, "PREROUTING")
            .unwrap()
            .rules
            .iter()
            .filter_map(|rule| rule.leads_to())
            .collect();
        assert_eq!(leads, ["MINE"]);
    });
}

fn saved(node: &Space) -> Vec<RuleSet> {
    node.inside(|| Variant::ALL.map(|variant| tool(variant).save().unwrap()).into())
}

fn chains(rules: &[RuleSet]) -> impl Iterator<Item = &String> {
    rules.iter().flat_map(|rules| rules.tables.values()).flat_map(|table| table.chains.keys())
}

fn assert_no_podway(node: &Space) {
    assert!(!node.run("nft list tables").contains("podway"));
    let rules = saved(node);
    assert_eq!(chains(&rules).find(|name| names::is_podways(name)), None);
}

fn assert_bare(node: &Space) {
    let rules = saved(node);
    assert_eq!(chains(&rules).find(|name| names::is_kube_proxys(name)), None);
    assert!(!node.run("nft list tables").contains("kube-proxy"));
}

/// A rule that cannot be is named, with its line; what was there stays.
#[test]
fn a_refused_line_is_told() {
    as_root("switching::a_refused_line_is_told", || {
        let node = Space::new();
        let text = "*nat\n:KUBE-A - [0:0]\n-A KUBE-A -m nonsense\nCOMMIT\n";
        let wanted = RuleSet::parse(text).unwrap();
        let scope = Scope { owns: &|name| name.starts_with("KUBE-"), unordered: &|_, _| None };
        let delta = Delta::between(&RuleSet::default(), &wanted, &scope);
        for variant in Variant::ALL {
            let error = node.inside(|| tool(variant).restore(&delta).unwrap_err());
            let iptables::Error::Refused { text, .. } = &error else { panic!("{error}") };
            assert_eq!(text, "-A KUBE-A -m nonsense");
            assert_eq!(
                node.inside(|| tool(variant).save().unwrap()).chain(TableName::Nat, "KUBE-A"),
                None
            );
        }
    });
}
