//! Octets both ways between two connections, through a buffer of the thread's own while they are few, through the
//! kernel alone once they are many.
//!
//! An end of stream is passed on as such, so a half-closed connection stays one. Whoever takes nothing is given
//! nothing: no more than one buffer or pipe waits for it.

use super::limits::{Limits, Permit};
use kernel::splice::Pipe;
use std::cell::RefCell;
use std::io::{self, ErrorKind};
use tokio::io::Interest;
use tokio::net::TcpStream;

const BUFFER: usize = 64 * 1024;
/// After so many large reads one after the other the pipe is worth its two descriptors.
const MANY: u32 = 4;
const LARGE: usize = 16 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// Runs `work` with the thread's buffer: sockets that wait hold none.
pub(super) fn with_scratch<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|buffer| work(buffer))
}

/// Until both directions have ended; an error where one was reset.
pub(super) async fn relay(one: &TcpStream, other: &TcpStream, limits: &Limits) -> io::Result<()> {
    tokio::try_join!(carry(one, other, limits), carry(other, one, limits)).map(drop)
}

async fn carry(from: &TcpStream, to: &TcpStream, limits: &Limits) -> io::Result<()> {
    let mut large = 0;
    loop {
        from.readable().await?;
        let Some((read, rest)) = copy(from, to)? else { continue };
        if read == 0 {
            return kernel::stream::finish(to);
        }
        write_all(to, &rest).await?;
        large = if read >= LARGE { large + 1 } else { 0 };
        if large >= MANY
            && let Some((pipe, _permit)) = pipe(limits)
        {
            return carry_by(&pipe, from, to).await;
        }
    }
}

/// Octets read and what of them could not be written; `None`: there is nothing to read.
fn copy(from: &TcpStream, to: &TcpStream) -> io::Result<Option<(usize, Vec<u8>)>> {
    with_scratch(|buffer| {
        let Some(read) = unless_blocked(from.try_read(buffer))? else { return Ok(None) };
        let written =
            if read == 0 { 0 } else { unless_blocked(to.try_write(&buffer[..read]))?.unwrap_or(0) };
        Ok(Some((read, buffer[written..read].to_vec())))
    })
}

async fn write_all(to: &TcpStream, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        to.writable().await?;
        let written = unless_blocked(to.try_write(rest))?.unwrap_or(0);
        rest = &rest[written..];
    }
    Ok(())
}

fn pipe(limits: &Limits) -> Option<(Pipe, Permit)> {
    let permit = limits.pipe()?;
    Some((Pipe::new().ok()?, permit))
}

async fn carry_by(pipe: &Pipe, from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    loop {
        from.readable().await?;
        let filled = unless_blocked(from.try_io(Interest::READABLE, || pipe.fill(from)))?;
        let Some(mut left) = filled else { continue };
        if left == 0 {
            return kernel::stream::finish(to);
        }
        while left > 0 {
            to.writable().await?;
            let drained = to.try_io(Interest::WRITABLE, || pipe.drain(to, left));
            left -= unless_blocked(drained)?.unwrap_or(0);
        }
    }
}

fn unless_blocked<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
