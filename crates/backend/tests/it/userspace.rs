//! The back end without rules: the trace says what becomes of a connection, and nothing is left behind.

use crate::agreement::{FIXED, FRESH, PATIENCE, PORTS, SILENCE, drawn, seeds, senders};
use crate::cluster::{NODE, arrival, nodes, object, settings};
use crate::oracle::{Fate, fate};
use crate::probe::Sight;
use crate::proxy::{Kind, Proxy};
use crate::space::{Space, address, as_root, ip, route};
use crate::testbed::{Testbed, compiled};
use backend::userspace::{Applied, Backend, Obstacle, Settings};
use model::{ObjectKey, Origin, Protocol, Touched, World};
use nix::sys::resource::{Resource, setrlimit};
use program::trace::StepKind;
use program::{Action, Claims, LocalPod, Outcome, Packet, Program};
use serde_json::json;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn relays_trace_and_specification_agree() {
    as_root("userspace::relays_trace_and_specification_agree", || {
        let mut tally = Tally {
            testbed: Testbed::with(Kind::Userspace),
            port: PORTS.start,
            seen: 0,
            balanced: 0,
            wrong: Vec::new(),
        };
        seeds(FIXED, FRESH).into_iter().for_each(|seed| tally.cluster(seed));
        let Tally { seen, balanced, wrong, .. } = tally;
        println!("agreement: {} of {seen} packets, {balanced} to an endpoint", seen - wrong.len());
        assert!(wrong.is_empty(), "{}", wrong.concat());
        assert!(balanced > 0, "no packet met a Service");
    });
}

struct Tally {
    testbed: Testbed,
    /// The last source port.
    port: u16,
    seen: usize,
    balanced: usize,
    wrong: Vec<String>,
}

impl Tally {
    fn cluster(&mut self, seed: u64) {
        let (settings, changes, shots) = drawn(seed);
        let mut shots = shots.into_iter().cycle();
        let mut world = World::from_objects(nodes().into_iter().chain(senders()));
        let (missed, heard) = changes.split_at(changes.len() / 3);
        missed.iter().cloned().for_each(|change| drop(world.apply(change)));
        let mut program = compiled(&world, &settings);
        self.testbed.start(&program);
        for change in heard.iter().cloned() {
            let touched: BTreeSet<Touched> = world.apply(change).into_iter().collect();
            let made = touched.iter().flat_map(|touched| {
                compile::recompile(&mut program, &world, NODE, &settings, touched).0
            });
            let made: Vec<_> = made.collect();
            self.testbed.change(&program, &made);
            for shot in shots.by_ref().take(3) {
                let packet = shot.at(&program);
                if let Some(text) = self.packet(&world, &settings, &program, packet) {
                    self.wrong.push(format!("\nPODWAY_SEED={seed}: {text}"));
                }
            }
        }
        self.testbed.assert_settled(&program);
    }

    /// What is wrong.
    fn packet(
        &mut self,
        world: &World,
        settings: &compile::Settings,
        program: &Program,
        mut packet: Packet,
    ) -> Option<String> {
        self.port = if self.port == PORTS.end { PORTS.start } else { self.port + 1 };
        packet.source.set_port(self.port);
        let expected = Expected::of(program, packet)?;
        if !self.testbed.crosses(&packet) {
            return None;
        }
        let patience = if expected.surely() { PATIENCE } else { SILENCE };
        let sight = self.testbed.watch(packet, true, patience);
        let specified = fate(world, settings, &packet, arrival(packet.source.ip()));
        self.seen += 1;
        self.balanced += usize::from(matches!(sight, Sight::Reached { .. }));
        let right = expected.allows(packet, sight) && fits(&specified, sight);
        (!right).then(|| {
            format!("{packet:?}: {sight:?}\n  trace {expected:?}\n  specification {specified:?}\n")
        })
    }
}

/// What the trace leads to.
#[derive(Debug)]
enum Expected {
    /// One of these endpoints; with `dead` some of the Service's endpoints cannot be reached.
    Endpoint {
        alive: BTreeSet<SocketAddr>,
        dead: bool,
    },
    Refused,
    Silence,
}

