use crate::Kind;
use kube::core::Status;
use std::path::PathBuf;

/// Why a call to the API failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("server {server:?} is not a URL such as http://10.1.1.1:6443")]
    BadServer {
        server: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("cannot use kubeconfig {}", path.display())]
    Kubeconfig {
        path: PathBuf,
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    #[error("found no Kubernetes API: neither a kubeconfig nor a service account")]
    NoCluster(#[source] Box<kube::config::InferConfigError>),
    #[error("cannot set up the client")]
    Setup(#[source] Box<kube::Error>),
    /// The object (or the whole kind) does not exist.
    #[error("{kind} {name} not found")]
    NotFound { kind: Kind, name: String },
    #[error("{kind} {name} already exists")]
    AlreadyExists { kind: Kind, name: String },
    /// Somebody else wrote first: read again and decide anew.
    #[error("{kind} {name} was changed by somebody else")]
    Conflict { kind: Kind, name: String },
    /// The API understood and said no.
    #[error("{kind} {name}: {} ({} {})", status.message, status.code, status.reason)]
    Rejected { kind: Kind, name: String, status: Box<Status> },
    /// No answer, or none that can be understood: try again later.
    #[error("cannot {verb} {kind} {name}")]
    Unreachable {
        verb: &'static str,
        kind: Kind,
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("the manifest has no {field}, or one this client does not know")]
    Manifest { field: &'static str },
}

impl Error {
    pub(crate) fn of_request(
        verb: &'static str,
        kind: Kind,
        name: &str,
        source: kube::Error,
    ) -> Self {
        let name = name.to_owned();
        let status = match source {
            kube::Error::Api(status) => status,
            source => return Self::Unreachable { verb, kind, name, source: Box::new(source) },
        };
        match (status.code, status.reason.as_str()) {
            (404, _) => Self::NotFound { kind, name },
            (409, "AlreadyExists") => Self::AlreadyExists { kind, name },
            (409, _) => Self::Conflict { kind, name },
            _ => Self::Rejected { kind, name, status },
        }
    }
}
