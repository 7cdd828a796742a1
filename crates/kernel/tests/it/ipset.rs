//! Sets that `ipset` made, read and removed.

use crate::space::{isolated, run};
use kernel::ipset;
use kernel::netlink::Socket;

#[test]
fn sets_of_others_are_named_read_and_removed() {
    isolated(|| {
        let mut socket = Socket::netfilter().unwrap();
        run("ipset create PORTS bitmap:port range 0-65535");
        run("ipset create ENDS hash:ip,port family inet6");
        run("ipset create EMPTY hash:ip");
        for port in ["30080", "30090"] {
            run(&format!("ipset add PORTS {port}"));
        }
        run("ipset add ENDS fd00::1,sctp:30070");
        let mut names = ipset::names(&mut socket).unwrap();
        names.sort();
        assert_eq!(names, ["EMPTY", "ENDS", "PORTS"]);
        let mut ports = |name| ipset::ports(&mut socket, name).unwrap();
        assert_eq!(
            [ports("PORTS"), ports("ENDS"), ports("EMPTY")],
            [vec![30080, 30090], vec![30070], vec![]]
        );
        run("iptables-nft -A INPUT -m set --match-set EMPTY src -j DROP");
        assert!(ipset::destroy(&mut socket, "EMPTY").is_err(), "a rule refers to it");
        for _once_and_again in 0..2 {
            ipset::destroy(&mut socket, "ENDS").unwrap();
        }
        let mut names = ipset::names(&mut socket).unwrap();
        names.sort();
        assert_eq!(names, ["EMPTY", "PORTS"]);
    });
}
