//! Group `certificates.k8s.io`.

use super::columns::{AGE, NAME, column};
use super::{CORE, Kind, Resource, StatusRule};
use crate::table::{Cell, certificate};

pub(super) const CERTIFICATE_SIGNING_REQUEST: Resource = Resource {
    kind: Kind::CertificateSigningRequest,
    group: "certificates.k8s.io",
    name: "CertificateSigningRequest",
    plural: "certificatesigningrequests",
    singular: "certificatesigningrequest",
    short_names: &["csr"],
    namespaced: false,
    status: StatusRule::Separate,
    columns: &[
        NAME,
        AGE,
        column("SignerName", Cell::At("/spec/signerName")),
        column("Requestor", Cell::At("/spec/username")),
        column("RequestedDuration", Cell::Of(certificate::requested_duration)),
        column("Condition", Cell::Of(certificate::condition)),
    ],
    ..CORE
};
