//! What reaches a socket of TCP; of a new kernel only who has CAP_NET_ADMIN may say so.

use crate::space::{isolated, run};
use kernel::filter::admit_no_new;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

#[test]
fn a_listener_that_admits_no_new_connection_keeps_those_that_came() {
    isolated(|| {
        run("ip link set lo up");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut early = TcpStream::connect(address).unwrap();
        admit_no_new(&listener).unwrap();
        let late = TcpStream::connect_timeout(&address, Duration::from_millis(100));
        assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
        early.write_all(b"a").unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        let mut octet = [0];
        accepted.read_exact(&mut octet).unwrap();
        assert_eq!(&octet, b"a");
    });
}
