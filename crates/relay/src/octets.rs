//! Octets both ways between two connections, through a buffer of the thread's own while they are few, through the
//! kernel alone once they are many.
//!
//! An end of stream is passed on as such, so a half-closed connection stays one; a reset is passed on as a reset.
//! Whoever takes nothing is given nothing: no more than one buffer or pipe waits for it.

use crate::limits::{Limits, Permit};
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

/// Which way octets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    There,
    /// From the server to the client.
    Back,
}

/// Runs `work` with the thread's buffer: sockets that wait hold none.
pub fn with_scratch<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|buffer| work(buffer))
}

/// Closing it will send a reset instead of an orderly end.
pub fn reset(stream: &TcpStream) {
    // Fails only on a socket that is already gone.
    stream.set_zero_linger().ok();
}

/// Until both directions have ended; an error where one was reset. `count` is told of all that was taken in.
pub async fn relay(
    client: &TcpStream,
    server: &TcpStream,
    limits: &Limits,
    count: impl Fn(Way, u64),
) -> io::Result<()> {
    let there = carry(client, server, limits, |octets| count(Way::There, octets));
    let back = carry(server, client, limits, |octets| count(Way::Back, octets));
    tokio::try_join!(there, back).map(drop)
}

async fn carry(
    from: &TcpStream,
    to: &TcpStream,
    limits: &Limits,
    count: impl Fn(u64),
) -> io::Result<()> {
    let mut large = 0;
    loop {
        from.readable().await?;
        let Some((read, rest)) = copy(from, to)? else { continue };
        if read == 0 {
            return kernel::stream::finish(to);
        }
        count(u64::try_from(read).unwrap_or(u64::MAX));
        write_all(to, &rest).await?;
        large = if read >= LARGE { large + 1 } else { 0 };
        if large >= MANY
            && let Some((pipe, _permit)) = pipe(limits)
        {
            return carry_by(&pipe, from, to, count).await;
        }
    }
}

/// Octets read and what of them could not be written; `None`: there is nothing to read.
fn copy(from: &TcpStream, to: &TcpStream) -> io::Result<Option<(usize, Vec<u8>)>> {
    with_scratch(|buffer| {
        let Some(read) = take(from, buffer)? else { return Ok(None) };
        let written =
            if read == 0 { 0 } else { unless_blocked(to.try_write(&buffer[..read]))?.unwrap_or(0) };
        Ok(Some((read, buffer[written..read].to_vec())))
    })
}

/// Octets taken; `None`: there is nothing. Whoever gave less than there was room for has no more to give: the next one
/// waits for news of it, and does not ask in vain.
fn take(from: &TcpStream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let mut taken = None;
    let outcome = from.try_io(Interest::READABLE, || {
        let read = kernel::stream::receive(from, buffer)?;
        taken = Some(read);
        // The end of a stream is news that stays.
        if read > 0 && read < buffer.len() { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    unless_blocked(outcome)?;
    Ok(taken)
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

async fn carry_by(
    pipe: &Pipe,
    from: &TcpStream,
    to: &TcpStream,
    count: impl Fn(u64),
) -> io::Result<()> {
    loop {
        from.readable().await?;
        let filled = unless_blocked(from.try_io(Interest::READABLE, || pipe.fill(from)))?;
        let Some(mut left) = filled else { continue };
        if left == 0 {
            return kernel::stream::finish(to);
        }
        count(u64::try_from(left).unwrap_or(u64::MAX));
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
