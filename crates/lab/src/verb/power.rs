//! `podway lab status`, `podway lab kill` and `podway lab start`

use super::Running;
use crate::Result;
use crate::message::{Answer, Request, Status};

/// What a lab's nodes and pods are doing.
pub fn status(name: &str) -> Result<Status> {
    let lab = Running::find(name)?;
    match lab.ask(&Request::Status)? {
        Answer::Status(status) => Ok(status),
        _ => Err(lab.strange()),
    }
}

/// Cuts a node's power; it is gone when this returns.
pub fn kill(name: &str, node: &str) -> Result<()> {
    Running::find(name)?.ask(&Request::Kill { node: node.to_owned() }).map(drop)
}

/// Brings back a node whose power was cut.
pub fn start(name: &str, node: &str) -> Result<()> {
    Running::find(name)?.ask(&Request::Start { node: node.to_owned() }).map(drop)
}
