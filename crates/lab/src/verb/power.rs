//! `podway lab status`, `podway lab kill`, `podway lab start` and `podway lab agent`

use super::{Running, exchange, exec};
use crate::message::{Answer, Request, Status};
use crate::{Error, Result, layout};
use std::path::Path;

/// What a lab's nodes and pods are doing, asked from outside or, after [`crate::reenter`], from inside.
pub fn status(name: &str) -> Result<Status> {
    if exec::is_inside(name) {
        return match exchange(name, Path::new(layout::CONTROL), &Request::Status)? {
            Answer::Status(status) => Ok(status),
            _ => Err(Error::Starting { name: name.to_owned() }),
        };
    }
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

/// Starts the agent of a node anew, with these arguments after those that every node's has.
pub fn agent(name: &str, node: &str, arguments: Vec<String>) -> Result<()> {
    Running::find(name)?.ask(&Request::Agent { node: node.to_owned(), arguments }).map(drop)
}
