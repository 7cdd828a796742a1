//! Sockets between processes of one machine, by names that each network namespace has for itself (unix(7),
//! abstract sockets): no file is left behind, and who is in the namespace finds its namespace's.

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, getsockopt, recvmsg, sendmsg, sockopt,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

/// `SCM_MAX_FD`: so many descriptors go with one message.
const MOST: usize = 253;

/// `AddrInUse`: somebody in this network namespace has the name.
pub fn listen(name: &str) -> io::Result<UnixListener> {
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

/// `ConnectionRefused`: nobody in this network namespace has the name.
pub fn connect(name: &str) -> io::Result<UnixStream> {
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)
}

/// Names that begin so and that anybody has in the network namespace of the calling thread.
pub fn names(beginning: &str) -> io::Result<Vec<String>> {
    let listed = std::fs::read_to_string("/proc/thread-self/net/unix")?;
    let names = listed.lines().filter_map(|line| line.rsplit_once(" @"));
    let names = names.map(|(_, name)| name).filter(|name| name.starts_with(beginning));
    Ok(names.map(str::to_owned).collect())
}

/// The user of the process at the other end, as it was when the connection began.
pub fn peer(stream: &impl AsFd) -> io::Result<u32> {
    Ok(getsockopt(&stream.as_fd(), sockopt::PeerCredentials)?.uid())
}

/// Whether the other end may be trusted: it is of the same user as this process, or root.
pub fn is_trusted(stream: &impl AsFd) -> io::Result<bool> {
    let peer = peer(stream)?;
    Ok(peer == 0 || peer == crate::process::user())
}

/// Gives descriptors to the other end, which has to ask for the same number of them with [`receive`].
///
/// For a stream that blocks.
pub fn send(stream: &impl AsFd, descriptors: &[impl AsFd]) -> io::Result<()> {
    for some in descriptors.chunks(MOST) {
        let numbers: Vec<_> = some.iter().map(|it| it.as_fd().as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let octet = [IoSlice::new(b"d")];
        sendmsg::<()>(stream.as_fd().as_raw_fd(), &octet, &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    }
    Ok(())
}

/// Takes so many descriptors from the other end. `UnexpectedEof`: it gave fewer.
pub fn receive(stream: &impl AsFd, number: usize) -> io::Result<Vec<OwnedFd>> {
    let mut taken = Vec::new();
    while taken.len() < number {
        let some = receive_some(stream)?;
        if some.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        taken.extend(some);
    }
    Ok(taken)
}

fn receive_some(stream: &impl AsFd) -> io::Result<Vec<OwnedFd>> {
    let mut octet = [0];
    let mut parts = [IoSliceMut::new(&mut octet)];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; MOST]);
    let number = stream.as_fd().as_raw_fd();
    let message = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(number, &mut parts, Some(&mut space), flags) {
            Err(Errno::EINTR) => {}
            outcome => break outcome?,
        }
    };
    let mut taken = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: the kernel just made these descriptors for this process, and nobody else knows of them.
            taken.extend(numbers.into_iter().map(|it| unsafe { OwnedFd::from_raw_fd(it) }));
        }
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn descriptors_cross_with_what_is_in_them() {
        let (near, far) = UnixStream::pair().unwrap();
        let pairs = (0..MOST + 7).map(|_| UnixStream::pair().unwrap());
        let (given, kept): (Vec<_>, Vec<_>) = pairs.unzip();
        let number = given.len();
        send(&near, &given).unwrap();
        drop(given);
        let taken = receive(&far, number).unwrap();
        for (index, (taken, mut kept)) in taken.into_iter().zip(kept).enumerate() {
            UnixStream::from(taken).write_all(&[u8::try_from(index % 256).unwrap()]).unwrap();
            let mut octets = Vec::new();
            kept.read_to_end(&mut octets).unwrap();
            assert_eq!(octets, [u8::try_from(index % 256).unwrap()]);
        }
        drop(near);
        assert_eq!(receive(&far, 1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_name_is_one_listeners() {
        let name = format!("podway/test/{}", std::process::id());
        assert_eq!(connect(&name).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let listener = listen(&name).unwrap();
        assert_eq!(listen(&name).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(names(&name[..name.len() - 1]).unwrap().contains(&name));
        assert!(names("podway/nobody").unwrap().is_empty());
        let stream = connect(&name).unwrap();
        assert!(is_trusted(&stream).unwrap() && is_trusted(&listener.accept().unwrap().0).unwrap());
    }
}
