//! Who gets in: a certificate authority of the server's own, client certificates and bearer tokens.
//!
//! Everything is made when the server starts, and is kept where the server's store is: on a disk, if there is one.
//! [`Access::kubeconfig`] is how a client gets its share. *Not here*: what somebody who got in may do.

mod der;
pub(crate) mod issue;
pub(crate) mod request;
mod subject;
pub(crate) mod tokens;

use crate::base64;
use crate::store::{Disk, DiskError};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use std::net::IpAddr;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig, crypto};

pub(crate) use subject::User;

/// Why certificates could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    #[error("cannot verify client certificates")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("cannot keep the credentials")]
    Disk(#[from] DiskError),
    #[error("cannot make or use a key: {0}")]
    Key(String),
}

impl AccessError {
    /// The library's errors about keys say nothing but their names.
    fn key(error: impl std::fmt::Display) -> Self {
        Self::Key(error.to_string())
    }
}

/// The server's authority and the credentials that it gave out.
pub struct Access {
    authority: CertifiedIssuer<'static, KeyPair>,
    acceptor: TlsAcceptor,
    /// A bearer token that is as good as the administrator's certificate.
    token: String,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Access")
    }
}

/// Names by which clients know the server, whatever its addresses.
const NAMES: [&str; 5] = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

impl Access {
    /// A new authority, and a certificate for a server at these addresses.
    ///
    /// # Errors
    /// Where the cryptography fails.
    pub fn new(addresses: &[IpAddr]) -> Result<Self, AccessError> {
        Self::with(addresses, KeyPair::generate()?, new_token()?)
    }

    /// The authority whose key the disk keeps, so that what it signed stays valid, also where its own certificate is a
    /// new one: clients compare name and key.
    ///
    /// # Errors
    /// Where the disk or the cryptography fails.
    pub fn kept(addresses: &[IpAddr], disk: &Disk) -> Result<Self, AccessError> {
        let key = kept(disk, "authority-key", || Ok(KeyPair::generate()?.serialize_pem()))?;
        let token = kept(disk, "administrator-token", new_token)?;
        Self::with(addresses, KeyPair::from_pem(&key)?, token)
    }

    fn with(addresses: &[IpAddr], key: KeyPair, token: String) -> Result<Self, AccessError> {
        let mut params = named("podway", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(params, key)?;
        let acceptor = TlsAcceptor::from(Arc::new(tls(&authority, addresses)?));
        Ok(Self { authority, acceptor, token })
    }

    /// A kubeconfig with a fresh administrator's certificate for the server at `url`.
    ///
    /// # Errors
    /// Where the cryptography fails.
    pub fn kubeconfig(&self, name: &str, url: &str) -> Result<String, AccessError> {
        let key = KeyPair::generate()?;
        let mut params = named("kubernetes-admin", Some("system:masters"));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.authority)?;
        let data = |text: String| base64::encode(text.as_bytes());
        Ok(format!(
            "apiVersion: v1\n\
             kind: Config\n\
             current-context: {name}\n\
             clusters:\n\
             - name: {name}\n  \
               cluster:\n    \
                 server: {url}\n    \
                 certificate-authority-data: {}\n\
             contexts:\n\
             - name: {name}\n  \
               context: {{cluster: {name}, user: {name}-admin}}\n\
             users:\n\
             - name: {name}-admin\n  \
               user:\n    \
                 client-certificate-data: {}\n    \
                 client-key-data: {}\n",
            data(self.authority.pem()),
            data(certificate.pem()),
            data(key.serialize_pem()),
        ))
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> String {
        self.authority.pem()
    }

    /// A bearer token of the administrator.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    pub(crate) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    /// Whose token that is. Compares all of it, so that time tells nothing.
    pub(crate) fn user_of_token(&self, token: &str) -> Option<User> {
        let same = token.len() == self.token.len();
        let differences = token.bytes().zip(self.token.bytes()).map(|(a, b)| a ^ b);
        (differences.fold(0, |all, it| all | it) == 0 && same).then(User::administrator)
    }
}

/// What the disk keeps under this name, made now where it keeps nothing yet.
fn kept(
    disk: &Disk,
    name: &str,
    make: impl FnOnce() -> Result<String, AccessError>,
) -> Result<String, AccessError> {
    if let Some(text) = disk.text(name)? {
        return Ok(text);
    }
    let text = make()?;
    disk.keep_text(name, &text)?;
    Ok(text)
}

/// As many random bits as a key has, which is where they come from.
fn new_token() -> Result<String, AccessError> {
    let token = base64::encode(&KeyPair::generate()?.serialize_der());
    Ok(token.chars().rev().filter(char::is_ascii_alphanumeric).take(43).collect())
}

fn named(name: &str, group: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn tls(
    authority: &CertifiedIssuer<'_, KeyPair>,
    addresses: &[IpAddr],
) -> Result<ServerConfig, AccessError> {
    let key = KeyPair::generate()?;
    let mut params = named("kube-apiserver", None);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for name in NAMES {
        params.subject_alt_names.push(SanType::DnsName(name.try_into()?));
    }
    params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
    let certificate = params.signed_by(&key, authority)?;
    let provider = Arc::new(crypto::ring::default_provider());
    let chain = vec![certificate.der().clone(), authority.der().clone()];
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier(authority, provider)?)
        .with_single_cert(chain, key.into())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Certificates of others are refused; none at all is not, since a token may follow.
fn verifier(
    authority: &CertifiedIssuer<'_, KeyPair>,
    provider: Arc<crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, AccessError> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone())?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    Ok(builder.allow_unauthenticated().build()?)
}
