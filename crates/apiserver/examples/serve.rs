//! An API server to try kubectl on: `cargo run -p apiserver --example serve -- 127.0.0.1:6443`.

use apiserver::{ApiServer, Config};
use std::error::Error;
use std::net::SocketAddr;
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address: SocketAddr =
        std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:6443").parse()?;
    let listener = TcpListener::bind(address).await?;
    let server = ApiServer::new(&Config::new(listener.local_addr()?))?;
    server.serve(listener, std::future::pending()).await;
    Ok(())
}
