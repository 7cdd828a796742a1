//! Certificates for those who asked for them (RFC 5280).

use super::der::{self, BITS, Element, INTEGER, OCTETS, SEQUENCE, VERSION};
use super::request::{self, CertificateRequest};
use super::{Access, AccessError};
use crate::{base64, time};
use rcgen::SigningKey;
use ring::rand::{SecureRandom, SystemRandom};

/// What the holder may do with the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    DigitalSignature,
    KeyEncipherment,
    ClientAuth,
    ServerAuth,
}

/// When a certificate is good, in seconds since 1970, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) from: i64,
    pub(crate) until: i64,
    pub(crate) usages: Vec<Usage>,
}

const IDENTIFIER: u8 = 0x06;
const TRUE: &[u8] = &[0x01, 0x01, 0xff];
const EXTENSIONS: u8 = 0xa3;
/// Third version, counted from zero.
const THIRD: &[u8] = &[INTEGER, 1, 2];
/// ecdsa-with-SHA256, 1.2.840.10045.4.3.2: how the authority's key signs.
const ALGORITHM: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// 2.5.29.14, 15, 19, 35 and 37.
const OWN_KEY: &[u8] = &[0x55, 0x1d, 0x0e];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const AUTHORITY_KEY: &[u8] = &[0x55, 0x1d, 0x23];
const EXTENDED_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// 1.3.6.1.5.5.7.3, without its last step.
const PURPOSE: [u8; 7] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03];

impl Access {
    /// A certificate (PEM) of this authority.
    pub(crate) fn issue(
        &self,
        request: &CertificateRequest,
        terms: &Terms,
    ) -> Result<String, AccessError> {
        let mut serial = [0; 16];
        SystemRandom::new().fill(&mut serial).map_err(AccessError::key)?;
        // Positive, and of the same length whatever it is.
        serial[0] = serial[0] & 0x3f | 0x40;
        let algorithm = der::element(SEQUENCE, &der::element(IDENTIFIER, ALGORITHM));
        let (issuer, key) = self.names();
        let body = der::made_of(
            SEQUENCE,
            &[
                &der::element(VERSION, THIRD),
                &der::element(INTEGER, &serial),
                &algorithm,
                issuer,
                &der::made_of(SEQUENCE, &[&moment(terms.from), &moment(terms.until)]),
                &request.subject,
                &request.key,
                &extensions(request, terms, key),
            ],
        );
        let signed = self.authority.key().sign(&body)?;
        let signature = der::made_of(BITS, &[&[0], &signed]);
        Ok(pem(&der::made_of(SEQUENCE, &[&body, &algorithm, &signature])))
    }

    /// The name of the authority as it stands in its certificate, and the name of its key.
    fn names(&self) -> (&[u8], Option<&[u8]>) {
        let certificate = Element::first(self.authority.der()).into_iter();
        let mut fields = certificate.flat_map(Element::inner).take(1).flat_map(Element::inner);
        // Version, serial number, algorithm, issuer, validity.
        let subject = fields.nth(5).map_or(&[][..], |it| it.whole);
        let extensions = fields.find(|field| field.tag == EXTENSIONS);
        let list = extensions.and_then(|it| it.inner().next());
        (subject, list.and_then(|it| request::extension(it, OWN_KEY)).map(|it| it.content))
    }
}

fn extensions(request: &CertificateRequest, terms: &Terms, authority: Option<&[u8]>) -> Vec<u8> {
    let mut list = Vec::new();
    let mut add = |id: &[u8], critical: &[u8], value: &[u8]| {
        let (id, value) = (der::element(IDENTIFIER, id), der::element(OCTETS, value));
        list.extend(der::made_of(SEQUENCE, &[&id, critical, &value]));
    };
    let has = |usage| terms.usages.contains(&usage);
    let bits =
        u8::from(has(Usage::DigitalSignature)) << 7 | u8::from(has(Usage::KeyEncipherment)) << 5;
    if bits != 0 {
        let unused = u8::try_from(bits.trailing_zeros()).unwrap_or(0);
        add(KEY_USAGE, TRUE, &der::element(BITS, &[unused, bits]));
    }
    let purposes = terms.usages.iter().filter_map(|usage| match usage {
        Usage::ServerAuth => Some(1),
        Usage::ClientAuth => Some(2),
        _ => None,
    });
    let purposes = purposes.map(|last| der::made_of(IDENTIFIER, &[&PURPOSE, &[last]]));
    let purposes: Vec<u8> = purposes.flatten().collect();
    if !purposes.is_empty() {
        add(EXTENDED_USAGE, &[], &der::element(SEQUENCE, &purposes));
    }
    add(CONSTRAINTS, TRUE, &der::element(SEQUENCE, &[]));
    if let Some(key) = authority {
        add(AUTHORITY_KEY, &[], &der::element(SEQUENCE, &der::element(0x80, key)));
    }
    if let Some(names) = &request.names {
        add(request::OTHER_NAMES, &[], names);
    }
    der::element(EXTENSIONS, &der::element(SEQUENCE, &list))
}

/// Years from 2050 on have all their digits.
fn moment(seconds: i64) -> Vec<u8> {
    let digits: String = time::rfc3339(seconds).chars().filter(char::is_ascii_digit).collect();
    let (tag, from) = if digits.as_str() < "2050" { (0x17, 2) } else { (0x18, 0) };
    der::element(tag, format!("{}Z", &digits[from..]).as_bytes())
}

fn pem(der: &[u8]) -> String {
    let text = base64::encode(der);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let lines: String = lines.map(|line| format!("{line}\n")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
}
