//! Network namespaces that the tests make for themselves, and the wires between them.

use ipnet::IpNet;
use kernel::namespace::{Kind, Namespace, in_netns, make_net};
use kernel::netlink::Socket;
use kernel::process::{Signal, may_administer};
use kernel::route::{self, Change, NewLink, Peer};
use kernel::spawn::{Place, spawn};
use kernel::sysctl;
use netstate::{Address, Link, LinkKind, Route};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::Command;

/// Runs a test that makes namespaces; an ordinary user's runs anew as root of a user namespace.
///
/// A user namespace cannot be entered once there are threads, so it takes another process.
pub(crate) fn as_root(test: &str, body: impl FnOnce()) {
    if may_administer().unwrap() {
        return body();
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args([test, "--exact", "--nocapture"]);
    let place =
        Place { make: vec![Kind::User], death_signal: Some(Signal::SIGKILL), ..Place::default() };
    let status = spawn(again, place).unwrap().reap().unwrap();
    assert!(status.success(), "{test} as root of a user namespace: {status}");
}

/// A network namespace and a door to its links and routes.
pub(crate) struct Space {
    namespace: Namespace,
    socket: Socket,
}

impl Space {
    /// With loopback up, no opinion on which way a packet comes, and ICMP errors for all who deserve one.
    pub(crate) fn new() -> Self {
        let namespace = make_net().unwrap();
        let settings = || {
            for (name, value) in [
                ("ipv4/conf/all/rp_filter", "0"),
                ("ipv4/conf/default/rp_filter", "0"),
                ("ipv4/conf/all/send_redirects", "0"),
                ("ipv4/conf/default/send_redirects", "0"),
                // IPv6 routers cannot be kept from sending any.
                ("ipv6/conf/default/accept_redirects", "0"),
                ("ipv4/icmp_ratemask", "0"),
                // An address is an address at once, not only after a second.
                ("ipv6/conf/all/accept_dad", "0"),
                ("ipv6/conf/default/accept_dad", "0"),
                ("ipv6/icmp/ratelimit", "0"),
            ] {
                sysctl::write(&format!("net/{name}"), value).unwrap();
            }
            Socket::route().unwrap()
        };
        let socket = in_netns(&namespace, settings).unwrap();
        let mut space = Space { namespace, socket };
        space.change([Change::SetUp { device: "lo".into(), up: true }]);
        space
    }

    /// Sockets opened by `work` stay in the namespace.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_netns(&self.namespace, work).unwrap()
    }

    pub(crate) fn set(&self, name: &str, value: &str) {
        self.inside(|| sysctl::write(name, value).unwrap());
    }

    #[track_caller]
    pub(crate) fn change(&mut self, changes: impl IntoIterator<Item = Change>) {
        let changes: Vec<_> = changes.into_iter().collect();
        route::apply(&mut self.socket, &changes).unwrap();
    }

    /// What a witness prints; it must succeed.
    #[track_caller]
    pub(crate) fn run(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        let output = self.inside(|| command.output().unwrap());
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A pair of virtual Ethernet devices, `here` in this namespace and `eth0` in the other, both up.
    pub(crate) fn wire(&mut self, here: &str, bridge: Option<&str>, other: &mut Space) {
        let end = |name: &str| Link {
            name: name.into(),
            kind: LinkKind::Veth { peer: None },
            mac: None,
            mtu: None,
            up: true,
        };
        let (near, far) = (end(here), end("eth0"));
        let peer = Peer { link: &far, namespace: Some(other.namespace.as_fd()) };
        let new = NewLink { peer: Some(peer), master: bridge, ..NewLink::new(&near) };
        route::add_link(&mut self.socket, &new).unwrap();
        other.change([Change::SetUp { device: "eth0".into(), up: true }]);
    }
}

/// `net` on a device: an address with its prefix.
pub(crate) fn address(device: &str, net: &str) -> Change {
    Change::AddAddress(Address { device: device.into(), net: net.parse().unwrap() })
}

pub(crate) fn route(destination: &str, via: Option<&str>, device: &str) -> Change {
    Change::AddRoute(Route {
        destination: destination.parse().unwrap(),
        via: via.map(ip),
        device: device.into(),
        onlink: false,
        source: None,
        protocol: Route::BOOT,
    })
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn host(address: IpAddr) -> IpNet {
    IpNet::from(address)
}
