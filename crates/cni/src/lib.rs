//! The CNI plug-in `podway` and its address management.
//!
//! *Here*: the verbs of CNI 1.1 ([`main`]), reading the network configuration ([`config`]), choosing addresses
//! ([`ipam`]), wiring a pod to its node (`wiring`), and results as the specification writes them ([`result`]).
//! *Not here*: writing the configuration list (crate `agent`), running plug-ins (the kubelet in crate `lab`),
//! routes to other nodes (crate `backend`). No call to any API is ever made.
//! *Start at* [`main`], then `verbs`.
//!
//! Each pod is routed, not bridged:
//!
//! ```text
//!  node                                   pod
//!  pdwXXXXXXXX  gateway/32  ───veth───  eth0  address/32
//!  route address/32 dev pdwXXXXXXXX       route gateway/32, default via gateway
//! ```

pub mod config;
mod error;
pub mod ipam;
pub mod request;
pub mod result;
mod store;
mod verbs;
mod wiring;

pub use error::Error;
pub use wiring::link_name;

use config::Config;
use request::{Request, Verb};
use result::Version;
use serde_json::{Value, json};

/// What a plug-in leaves behind: its exit code and what it prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// 0, or 1 where [`Outcome::stdout`] holds an error.
    pub exit: u8,
    /// JSON, or nothing where the specification wants silence.
    pub stdout: String,
}

/// Does what one call of the plug-in asks for.
///
/// `variable` reads the environment (`CNI_COMMAND` and its companions); `stdin` is the network configuration.
#[must_use]
pub fn main(variable: impl Fn(&str) -> Option<String>, stdin: &[u8]) -> Outcome {
    match run(variable, stdin) {
        Ok(stdout) => {
            Outcome { exit: 0, stdout: stdout.map_or_else(String::new, |it| it.to_string()) }
        }
        Err(error) => {
            let stdout = error.report(Version::asked(stdin)).to_string();
            Outcome { exit: 1, stdout }
        }
    }
}

fn run(variable: impl Fn(&str) -> Option<String>, stdin: &[u8]) -> Result<Option<Value>, Error> {
    let request = Request::parse(variable)?;
    if request.verb() == Verb::Version {
        return Ok(Some(json!({
            "cniVersion": Version::asked(stdin).unwrap_or(Version::NEWEST),
            "supportedVersions": Version::ALL,
        })));
    }
    let config = Config::parse(stdin)?;
    request.verb().require(config.version)?;
    match request {
        Request::Add(attachment) => verbs::add(&config, &attachment).map(Some),
        Request::Del(attachment) => verbs::del(&config, &attachment).map(|()| None),
        Request::Check(attachment) => verbs::check(&config, &attachment).map(|()| None),
        Request::Status => verbs::status(&config).map(|()| None),
        Request::Gc => verbs::gc(&config).map(|()| None),
        Request::Version => Ok(None),
    }
}
