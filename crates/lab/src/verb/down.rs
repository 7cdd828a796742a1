//! `podway lab down` and `podway lab list`

use super::Running;
use crate::record::Shelf;
use crate::{Error, Result};
use kernel::process::Signal;

/// Ends a lab; nothing of it is left when this returns. False: there was none, which is no error.
pub fn down(name: &str) -> Result<bool> {
    let running = match Running::find(name) {
        Err(Error::NotRunning { .. }) => return Ok(false),
        found => found?,
    };
    // The kernel ends every process of a PID namespace before its first one counts as ended.
    running.supervisor.signal(Signal::SIGKILL)?;
    running.supervisor.wait(None)?;
    let turn = Shelf::open()?.turn()?;
    running.slot.clear(&turn)?;
    Ok(true)
}

/// The names of the labs that run, sorted. What is left of others is cleared away.
pub fn list() -> Result<Vec<String>> {
    let mut running = Vec::new();
    for name in Shelf::open()?.names()? {
        match Running::find(&name) {
            Ok(_) => running.push(name),
            Err(Error::NotRunning { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(running)
}