impl Expected {
    /// `None`: no Service's business, which rules may have an opinion on and relays have not.
    fn of(program: &Program, packet: Packet) -> Option<Self> {
        let (mut alive, mut dead) = (BTreeSet::new(), false);
        let (mut number, mut next) = (1, 0);
        while next < number {
            let trace = program::trace(program, packet, arrival(packet.source.ip()), |pool| {
                number = pool.len();
                next
            });
            match (&trace.steps.first()?.kind, trace.outcome) {
                (StepKind::UnallocatedServiceAddress { .. }, _) => return None,
                (_, Outcome::Rejected) => return Some(Expected::Refused),
                (StepKind::Drop { frontend, .. }, Outcome::Dropped) => {
                    // Nobody listens, so those whom the Service does not want are refused like everybody.
                    let binding = program.services.get(frontend)?;
                    let nobody = binding.action == Action::Reject;
                    return Some(if nobody { Expected::Refused } else { Expected::Silence });
                }
                (StepKind::Balance { .. }, Outcome::Unreachable) => dead = true,
                (StepKind::Balance { .. }, _) => drop(alive.insert(trace.packet.destination)),
                _ => return None,
            }
            next += 1;
        }
        Some(Expected::Endpoint { alive, dead })
    }

    /// Whether somebody answers for certain.
    fn surely(&self) -> bool {
        match self {
            Expected::Endpoint { alive, dead } => !alive.is_empty() && !dead,
            Expected::Refused => true,
            Expected::Silence => false,
        }
    }

    fn allows(&self, packet: Packet, sight: Sight) -> bool {
        match (self, sight) {
            (Expected::Refused, sight) => sight == Sight::Refused,
            (Expected::Silence, sight) => sight == Sight::Silence,
            (Expected::Endpoint { alive, .. }, Sight::Reached { by, source, answered }) => {
                alive.contains(&by) && answered && is_nodes(source)
            }
            (Expected::Endpoint { dead, .. }, Sight::Refused) => {
                *dead && packet.protocol == Protocol::Tcp
            }
            (Expected::Endpoint { dead, .. }, sight) => *dead && sight == Sight::Silence,
        }
    }
}

/// Endpoints see the node, whoever the client was.
fn is_nodes(source: IpAddr) -> bool {
    let v4 = ["10.1.1.111", "10.244.1.0", "10.244.1.1"];
    let v6 = ["fd00:1::111", "fd00:244:1::", "fd00:244:1::1"];
    [v4, v6].concat().into_iter().map(ip).any(|own| own == source)
}

fn fits(fate: &Fate, sight: Sight) -> bool {
    match (fate, sight) {
        (Fate::Refused, sight) => sight == Sight::Refused,
        (Fate::Dropped, sight) => !matches!(sight, Sight::Reached { .. }),
        (Fate::Balanced { endpoints, .. }, Sight::Reached { by, .. }) => endpoints.contains(&by),
        (Fate::Balanced { .. }, _) => true,
        (Fate::Untouched, _) => false,
    }
}

/// A namespace with a pod's address beside the node's own, and a back end in it.
struct Alone {
    space: Space,
    proxy: Proxy,
}

impl Alone {
    fn serve(program: &Program) -> Self {
        let mut space = Space::new();
        space.change(["10.1.1.111/32", "10.244.1.2/32"].map(|net| address("lo", net)));
        let mut proxy = space.inside(|| Proxy::open(Kind::Userspace));
        assert!(space.inside(|| proxy.reconcile(program)));
        Alone { space, proxy }
    }
}

/// A Service on 10.96.0.1:80 and node port 30000, over the pod .2.
fn one_service() -> Program {
    let service = object(&json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "s", "namespace": "default"},
        "spec": {"type": "NodePort", "clusterIP": "10.96.0.1",
                 "ports": [{"port": 80, "nodePort": 30_000}]},
    }));
    let slice = object(&json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "s-1", "namespace": "default",
                     "labels": {"kubernetes.io/service-name": "s"}},
        "ports": [{"port": 8080}], "endpoints": [{"addresses": ["10.244.1.2"]}],
    }));
    let world = World::from_objects(nodes().into_iter().chain([service, slice]));
    compiled(&world, &settings())
}

