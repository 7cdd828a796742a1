//! Many clients of one API that goes away and comes back.

use crate::cluster::{Server, next};
use client::{Event, Kind, Watcher, connect, watch_kinds};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

const CLIENTS: usize = 50;
const KINDS: [Kind; 4] = [Kind::NODE, Kind::POD, Kind::SERVICE, Kind::ENDPOINT_SLICE];
/// Long enough that the waits have grown to seconds.
const AWAY: Duration = Duration::from_secs(4);

/// Stands before the API and notes the time of each request; connects to nobody while there is no API.
struct Gate {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Instant>>>,
    api: watch::Sender<Option<SocketAddr>>,
}

impl Gate {
    async fn open(api: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<Instant>>>::default();
        let (sender, receiver) = watch::channel(Some(api));
        let noted = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass(stream, receiver.clone(), Arc::clone(&noted)));
            }
        });
        Self { address, requests, api: sender }
    }

    fn take(&self) -> Vec<Instant> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

async fn pass(
    mut client: TcpStream,
    mut api: watch::Receiver<Option<SocketAddr>>,
    requests: Arc<Mutex<Vec<Instant>>>,
) {
    let now = *api.borrow_and_update();
    let Some(address) = now else {
        requests.lock().unwrap().push(Instant::now());
        return;
    };
    let mut server = TcpStream::connect(address).await.unwrap();
    let (mut up, mut down) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => match read {
                Ok(length @ 1..) => {
                    let lines = up[..length].windows(11).filter(|it| it == b" HTTP/1.1\r\n");
                    let now = Instant::now();
                    requests.lock().unwrap().extend(lines.map(|_| now));
                    if server.write_all(&up[..length]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
            read = server.read(&mut down) => match read {
                Ok(length @ 1..) if client.write_all(&down[..length]).await.is_ok() => {}
                _ => return,
            },
            // The API is gone, and its connections with it.
            _ = api.changed() => return,
        }
    }
}

/// The kinds in the order in which they were listed once more.
async fn listed_anew(mut watcher: Watcher) -> Vec<Kind> {
    let mut kinds = Vec::new();
    while kinds.len() < KINDS.len() {
        if let Event::Restarted { kind, .. } = next(&mut watcher).await {
            kinds.push(kind);
        }
    }
    kinds
}

/// While it is away it is asked seldom; back again, each client comes at a time of its own, lists once and is current.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_comes_back_is_not_overrun() {
    let server = Server::start().await;
    let gate = Gate::open(server.address()).await;
    let mut watchers = Vec::new();
    for _ in 0..CLIENTS {
        let client = connect(None, Some(&format!("http://{}", gate.address))).await.unwrap();
        let mut watcher = watch_kinds(&client, &KINDS.map(Into::into));
        while next(&mut watcher).await != Event::Synced {}
        watchers.push(watcher);
    }
    gate.take();
    gate.api.send_replace(None);
    server.stop().await;
    // Nobody asks unless somebody waits for the answer.
    let waiting = watchers.into_iter().map(|watcher| tokio::spawn(listed_anew(watcher)));
    let waiting: Vec<_> = waiting.collect();
    tokio::time::sleep(AWAY).await;
    let tries = gate.take().len();
    let streams = CLIENTS * KINDS.len();
    assert!((streams..streams * 8).contains(&tries), "{tries} tries of {streams} watches");
    // Another one: it knows nothing of where the watches were.
    let server = Server::start().await;
    gate.api.send_replace(Some(server.address()));
    let back = Instant::now();
    for waiting in waiting {
        let mut kinds = waiting.await.unwrap();
        kinds.sort();
        kinds.dedup();
        assert_eq!(kinds.len(), KINDS.len());
    }
    let requests = gate.take();
    // A watch that is refused, a list, a watch.
    assert!(requests.len() <= streams * 4, "{} requests of {streams} watches", requests.len());
    let within = |from: u64| {
        let (from, to) = (Duration::from_millis(from), Duration::from_millis(from + 500));
        requests.iter().filter(|at| (from..to).contains(&at.duration_since(back))).count()
    };
    let crowd = (0..60).map(|step| within(step * 500)).max().unwrap();
    assert!(crowd < requests.len() / 2, "{crowd} of {} requests in half a second", requests.len());
}
