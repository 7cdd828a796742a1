//! What benchmarks of relays do to them, and what is behind them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

pub(crate) const CLIENTS: usize = 8;
pub(crate) const ROUND: Duration = Duration::from_secs(1);
const MESSAGE: usize = 64;

/// Answers on a port of the calling thread's network namespace, a thread for each connection.
pub(crate) fn listen(port: u16, answer: fn(TcpStream)) {
    let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream.set_nodelay(true).unwrap();
            std::thread::spawn(move || answer(stream));
        }
    });
}

pub(crate) fn echo(mut stream: TcpStream) {
    let mut message = [0; MESSAGE];
    while stream.read_exact(&mut message).is_ok() && stream.write_all(&message).is_ok() {}
}

pub(crate) fn flood(mut stream: TcpStream) {
    let chunk = vec![0; 1 << 18];
    while stream.write_all(&chunk).is_ok() {}
}

pub(crate) fn answers(stream: &mut TcpStream) -> bool {
    stream.write_all(&[7; MESSAGE]).is_ok() && stream.read_exact(&mut [0; MESSAGE]).is_ok()
}

pub(crate) fn connections(to: SocketAddr) -> f64 {
    by_clients(CLIENTS, |until| {
        let mut count = 0.0;
        while Instant::now() < until {
            assert!(answers(&mut TcpStream::connect(to).unwrap()));
            count += 1.0;
        }
        count
    })
}

pub(crate) fn requests(to: SocketAddr) -> f64 {
    by_clients(CLIENTS, |until| {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut count = 0.0;
        while Instant::now() < until {
            assert!(answers(&mut stream));
            count += 1.0;
        }
        count
    })
}

pub(crate) fn megabytes(to: SocketAddr, clients: usize) -> f64 {
    by_clients(clients, |until| {
        let mut stream = TcpStream::connect(to).unwrap();
        let (mut buffer, mut megabytes) = (vec![0; 1 << 18], 0.0);
        while Instant::now() < until {
            let octets = u32::try_from(stream.read(&mut buffer).unwrap()).unwrap();
            megabytes += f64::from(octets) / 1e6;
        }
        megabytes
    })
}

/// Per second, by all clients together, in the namespace of the calling thread.
fn by_clients(clients: usize, work: impl Fn(Instant) -> f64 + Sync) -> f64 {
    let start = Instant::now();
    let done: f64 = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(|| work(start + ROUND))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    done / start.elapsed().as_secs_f64()
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
