//! Pods of a Service are replaced one by one while clients connect: every one of them is answered.

use crate::cluster::{NODE, nodes, object, pod_at, settings};
use crate::proxy::Kind;
use crate::space::as_root;
use crate::testbed::{Testbed, compiled};
use kernel::namespace::{self, Namespace, in_netns};
use model::{Change, Object, World};
use program::Program;
use serde_json::json;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);
const SERVICE: &str = "10.96.0.1:80";
/// Where nobody of the testbed listens.
const PORT: u16 = 9000;
/// Two serve at a time.
const PODS: [u8; 4] = [2, 3, 4, 5];
/// How often a pod takes the place of another; more with `PODWAY_ROUNDS`.
const ROUNDS: usize = 12;
/// Connections before the next step.
const BETWEEN: usize = 5;

fn service() -> Object {
    object(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]},
    }))
}

/// Endpoints that serve, and perhaps one that is about to go.
fn slice(ready: &[u8], leaving: Option<u8>) -> Object {
    let endpoint = |host: u8, leaves: bool| {
        json!({"addresses": [format!("10.244.1.{host}")], "nodeName": NODE,
               "conditions": {"ready": !leaves, "serving": true, "terminating": leaves}})
    };
    let ready = ready.iter().map(|host| endpoint(*host, false));
    let endpoints: Vec<_> = ready.chain(leaving.map(|host| endpoint(host, true))).collect();
    object(&json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "web", "namespace": "default",
                     "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"port": PORT}], "endpoints": endpoints,
    }))
}

/// A server, until it is told to end: whoever has come until then is still answered.
struct Server<'scope> {
    host: u8,
    thread: ScopedJoinHandle<'scope, ()>,
}

impl<'scope> Server<'scope> {
    fn start(testbed: &Testbed, scope: &'scope Scope<'scope, '_>, host: u8) -> Self {
        let at = SocketAddr::from(([10, 244, 1, host], PORT));
        let listener = testbed.in_pod(host, || TcpListener::bind(at).unwrap());
        let thread = scope.spawn(move || {
            // The end is a connection without a question.
            while let Ok((mut stream, _)) = listener.accept()
                && stream.read_exact(&mut [0]).is_ok()
            {
                stream.write_all(b"!").ok();
            }
        });
        Server { host, thread }
    }

    fn end(self, testbed: &Testbed) {
        let at = SocketAddr::from(([10, 244, 1, self.host], PORT));
        testbed.in_pod(self.host, || drop(TcpStream::connect(at).unwrap()));
        self.thread.join().unwrap();
    }
}

#[derive(Default)]
struct Traffic {
    done: AtomicBool,
    answered: AtomicUsize,
}

impl Traffic {
    /// One connection after the other; ends with the first that fails.
    fn go_on(&self) -> io::Result<()> {
        while !self.done.load(Ordering::Relaxed) {
            let mut stream = TcpStream::connect_timeout(&SERVICE.parse().unwrap(), PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"?")?;
            stream.read_exact(&mut [0])?;
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn await_more(&self, client: &ScopedJoinHandle<'_, io::Result<()>>) {
        let wanted = self.answered.load(Ordering::Relaxed) + BETWEEN;
        while self.answered.load(Ordering::Relaxed) < wanted && !client.is_finished() {
            std::thread::yield_now();
        }
    }
}

/// The node hears of a slice.
fn hear(testbed: &mut Testbed, world: &mut World, program: &mut Program, slice: Object) {
    let mut made = Vec::new();
    for touched in world.apply(Change::Applied(Box::new(slice))) {
        made.extend(compile::recompile(program, world, NODE, &settings(), &touched).0);
    }
    testbed.change(program, &made);
}

/// How many connections were made meanwhile, all of which were answered.
fn replaced_one_by_one(kind: Kind) -> usize {
    let mut testbed = Testbed::with(kind);
    let pods = PODS.map(|host| object(&pod_at(&format!("here-{host}"), 1, host)));
    let first = [service(), slice(&PODS[..2], None)];
    let mut world = World::from_objects(nodes().into_iter().chain(pods).chain(first));
    let mut program = compiled(&world, &settings());
    testbed.start(&program);
    let rounds = std::env::var("PODWAY_ROUNDS").ok().map(|rounds| rounds.parse().unwrap());
    let traffic = Traffic::default();
    let space = testbed.in_client(|| Namespace::current(namespace::Kind::Net).unwrap());
    std::thread::scope(|scope| {
        let start = |testbed: &Testbed, host| Server::start(testbed, scope, host);
        let mut old = start(&testbed, PODS[0]);
        let mut other = start(&testbed, PODS[1]);
        let client = scope.spawn(|| in_netns(&space, || traffic.go_on()).unwrap());
        for host in PODS.into_iter().cycle().skip(2).take(rounds.unwrap_or(ROUNDS)) {
            let new = start(&testbed, host);
            for slice in [
                slice(&[old.host, other.host, host], None),
                slice(&[other.host, host], Some(old.host)),
                slice(&[other.host, host], None),
            ] {
                hear(&mut testbed, &mut world, &mut program, slice);
                traffic.await_more(&client);
            }
            old.end(&testbed);
            (old, other) = (other, new);
        }
        traffic.done.store(true, Ordering::Relaxed);
        let outcome = client.join().unwrap();
        [old, other].into_iter().for_each(|server| server.end(&testbed));
        outcome.unwrap();
    });
    testbed.assert_settled(&program);
    traffic.answered.into_inner()
}

#[test]
fn a_rolling_update_loses_no_connection() {
    as_root("rolling::a_rolling_update_loses_no_connection", || {
        println!("nft: {} connections", replaced_one_by_one(Kind::Nft));
    });
}

#[test]
#[ignore = "needs a kernel with IPVS: scripts/vm-tests"]
fn a_rolling_update_by_ipvs_loses_no_connection() {
    as_root("rolling::a_rolling_update_by_ipvs_loses_no_connection", || {
        println!("ipvs: {} connections", replaced_one_by_one(Kind::Ipvs));
    });
}
