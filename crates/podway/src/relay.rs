//! `podway relay`: the process that carries the connections to Services in proxy mode userspace.

use crate::daemon::told_to_end;
use anyhow::Context;
use backend::userspace;
use clap::Args;
use std::process::ExitCode;

/// Carry the connections to Services, as the agent in proxy mode userspace orders it
///
/// The agent starts it where it does not run. Started while another one runs in the same network namespace, it takes
/// its place without refusing a connection; that one ends with its last connection.
#[derive(Debug, Args)]
pub(crate) struct Relay {
    /// An agent may replace this process by one of its own version
    #[arg(long, hide = true)]
    started_by_agent: bool,
    /// Wait to be told to end, even when another process has taken its place and its last connection has ended: for
    /// whatever starts anew what ends by itself, as a kubelet does
    #[arg(long)]
    stay: bool,
}

pub(crate) fn run(relay: &Relay) -> anyhow::Result<ExitCode> {
    // Connections have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Each of the two hears of the signal, also of one that came before it is waited for.
        let (end, told) = (told_to_end()?, told_to_end()?);
        let served = userspace::serve(!relay.started_by_agent, end).await;
        served.context("connections to Services cannot be carried")?;
        if relay.stay {
            told.await;
        }
        Ok(ExitCode::SUCCESS)
    })
}
