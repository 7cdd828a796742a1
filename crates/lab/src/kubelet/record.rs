//! What must survive the kubelet: one JSON file for each pod.

use super::Error;
use kernel::process::Identity;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The pod as the API last had it.
    pub(super) object: Value,
    /// When it was first seen, RFC 3339.
    pub(super) started: String,
    /// The node's addresses, the one it is known by first.
    pub(super) host_ips: Vec<IpAddr>,
    /// None until its network is there; for pods of the node's network always none.
    pub(super) sandbox: Option<Sandbox>,
    /// By container name.
    pub(super) containers: BTreeMap<String, Ran>,
    /// Condition to status and time of its last change.
    pub(super) conditions: BTreeMap<String, (bool, String)>,
}

/// A network namespace and what the network plug-ins made in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Sandbox {
    pub(super) container: String,
    pub(super) netns: PathBuf,
    /// The plug-ins' result.
    pub(super) result: Value,
    pub(super) addresses: Vec<IpAddr>,
}

/// What is known of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Ran {
    pub(super) restarts: u32,
    /// None while it does not run.
    pub(super) running: Option<Running>,
    pub(super) last: Option<Ended>,
    /// What its probes said last.
    pub(super) started: bool,
    pub(super) ready: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Running {
    pub(super) pid: u32,
    /// `kernel::process::Identity::started`.
    pub(super) ticks: u64,
    pub(super) boot: String,
    /// RFC 3339.
    pub(super) since: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ended {
    /// None: it ended while nobody watched.
    pub(super) exit_code: Option<i32>,
    pub(super) since: String,
    pub(super) until: String,
    /// Its last words, where it failed and they are asked for.
    #[serde(default)]
    pub(super) message: Option<String>,
}

impl Record {
    /// Of a pod that is new here.
    pub(super) fn new(object: Value, started: String, host_ips: Vec<IpAddr>) -> Record {
        Record {
            object,
            started,
            host_ips,
            sandbox: None,
            containers: BTreeMap::new(),
            conditions: BTreeMap::new(),
        }
    }
}

impl Running {
    pub(super) fn new(identity: &Identity, since: String) -> Running {
        let Identity { pid, started, boot } = identity.clone();
        Running { pid, ticks: started, boot, since }
    }

    pub(super) fn identity(&self) -> Identity {
        Identity { pid: self.pid, started: self.ticks, boot: self.boot.clone() }
    }
}

impl Ran {
    pub(super) fn has_succeeded(&self) -> bool {
        self.running.is_none() && self.last.as_ref().is_some_and(|ended| ended.code() == 0)
    }
}

impl Ended {
    /// What to say where nobody knows: the code of a killed process, as the kubelet of Kubernetes does.
    pub(super) fn code(&self) -> i32 {
        self.exit_code.unwrap_or(137)
    }
}

/// The directory of all records of a node.
#[derive(Debug, Clone)]
pub(super) struct Shelf(PathBuf);

impl Shelf {
    pub(super) fn open(root: &Path) -> Result<Shelf, Error> {
        let directory = root.join("pods");
        std::fs::create_dir_all(&directory).map_err(Error::file("create", &directory))?;
        Ok(Shelf(directory))
    }

    /// All records, by uid. One that cannot be read is as good as none: the pod starts anew.
    pub(super) fn read(&self) -> Result<BTreeMap<String, Record>, Error> {
        let mut records = BTreeMap::new();
        for entry in std::fs::read_dir(&self.0).map_err(Error::file("read", &self.0))? {
            let path = entry.map_err(Error::file("read", &self.0))?.path();
            let is_record = path.extension().is_some_and(|it| it == "json");
            let Some(uid) = path.file_stem().and_then(|it| it.to_str()).filter(|_| is_record)
            else {
                continue;
            };
            let bytes = std::fs::read(&path).map_err(Error::file("read", &path))?;
            match serde_json::from_slice(&bytes) {
                Ok(record) => drop(records.insert(uid.to_owned(), record)),
                Err(error) => tracing::warn!(path = %path.display(), %error, "unreadable record"),
            }
        }
        Ok(records)
    }

    /// Whole or not at all, whenever the kubelet is killed.
    pub(super) fn write(&self, uid: &str, record: &Record) -> Result<(), Error> {
        let (draft, path) = (self.0.join(format!("{uid}.new")), self.file(uid));
        let bytes = serde_json::to_vec(record).expect("text, numbers and JSON values are JSON");
        std::fs::write(&draft, bytes).map_err(Error::file("write", &draft))?;
        std::fs::rename(&draft, &path).map_err(Error::file("write", &path))
    }

    pub(super) fn remove(&self, uid: &str) -> Result<(), Error> {
        let path = self.file(uid);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(Error::File { operation: "remove", path, source })
            }
            _ => Ok(()),
        }
    }

    fn file(&self, uid: &str) -> PathBuf {
        self.0.join(format!("{uid}.json"))
    }
}
