//! Octets from one socket to another without a copy through this process: splice(2) by way of a pipe.

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Octets of a pipe, if all its pages are full: four times what the kernel gives.
const ROOM: i32 = 256 << 10;
/// What one call moves at most; the kernel cuts it to what the pipe holds.
const MOST: usize = 1 << 20;

/// Octets on their way. Neither end ever blocks.
#[derive(Debug)]
pub struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

impl Pipe {
    pub fn new() -> io::Result<Self> {
        let (out, into) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // Fewer calls for the same octets; whoever has many pipes may not have them that large.
        fcntl(&into, FcntlArg::F_SETPIPE_SZ(ROOM)).ok();
        Ok(Pipe { out, into })
    }

    /// Takes what a socket has received; 0: its stream has ended. `WouldBlock` also where the pipe is full.
    pub fn fill(&self, from: &impl AsFd) -> io::Result<usize> {
        Ok(splice(from.as_fd(), None, self.into.as_fd(), None, MOST, flags())?)
    }

    /// Gives up to so many octets to a socket.
    pub fn drain(&self, to: &impl AsFd, octets: usize) -> io::Result<usize> {
        Ok(splice(self.out.as_fd(), None, to.as_fd(), None, octets, flags())?)
    }
}

fn flags() -> SpliceFFlags {
    SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn what_goes_in_comes_out() {
        let ((mut client, from), (to, mut server)) = (connected(), connected());
        let pipe = Pipe::new().unwrap();
        client.write_all(b"through the kernel").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let filled = pipe.fill(&from).unwrap();
        assert_eq!(pipe.drain(&to, filled).unwrap(), 18);
        assert_eq!(pipe.fill(&from).unwrap(), 0);
        drop(to);
        let mut text = String::new();
        server.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through the kernel");
    }
}
