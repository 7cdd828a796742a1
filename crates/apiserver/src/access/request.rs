//! Requests for certificates (PKCS #10, RFC 2986).

use super::der::{Element, OCTETS, SEQUENCE};
use super::subject;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::{PemObject, SectionKind};

/// Attributes of a request, among them the extensions that the certificate shall have.
const ATTRIBUTES: u8 = 0xa0;
/// 1.2.840.113549.1.9.14
const EXTENSIONS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];
/// 2.5.29.17
pub(super) const OTHER_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
/// 1.2.840.10045.2.1, as it begins the algorithm of a key.
const ELLIPTIC: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.2.840.113549.1.1.1
const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// Why a text is no request for a certificate; wording: `k8s.io/kubernetes/pkg/apis/certificates` and Go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestFault {
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    NoRequest,
    #[error("x509: malformed certificate request")]
    Malformed,
    #[error("x509: cannot verify signature: algorithm unimplemented")]
    UnknownAlgorithm,
    /// It was not made by who has the key.
    #[error("{}", match key { Key::Elliptic => "x509: ECDSA verification failure", Key::Rsa => "crypto/rsa: verification error", Key::Other => "x509: Ed25519 verification failure" })]
    BadSignature { key: Key },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Elliptic,
    Rsa,
    Other,
}

/// What sort of thing a certificate is for besides its subject (`GeneralName`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OtherName {
    Email,
    Dns,
    Address,
    Uri,
}

/// What somebody who has a key wants to have certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CertificateRequest {
    pub(crate) common_name: String,
    pub(crate) organisations: Vec<String>,
    pub(crate) other_names: Vec<OtherName>,
    /// The parts that a certificate takes over as they are, in DER: subject, key, and other names (`GeneralNames`).
    pub(super) subject: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) names: Option<Vec<u8>>,
}

impl CertificateRequest {
    /// Reads a request (PEM) whose signature is good.
    pub(crate) fn parse(pem: &[u8]) -> Result<Self, RequestFault> {
        let first = <(SectionKind, Vec<u8>)>::from_pem_slice(pem);
        let Ok((SectionKind::Csr, der)) = first else { return Err(RequestFault::NoRequest) };
        let mut parts = Element::first(&der).into_iter().flat_map(Element::inner);
        let (Some(info), Some(algorithm), Some(signature)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(RequestFault::Malformed);
        };
        let key = info.inner().nth(2).ok_or(RequestFault::Malformed)?;
        verify(key, info.whole, algorithm, signature)?;
        Self::of(info).ok_or(RequestFault::Malformed)
    }

    fn of(info: Element<'_>) -> Option<Self> {
        let mut fields = info.inner().skip(1);
        let (subject, key) = (fields.next()?.of(SEQUENCE)?, fields.next()?);
        let attributes = fields.find(|field| field.tag == ATTRIBUTES);
        let attributes = attributes.into_iter().flat_map(Element::inner);
        let mut wanted = attributes.filter_map(|it| {
            let mut parts = it.inner();
            let is_it = parts.next()?.content == EXTENSIONS;
            parts.next().filter(|_| is_it)?.inner().next()
        });
        let names = wanted.next().and_then(|list| extension(list, OTHER_NAMES));
        let (common_name, organisations) = subject::names(subject)?;
        let other_names = names.into_iter().flat_map(Element::inner);
        Some(Self {
            common_name,
            organisations,
            other_names: other_names.filter_map(|name| OtherName::of(name.tag)).collect(),
            subject: subject.whole.to_vec(),
            key: key.whole.to_vec(),
            names: names.map(|names| names.whole.to_vec()),
        })
    }
}

impl OtherName {
    fn of(tag: u8) -> Option<Self> {
        match tag {
            0x81 => Some(Self::Email),
            0x82 => Some(Self::Dns),
            0x86 => Some(Self::Uri),
            0x87 => Some(Self::Address),
            _ => None,
        }
    }
}

/// The value of an extension in a list of them.
pub(super) fn extension<'a>(list: Element<'a>, id: &[u8]) -> Option<Element<'a>> {
    let mut of_id = list.inner().filter(|it| it.inner().next().is_some_and(|it| it.content == id));
    let value = of_id.next()?.inner().find(|part| part.tag == OCTETS)?;
    Element::first(value.content)
}

