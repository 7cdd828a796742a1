//! What tests do on hosts and with edges, beyond starting them.

use crate::child;
use crate::peer::Keepalived;
use crate::segment::{DEADLINE, Edge, Host, VIP, is_inside, run, unshare, wait};
use kernel::packet::FrameSocket;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use wire::{Mac, arp, ethernet};

#[test]
fn child_process() {
    assert_eq!(child::run(), std::env::var_os(child::VARIABLE).is_some());
}

/// Runs the test called `name` again in new namespaces; inside, `body`.
pub(crate) fn isolated(name: &str, body: impl FnOnce()) {
    if is_inside() {
        return body();
    }
    let mut command = unshare();
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let ran = text.contains("1 passed");
    assert!(ran, "{name}:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
}

impl Host {
    /// Answers every connection to `port` with its name.
    pub(crate) fn respond(&self, port: u16) {
        let name = self.name.clone();
        let host = self.clone();
        std::thread::spawn(move || {
            let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
            host.inside(|| runtime().unwrap().block_on(child::respond(name, port)));
        });
        wait("the responder", || self.connect((self.address, port).into()).ok());
    }

    pub(crate) fn connect(&self, to: SocketAddr) -> std::io::Result<TcpStream> {
        self.inside(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)))
    }

    /// What a responder answers there; empty when the connection is refused or reset.
    pub(crate) fn ask(&self, to: SocketAddr) -> String {
        let mut text = String::new();
        if let Ok(mut stream) = self.connect(to) {
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.read_to_string(&mut text).ok();
        }
        text
    }

    /// Hears ARP on its interface.
    pub(crate) fn listen_arp(&self) -> FrameSocket {
        self.inside(|| FrameSocket::open("eth0", ethernet::ARP).unwrap())
    }

    pub(crate) fn mac(&self) -> Mac {
        self.listen_arp().mac().unwrap()
    }
}

/// Waits for `count` gratuitous announcements of the virtual IP by `mac`.
pub(crate) fn wait_for_announcements(socket: &FrameSocket, mac: Mac, count: usize) {
    let mut buffer = [0; 2048];
    let mut seen = 0;
    wait("gratuitous ARP", || {
        let frame = socket.receive(&mut buffer).unwrap()?;
        let packet = arp::Repr::parse(ethernet::Repr::parse(frame).unwrap().payload).unwrap();
        let ours = packet.sender == VIP && packet.target == VIP && packet.sender_mac == mac;
        seen += usize::from(ours);
        (seen >= count).then_some(())
    });
}

impl Edge {
    /// Whether its status stays the same for so long.
    pub(crate) fn is_silent_for(&self, time: Duration) -> bool {
        self.lines.recv_timeout(time).is_err()
    }

    /// As by SIGTERM; returns when it has ended.
    pub(crate) fn terminate(mut self) {
        self.signal("TERM");
        assert!(self.process.wait().unwrap().success());
    }

    /// `STOP` and `CONT` are a scheduling stall. What runs is `ip`, which became the edge by exec.
    pub(crate) fn signal(&self, name: &str) {
        run(&format!("kill -{name} {}", self.process.id()));
    }
}

impl Keepalived {
    pub(crate) fn terminate(mut self) {
        run(&format!("kill -TERM {}", self.0.id()));
        self.0.wait().unwrap();
    }
}
