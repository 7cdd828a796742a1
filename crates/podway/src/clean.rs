//! `podway clean`: the way back.

use backend::{Mode, link, services};
use clap::{Args, Subcommand};
use std::process::ExitCode;

/// Remove from this node what Podway made, once something else has its place
#[derive(Debug, Args)]
pub(crate) struct Clean {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// What serves Services
    Services {
        /// Made in this proxy mode: nft, iptables or userspace
        #[arg(long)]
        backend: Mode,
    },
}

pub(crate) fn run(clean: &Clean) -> anyhow::Result<ExitCode> {
    let What::Services { backend } = clean.what;
    if backend == Mode::Ipvs {
        anyhow::bail!("what mode {backend} made goes when an agent starts in another mode");
    }
    services::clean(backend, backend)?;
    if backend != Mode::Userspace {
        link::Backend::open()?.open_loopback(false)?;
    }
    Ok(ExitCode::SUCCESS)
}