/// With what clients may sign when they connect, and so no key is certified that could not be used.
fn verify(
    key: Element<'_>,
    message: &[u8],
    algorithm: Element<'_>,
    signature: Element<'_>,
) -> Result<(), RequestFault> {
    let mut parts = key.inner();
    let (Some(of_key), Some(bits)) = (parts.next(), parts.next().and_then(Element::bits)) else {
        return Err(RequestFault::Malformed);
    };
    let signature = signature.bits().ok_or(RequestFault::Malformed)?;
    let known = default_provider().signature_verification_algorithms.all;
    let fits = known.iter().find(|it| {
        *it.public_key_alg_id() == *of_key.content && *it.signature_alg_id() == *algorithm.content
    });
    let fits = fits.ok_or(RequestFault::UnknownAlgorithm)?;
    let key = match of_key.content {
        it if it.starts_with(ELLIPTIC) => Key::Elliptic,
        it if it.starts_with(RSA) => Key::Rsa,
        _ => Key::Other,
    };
    let bad = |_| RequestFault::BadSignature { key };
    fits.verify_signature(bits, message, signature).map_err(bad)
}

/// What is wrong with certificates (PEM) that somebody issued; none at all are wrong, too.
pub(crate) fn check_certificates(pem: &[u8]) -> Result<(), String> {
    let mut count = 0;
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
        let Ok((kind, der)) = section else { break };
        if kind != SectionKind::Certificate {
            let kind = label(kind);
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {kind:?}"));
        }
        let fields = Element::first(&der).and_then(|it| it.of(SEQUENCE));
        if fields.is_none_or(|it| it.inner().count() != 3 || it.whole.len() != der.len()) {
            return Err("x509: malformed certificate".to_owned());
        }
        count += 1;
    }
    let missing = || "must contain at least one CERTIFICATE PEM block".to_owned();
    (count > 0).then_some(()).ok_or_else(missing)
}

fn label(kind: SectionKind) -> &'static str {
    match kind {
        SectionKind::PublicKey => "PUBLIC KEY",
        SectionKind::RsaPrivateKey => "RSA PRIVATE KEY",
        SectionKind::PrivateKey => "PRIVATE KEY",
        SectionKind::EcPrivateKey => "EC PRIVATE KEY",
        SectionKind::Crl => "X509 CRL",
        SectionKind::Csr => "CERTIFICATE REQUEST",
        _ => "ECHCONFIG",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base64;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn request() -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "dev");
        params.distinguished_name.push(DnType::CommonName, "jane");
        params.subject_alt_names = vec![
            SanType::DnsName("n1".try_into().unwrap()),
            SanType::IpAddress([10, 0, 0, 1].into()),
        ];
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn pem(label: &str, der: &[u8]) -> String {
        let body = base64::encode(der);
        format!("some words\n-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    fn parse(label: &str, der: &[u8]) -> Result<CertificateRequest, RequestFault> {
        CertificateRequest::parse(pem(label, der).as_bytes())
    }

    const LABEL: &str = "CERTIFICATE REQUEST";

    #[test]
    fn a_request_is_what_its_maker_wrote() {
        let der = request();
        let read = parse(LABEL, &der).unwrap();
        assert_eq!((&*read.common_name, &*read.organisations), ("jane", &["dev".to_owned()][..]));
        assert_eq!(read.other_names, [OtherName::Dns, OtherName::Address]);
        let mut forged = der.clone();
        let place = forged.windows(4).position(|it| it == b"jane").unwrap();
        forged[place..place + 4].copy_from_slice(b"root");
        let bad = RequestFault::BadSignature { key: Key::Elliptic };
        for (label, der, fault) in [
            (LABEL, &forged[..], bad),
            (LABEL, &der[..der.len() - 1], RequestFault::Malformed),
            (LABEL, b"abc", RequestFault::Malformed),
            ("CERTIFICATE", &der, RequestFault::NoRequest),
            ("NEW CERTIFICATE REQUEST", &der, RequestFault::NoRequest),
        ] {
            assert_eq!(parse(label, der), Err(fault), "{label}");
        }
    }

    #[test]
    fn certificates_are_told_from_other_things() {
        let params = CertificateParams::new(["a".to_owned()]).unwrap();
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let good = pem("CERTIFICATE", certificate.der());
        let none = "must contain at least one CERTIFICATE PEM block";
        let foreign = "only CERTIFICATE PEM blocks are allowed, found \"PRIVATE KEY\"";
        for (text, fault) in [
            (good.clone(), None),
            (good.repeat(2), None),
            (String::new(), Some(none)),
            (good.clone() + &pem("PRIVATE KEY", b"abc"), Some(foreign)),
            (good + &pem("CERTIFICATE", b"abc"), Some("x509: malformed certificate")),
        ] {
            assert_eq!(check_certificates(text.as_bytes()).err().as_deref(), fault, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_safe(octets in prop::collection::vec(any::<u8>(), 0..80), place in 0_usize..400, value in any::<u8>()) {
            let _free = (CertificateRequest::parse(&octets), parse(LABEL, &octets));
            let mut der = request();
            let place = place % der.len();
            der[place] = value;
            let _changed = parse(LABEL, &der);
        }
    }
}