/// Runs a test where no other one opens descriptors; with `before` in another program's arms.
fn in_own_process(test: &str, before: Option<&[&str]>, body: impl FnOnce()) {
    if std::env::var_os("PODWAY_ALONE").is_some() {
        return body();
    }
    as_root(test, || {
        let space = Space::new();
        let own = std::env::current_exe().unwrap();
        let words = before.unwrap_or_default().iter().map(OsString::from);
        let mut words = words.chain([own.into()]);
        let mut again = Command::new(words.next().unwrap());
        again.args(words).args([test, "--exact", "--nocapture"]).env("PODWAY_ALONE", "1");
        let output = space.inside(|| again.output().unwrap());
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
    });
}

/// Without any privilege the node's own addresses are served, and the log says why others are not.
#[test]
fn nobody_in_particular_serves_the_addresses_that_there_are() {
    let test = "userspace::nobody_in_particular_serves_the_addresses_that_there_are";
    let setpriv = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"];
    in_own_process(test, Some(&setpriv), || {
        let mut program = one_service();
        program.node_ports.localhost = model::Family::ALL.into();
        program.addresses.clear();
        let mut backend = Backend::open(Settings::default()).unwrap();
        assert_eq!(backend.reconcile(&program).unwrap().opened, 1);
        assert_eq!(backend.reconcile(&program).unwrap(), Applied::default());
        let unserved = backend.unserved();
        let reasons: Vec<_> = unserved.iter().map(|it| (it.obstacle, it.number)).collect();
        assert_eq!(reasons.first(), Some(&(Obstacle::NotLocal, 1)), "{unserved:?}");
        assert!(unserved[0].to_string().contains("10.96.0.1:80"), "{}", unserved[0]);
        TcpStream::connect("127.0.0.1:30000").unwrap();
    });
}

fn until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn ten_thousand_connections_leak_no_descriptor() {
    let test = "userspace::ten_thousand_connections_leak_no_descriptor";
    in_own_process(test, None, || {
        let alone = Alone::serve(&one_service());
        let server = alone.space.inside(|| TcpListener::bind("10.244.1.2:8080").unwrap());
        let connect = || TcpStream::connect("10.96.0.1:80").unwrap();
        let exchange = |large: bool| {
            let mut client = alone.space.inside(connect);
            let (mut pod, from) = server.accept().unwrap();
            assert_eq!(from.ip(), ip("10.244.1.2"));
            let sent = if large { vec![7; 1 << 20] } else { vec![7; 10] };
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    client.write_all(&sent).unwrap();
                    client.shutdown(Shutdown::Write).unwrap();
                });
                let mut heard = Vec::new();
                pod.read_to_end(&mut heard).unwrap();
                assert!(heard == sent);
            });
            // The other half is still open.
            pod.write_all(b"done").unwrap();
            drop(pod);
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "done");
        };
        exchange(true);
        let before = open_descriptors();
        (0..10_000).for_each(|number| exchange(number % 1000 == 0));
        let deadline = Instant::now() + PATIENCE;
        while open_descriptors() > before && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert!(open_descriptors() <= before, "{} of {before}", open_descriptors());
    });
}

#[test]
fn a_killed_process_leaves_addresses_that_its_successor_takes_over() {
    as_root("userspace::a_killed_process_leaves_addresses_that_its_successor_takes_over", || {
        let program = one_service();
        let Alone { space, proxy } = Alone::serve(&program);
        let listed = || space.run("ip route show table local proto 77");
        let before = listed();
        assert!(before.contains("local 10.96.0.1 dev lo"), "{before}");
        space.run("ip route add local 10.96.0.9 dev lo table local proto 77");
        space.run("ip route add local 10.96.0.10 dev lo table local proto 99");
        // What a process has open ends with it; what it told the kernel does not.
        drop(proxy);
        let mut next = space.inside(|| Proxy::open(Kind::Userspace));
        assert!(space.inside(|| next.reconcile(&program)));
        assert_eq!(listed(), before);
        space.run("ip route flush table local proto 77");
        assert!(space.inside(|| next.reconcile(&program)));
        assert_eq!(listed(), before);
        assert!(!space.inside(|| next.reconcile(&program)));
        space.inside(|| backend::userspace::clean().unwrap());
        until(|| listed().is_empty());
        assert!(space.run("ip route show table local").contains("10.96.0.10"));
    });
}

