//! An API server to try kubectl on: `cargo run -p apiserver --example serve -- 127.0.0.1:6443 KUBECONFIG` writes a
//! kubeconfig for it there.

use apiserver::{Access, ApiServer, Config};
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().as_deref().unwrap_or("127.0.0.1:6443").parse()?;
    let path = arguments.next().unwrap_or_else(|| "kubeconfig".into());
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let access = Arc::new(Access::new(&[address.ip()])?);
    let server = ApiServer::new(&Config::new(address))?;
    std::fs::write(path, access.kubeconfig("example", &format!("https://{address}"))?)?;
    server.serve_tls(listener, access, std::future::pending()).await;
    Ok(())
}
