//! Carrying octets both ways between two connections.
//!
//! An end of stream is passed on as such, so a half-closed connection stays one; a reset is passed on as
//! a reset. The buffer belongs to the thread: an idle connection holds none.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::net::TcpStream;

const BUFFER: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// What one read and the write of it led to.
enum Passed {
    /// All that was read has been written.
    All,
    /// The reader has nothing at the moment.
    Nothing,
    /// The reader's stream has ended.
    End,
    /// The writer is full; this is still to be written.
    Rest(Vec<u8>),
}

/// Until both directions have ended, or one was reset.
pub(super) async fn relay(
    client: &TcpStream,
    backend: &TcpStream,
    received: &AtomicU64,
    sent: &AtomicU64,
) {
    let both = tokio::try_join!(carry(client, backend, received), carry(backend, client, sent));
    if both.is_err() {
        reset(client);
        reset(backend);
    }
}

/// Closing it will send a reset instead of an orderly end.
pub(super) fn reset(stream: &TcpStream) {
    // Fails only on a socket that is already gone.
    stream.set_zero_linger().ok();
}

async fn carry(from: &TcpStream, to: &TcpStream, octets: &AtomicU64) -> io::Result<()> {
    loop {
        from.readable().await?;
        match pass(from, to, octets)? {
            Passed::All | Passed::Nothing => {}
            Passed::Rest(rest) => write_all(to, &rest).await?,
            Passed::End => return kernel::stream::finish(to),
        }
    }
}

fn pass(from: &TcpStream, to: &TcpStream, octets: &AtomicU64) -> io::Result<Passed> {
    SCRATCH.with_borrow_mut(|buffer| {
        let read = match from.try_read(buffer) {
            Ok(0) => return Ok(Passed::End),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Passed::Nothing),
            Err(error) => return Err(error),
        };
        octets.fetch_add(u64::try_from(read).unwrap_or(u64::MAX), Relaxed);
        match to.try_write(&buffer[..read]) {
            Ok(written) if written == read => Ok(Passed::All),
            Ok(written) => Ok(Passed::Rest(buffer[written..read].to_vec())),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Ok(Passed::Rest(buffer[..read].to_vec()))
            }
            Err(error) => Err(error),
        }
    })
}

async fn write_all(to: &TcpStream, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        to.writable().await?;
        match to.try_write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
