//! Probes by commands.

use super::{Outcome, Target, spelled};
use crate::kubelet::container::ended;
use kernel::process::Signal;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::{Instant, timeout_at};

/// Of what the command says so much is told.
const TOLD: u64 = 10 << 10;

/// Runs a command where the container runs; a late one is killed.
pub(super) async fn run(target: &Target, command: Vec<String>, patience: Duration) -> Outcome {
    let (launch, words) = (target.launch.clone(), command.clone());
    let deadline = Instant::now() + patience;
    let started = tokio::task::spawn_blocking(move || {
        let (output, end) =
            std::io::pipe().map_err(crate::kubelet::Error::file("open", "pipe".as_ref()))?;
        let process = launch.start_probe(&words, end)?;
        Ok::<_, crate::kubelet::Error>((process, output))
    });
    let (process, output) = match started.await {
        Ok(Ok((Some(process), output))) => (Arc::new(process), output),
        Ok(Ok((None, _))) => return Outcome::Errored("no command".to_owned()),
        Ok(Err(error)) => {
            return Outcome::Errored(format!(
                "failed to exec in container: {}",
                crate::error::chain(&error)
            ));
        }
        Err(error) => return Outcome::Errored(error.to_string()),
    };
    let said = tokio::spawn(read(output.into()));
    match timeout_at(deadline, ended(Arc::clone(&process))).await {
        Ok(Some(0)) => Outcome::Passed,
        // What it left behind may keep its output open.
        Ok(_) => Outcome::Failed(match timeout_at(deadline, said).await {
            Ok(Ok(said)) => said,
            _ => String::new(),
        }),
        Err(_late) => {
            process.signal(Signal::SIGKILL).ok();
            ended(process).await;
            let (command, patience) = (command.join(" "), spelled(patience));
            Outcome::Failed(format!("command timed out: {command:?} timed out after {patience}"))
        }
    }
}

/// The begin of what a command says; the rest is taken, so that it is not held up.
async fn read(output: OwnedFd) -> String {
    let Ok(mut output) = pipe::Receiver::from_owned_fd(output) else { return String::new() };
    let mut told = Vec::new();
    // What was read before a failure counts.
    (&mut output).take(TOLD).read_to_end(&mut told).await.ok();
    tokio::spawn(async move { tokio::io::copy(&mut output, &mut tokio::io::sink()).await });
    String::from_utf8_lossy(&told).into_owned()
}
