//! Standard output: where data goes.

use anyhow::Context;
use std::io::{self, Write};

/// Prints it, or as much as whoever reads wants: `| head` is no failure.
pub(crate) fn print(text: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    forgive(out.write_all(text).and_then(|()| out.flush())).context("cannot print")
}

pub(crate) fn forgive(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
