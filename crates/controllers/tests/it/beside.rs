//! Kubernetes' own programs beside a cluster of a test, where they are given.

use crate::cluster::Cluster;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Names a kube-controller-manager.
pub(crate) const MANAGER: &str = "PODWAY_KUBE_CONTROLLER_MANAGER";
/// Names a kube-scheduler.
pub(crate) const SCHEDULER: &str = "PODWAY_KUBE_SCHEDULER";

pub(crate) fn given(variable: &str) -> Option<OsString> {
    std::env::var_os(variable).filter(|path| !path.is_empty())
}

/// Ends when it is dropped.
pub(crate) struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts the program that the variable names; the folder has a `kubeconfig`, and gets its log.
pub(crate) fn start(variable: &str, folder: &Path, arguments: &[String]) -> Program {
    let log = std::fs::File::create(folder.join(format!("{variable}.log"))).unwrap();
    let program = Command::new(given(variable).unwrap())
        .arg(format!("--kubeconfig={}", folder.join("kubeconfig").display()))
        .args(["--leader-elect=false", "--secure-port=0"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    Program(program.unwrap())
}

/// A folder with a kubeconfig for the embedded API of a cluster, gone when this is dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("podway-beside-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let address = cluster.embedded_address();
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: it\n\
             clusters: [{{name: it, cluster: {{server: \"http://{address}\"}}}}]\n\
             users: [{{name: it, user: {{}}}}]\n\
             contexts: [{{name: it, context: {{cluster: it, user: it}}}}]\n"
        );
        std::fs::write(folder.join("kubeconfig"), text).unwrap();
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
