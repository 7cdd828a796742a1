//! A real server of this test's own, by `scripts/kube-apiserver`.

use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const START: Duration = Duration::from_secs(180);

/// Ends with this value.
pub(crate) struct Server {
    folder: PathBuf,
    script: Child,
}

impl Server {
    /// `None` where no binary is named.
    pub(crate) fn start(test: &str) -> Option<Self> {
        std::env::var_os("PODWAY_KUBE_APISERVER")?;
        let folder =
            std::env::temp_dir().join(format!("podway-real-{test}-{}", std::process::id()));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/kube-apiserver");
        let mut script = Command::new(script);
        // Accounts are the business of kube-controller-manager, and all Pods would wait for them.
        script.arg(&folder).arg("--disable-admission-plugins=ServiceAccount");
        let mut server = Self { script: script.spawn().unwrap(), folder };
        let start = Instant::now();
        while !server.kubeconfig().exists() {
            let ended = server.script.try_wait().unwrap();
            assert!(ended.is_none() && start.elapsed() < START, "no real server: {ended:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(server)
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    pub(crate) async fn client(&self) -> Client {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig()).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
        Client::try_from(config).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = self.script.id().to_string();
        // The script ends what it started.
        let told = Command::new("kill").arg(pid).status();
        if told.is_ok_and(|told| told.success()) {
            self.script.wait().ok();
        }
        std::fs::remove_dir_all(&self.folder).ok();
    }
}