/// A pod that answers every octet with the same.
fn echo(space: &Space, address: &str) {
    let listener = space.inside(|| TcpListener::bind(address).unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut octet = [0];
                while stream.read_exact(&mut octet).is_ok() && stream.write_all(&octet).is_ok() {}
            });
        }
    });
}

/// `None`: no answer in time; an error: the connection is no more.
fn answered(stream: &mut TcpStream, patience: Duration) -> std::io::Result<Option<()>> {
    stream.set_read_timeout(Some(patience))?;
    match stream.read_exact(&mut [0]) {
        Ok(()) => Ok(Some(())),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

fn exchanged(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"?")?;
    answered(stream, PATIENCE)?.ok_or_else(|| ErrorKind::TimedOut.into())
}

/// A Service on 10.96.0.1:80 over these pods, each ready or about to end.
fn over(pods: &[(&str, bool)]) -> Program {
    let endpoint = |(address, ready): &(&str, bool)| {
        json!({"addresses": [address],
               "conditions": {"ready": ready, "serving": true, "terminating": !ready}})
    };
    let slice = object(&json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "s-1", "namespace": "default",
                     "labels": {"kubernetes.io/service-name": "s"}},
        "ports": [{"port": 8080}],
        "endpoints": pods.iter().map(endpoint).collect::<Vec<_>>(),
    }));
    let service = object(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "default"},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]},
    }));
    compiled(&World::from_objects(nodes().into_iter().chain([service, slice])), &settings())
}

/// The node has the pod .2.
fn one_pod() -> Claims<IpAddr, LocalPod> {
    let (key, mut pods) = (ObjectKey::new("default", "p"), Claims::default());
    let origin = Origin::new(model::Kind::Pod, &key.namespace, &key.name, "status.podIP");
    let pod = LocalPod { pod: key.clone(), origin };
    pods.replace(&key, [(ip("10.244.1.2"), pod)].into());
    pods
}

/// Connections to an endpoint that terminates go on; to one that is gone they are reset after the time of grace, and
/// never without one.
#[test]
fn connections_to_endpoints_that_are_gone_are_reset() {
    as_root("userspace::connections_to_endpoints_that_are_gone_are_reset", || {
        const GRACE: Duration = Duration::from_millis(400);
        let mut space = Space::new();
        let addresses = ["10.1.1.111/32", "10.244.1.2/32", "10.244.1.3/32"];
        space.change(addresses.map(|net| address("lo", net)));
        ["10.244.1.2:8080", "10.244.1.3:8080"].iter().for_each(|pod| echo(&space, pod));
        let (first, second) = (("10.244.1.2", true), ("10.244.1.3", true));
        for grace in [Some(GRACE), None] {
            let settings = Settings { reset_gone_after: grace, ..Settings::default() };
            let mut backend = space.inside(|| Backend::open(settings).unwrap());
            let mut serve = |program: &Program| {
                space.inside(|| backend.reconcile(program).unwrap());
            };
            serve(&over(&[first]));
            let mut stream = space.inside(|| TcpStream::connect("10.96.0.1:80").unwrap());
            exchanged(&mut stream).unwrap();
            let mut survives = || {
                let end = Instant::now() + 3 * GRACE;
                while Instant::now() < end {
                    exchanged(&mut stream).unwrap();
                    std::thread::sleep(GRACE / 20);
                }
            };
            serve(&over(&[("10.244.1.2", false), second]));
            survives();
            // Back within the time of grace.
            serve(&over(&[second]));
            serve(&over(&[first, second]));
            survives();
            // No endpoint any more, but a pod of the node that is there.
            let mut program = over(&[second]);
            program.pods = one_pod();
            serve(&program);
            survives();
            let began = Instant::now();
            serve(&over(&[second]));
            if grace.is_none() {
                survives();
                continue;
            }
            let end = answered(&mut stream, PATIENCE).unwrap_err();
            assert_eq!(end.kind(), ErrorKind::ConnectionReset);
            assert!(began.elapsed() >= GRACE, "{:?}", began.elapsed());
            assert_eq!(backend.counts().unwrap().process.reset, 1);
        }
    });
}

