//! Finding the API.

use crate::{Error, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::path::Path;
use std::time::Duration;

/// How long a silent connection is believed: longer than a watch lasts ([`crate::watch::WATCH_SECONDS`]).
const SILENCE: Duration = Duration::from_secs(75);
const CONNECT: Duration = Duration::from_secs(5);

/// A client for `server` (a URL, `http://…` or `https://…`), else for the cluster of `kubeconfig`, else for the one
/// that the environment names (`KUBECONFIG`, `~/.kube/config`, the pod's service account).
///
/// Nothing is sent yet: an API that is down is no error here. Needs a tokio runtime.
pub async fn connect(kubeconfig: Option<&Path>, server: Option<&str>) -> Result<Client> {
    let mut config = match (server, kubeconfig) {
        (Some(server), _) => of_server(server)?,
        (None, Some(path)) => of_kubeconfig(path).await?,
        (None, None) => {
            Config::infer().await.map_err(|source| Error::NoCluster(Box::new(source)))?
        }
    };
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    Client::try_from(config).map_err(|source| Error::Setup(Box::new(source)))
}

fn of_server(server: &str) -> Result<Config> {
    let bad = |source| Error::BadServer { server: server.to_owned(), source };
    if !server.starts_with("http://") && !server.starts_with("https://") {
        return Err(bad("no scheme".into()));
    }
    Ok(Config::new(server.parse().map_err(|source| bad(Box::new(source)))?))
}

async fn of_kubeconfig(path: &Path) -> Result<Config> {
    let failed = |source| Error::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
    let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(failed)
}
