//! `podway get`: one HTTP request, for machines without curl.

use crate::output;
use anyhow::{Context, anyhow};
use clap::Args;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

/// Send one HTTP GET request and print the body of the answer
#[derive(Debug, Args)]
#[command(hide = true)]
pub(crate) struct Get {
    /// http://HOST[:PORT][/PATH]
    url: String,
    /// Seconds to wait, for the connection and for each part of the answer
    #[arg(long, default_value_t = 5.0)]
    timeout: f64,
}

/// What a server said.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Exit code 0 for a status below 400, 1 for any other answer or none.
pub(crate) fn run(get: &Get) -> anyhow::Result<ExitCode> {
    let timeout = Duration::try_from_secs_f64(get.timeout).context("--timeout: not a duration")?;
    let (host, path) = split(&get.url)?;
    let authority = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let address = authority.to_socket_addrs().ok().and_then(|mut found| found.next());
    let address = address.ok_or_else(|| anyhow!("{authority}: no such host"))?;
    let answer = ask(address, host, path, timeout)?;
    output::print(format!("{}\n", answer.body.trim_end()).as_bytes())?;
    Ok(if answer.status < 400 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Sends one request.
pub(crate) fn ask(
    address: SocketAddr,
    host: &str,
    path: &str,
    timeout: Duration,
) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, timeout).context(address)?;
    stream.set_read_timeout(Some(timeout))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("reading the answer")?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| anyhow!("no HTTP answer"))?;
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse::<u16>().ok());
    let status = status.ok_or_else(|| anyhow!("no HTTP status in: {head}"))?;
    Ok(Answer { status, body: body.to_owned() })
}

fn split(url: &str) -> anyhow::Result<(&str, &str)> {
    let rest = url.strip_prefix("http://").ok_or_else(|| anyhow!("{url}: expected http://HOST"))?;
    Ok(rest.find('/').map_or((rest, "/"), |start| rest.split_at(start)))
}