/// One endpoint is gone without a word: its packets are lost. One client at most waits for it, until another endpoint
/// is tried beside it, and the next one only after a while.
#[test]
fn an_endpoint_that_is_gone_costs_one_client_a_moment() {
    as_root("userspace::an_endpoint_that_is_gone_costs_one_client_a_moment", || {
        const CLIENTS: usize = 30;
        /// Less than an endpoint may take that has the client to itself.
        const MOMENT: Duration = Duration::from_secs(3);
        let (mut space, mut nobody) = (Space::new(), Space::new());
        space.wire("gone", None, &mut nobody);
        // It forwards nothing and has no such address.
        nobody.change([address("eth0", "10.244.9.2/24")]);
        space.change(["10.1.1.111/32", "10.244.1.2/32"].map(|net| address("lo", net)));
        space.change([
            address("gone", "10.244.9.1/24"),
            route("10.244.1.3/32", Some("10.244.9.2"), "gone"),
        ]);
        echo(&space, "10.244.1.2:8080");
        let mut backend = space.inside(|| Backend::open(Settings::default()).unwrap());
        let program = over(&[("10.244.1.2", true), ("10.244.1.3", true)]);
        space.inside(|| backend.reconcile(&program).unwrap());
        let took: Vec<_> = (0..CLIENTS)
            .map(|_client| {
                let begin = Instant::now();
                let mut stream = space.inside(|| TcpStream::connect("10.96.0.1:80").unwrap());
                exchanged(&mut stream).unwrap();
                begin.elapsed()
            })
            .collect();
        let counts = backend.counts().unwrap().endpoints;
        let of = |host: &str| counts.iter().find(|it| it.endpoint.ip() == ip(host)).unwrap();
        assert_eq!(of("10.244.1.2").connections, CLIENTS as u64, "{took:?}");
        let (gone, whole) = (of("10.244.1.3"), took.iter().sum::<Duration>());
        assert_eq!((gone.connections, gone.open), (0, 0));
        // One for each ten seconds.
        assert!((1..=1 + whole.as_secs() / 10).contains(&gone.failures), "{gone:?} {took:?}");
        let waited = took.iter().filter(|it| **it >= Duration::from_millis(250)).count();
        assert!(waited >= 1 && took.iter().all(|it| *it < MOMENT), "{took:?}");
    });
}

/// Where descriptors run out, established connections go on and new ones wait for others to end; it is counted.
#[test]
fn without_descriptors_new_connections_wait() {
    let test = "userspace::without_descriptors_new_connections_wait";
    in_own_process(test, None, || {
        const LIMIT: u64 = 200;
        setrlimit(Resource::RLIMIT_NOFILE, LIMIT, LIMIT).unwrap();
        let mut space = Space::new();
        space.change(["10.1.1.111/32", "10.244.1.2/32"].map(|net| address("lo", net)));
        echo(&space, "10.244.1.2:8080");
        let mut backend = space.inside(|| Backend::open(Settings::default()).unwrap());
        space.inside(|| backend.reconcile(&over(&[("10.244.1.2", true)])).unwrap());
        let connect = || space.inside(|| TcpStream::connect("10.96.0.1:80").unwrap());
        let mut streams = Vec::new();
        while backend.counts().unwrap().process.free >= 2 {
            let mut stream = connect();
            exchanged(&mut stream).unwrap();
            streams.push(stream);
        }
        assert!(streams.len() > 20, "{}", streams.len());
        let mut waiting = connect();
        waiting.write_all(b"?").unwrap();
        assert_eq!(answered(&mut waiting, 3 * SILENCE).unwrap(), None);
        streams.iter_mut().for_each(|stream| exchanged(stream).unwrap());
        let process = backend.counts().unwrap().process;
        assert_eq!((process.descriptors, process.waited, process.lost), (LIMIT, 1, 0));
        drop(streams.pop());
        assert_eq!(answered(&mut waiting, PATIENCE).unwrap(), Some(()));
    });
}
