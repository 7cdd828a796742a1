//! Terminals for programs that want one.

use crate::{Error, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{SigHandler, Signal, signal};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// The two ends of a pseudo-terminal: what is written to the one is read from the other.
#[derive(Debug)]
pub struct Terminal {
    /// Where the person sits.
    pub front: OwnedFd,
    /// Standard input and output of the program.
    pub back: OwnedFd,
}

impl Terminal {
    /// No program gets an end that it was not given: a terminal ends when the last one has closed its back.
    pub fn open() -> Result<Terminal> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let opened = nix::pty::posix_openpt(flags).and_then(|front| {
            nix::pty::grantpt(&front)?;
            nix::pty::unlockpt(&front)?;
            // SAFETY: TIOCGPTPEER takes flags of open(2) and answers with a new descriptor.
            let answer = unsafe { libc::ioctl(front.as_raw_fd(), libc::TIOCGPTPEER, flags.bits()) };
            let back = Errno::result(answer)?;
            // SAFETY: nobody else has this descriptor yet.
            let back = unsafe { OwnedFd::from_raw_fd(back) };
            Ok(Terminal { front: front.into(), back })
        });
        opened.map_err(|errno| failure("open", errno))
    }
}

/// Tells the program how large the terminal is now.
pub fn resize(front: impl AsFd, columns: u16, rows: u16) -> Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one `winsize`, which lives until the call returns.
    let answer =
        unsafe { libc::ioctl(front.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    Errno::result(answer).map(drop).map_err(|errno| failure("resize", errno))
}

/// Signals that a terminal sends. Whoever is started in the background of a script inherits that some are ignored.
const KEYS: [Signal; 6] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// Makes the terminal at standard input the calling process's own, in a session of its own. For the time between fork
/// and exec.
pub(crate) fn adopt() -> std::result::Result<(), Errno> {
    for key in KEYS {
        // SAFETY: the default disposition runs no code of this process.
        unsafe { signal(key, SigHandler::SigDfl)? };
    }
    nix::unistd::setsid()?;
    // SAFETY: TIOCSCTTY takes a number; it changes what the kernel knows of this process, no memory.
    let answer = unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) };
    Errno::result(answer).map(drop)
}

fn failure(operation: &'static str, errno: Errno) -> Error {
    Error::System { operation, object: "a terminal".to_owned(), errno }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};

    #[test]
    fn a_terminal_is_not_inherited() {
        use nix::fcntl::{FcntlArg, FdFlag, fcntl};
        let Terminal { front, back } = Terminal::open().unwrap();
        for end in [&front, &back] {
            let flags = FdFlag::from_bits_retain(fcntl(end, FcntlArg::F_GETFD).unwrap());
            assert!(flags.contains(FdFlag::FD_CLOEXEC));
        }
        drop(back);
        assert!(File::from(front).read(&mut [0]).is_err(), "it has ended");
    }

    #[test]
    fn a_key_is_a_signal() {
        // SAFETY: to ignore a signal runs no code.
        let before = unsafe { signal(Signal::SIGINT, SigHandler::SigIgn).unwrap() };
        let Terminal { front, back } = Terminal::open().unwrap();
        let mut command = std::process::Command::new("cat");
        command.stderr(std::process::Stdio::null());
        command.stdin(back.try_clone().unwrap()).stdout(back);
        let place = crate::spawn::Place { terminal: true, ..Default::default() };
        let program = crate::spawn::spawn(command, place).unwrap();
        // SAFETY: as it was before.
        unsafe { signal(Signal::SIGINT, before).unwrap() };
        let mut front = File::from(front);
        front.write_all(b"a\n").unwrap();
        let mut lines = [0; 6];
        front.read_exact(&mut lines).unwrap();
        assert_eq!(&lines, b"a\r\na\r\n", "the terminal's, and the program's");
        front.write_all(b"\x03").unwrap();
        let ended = program.wait(Some(std::time::Duration::from_secs(20))).unwrap();
        assert!(ended, "it was interrupted");
        program.reap().unwrap();
    }

    #[test]
    fn what_is_typed_arrives() {
        let Terminal { front, back } = Terminal::open().unwrap();
        resize(&front, 80, 24).unwrap();
        let (mut front, mut back) = (File::from(front), File::from(back));
        front.write_all(b"hi\n").unwrap();
        let mut line = [0; 3];
        back.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"hi\n");
    }
}
