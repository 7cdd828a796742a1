//! `podway lab kubeconfig`

use super::Running;
use crate::Result;
use crate::message::{Answer, Request};
use std::path::PathBuf;

/// The text of a kubeconfig with which clients on this machine reach the lab's API, and the file where [`crate::up`]
/// puts it.
pub fn kubeconfig(name: &str) -> Result<(String, PathBuf)> {
    let lab = Running::find(name)?;
    match lab.ask(&Request::Kubeconfig)? {
        Answer::Kubeconfig(text) => Ok((text, lab.slot.kubeconfig())),
        _ => Err(lab.strange()),
    }
}
