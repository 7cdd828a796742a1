//! Whose certificate it is: its subject's common name is the user, its organisations are the groups.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates>

/// Somebody who got in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
}

impl User {
    pub(crate) fn administrator() -> Self {
        Self { name: "kubernetes-admin".into(), groups: vec!["system:masters".into()] }
    }

    /// The subject of a certificate (X.509 in DER) that was verified already; none where it names nobody.
    pub(crate) fn of_certificate(der: &[u8]) -> Option<Self> {
        let certificate = Element::first(der)?.of(SEQUENCE)?;
        let mut fields = certificate.inner().next()?.of(SEQUENCE)?.inner().peekable();
        fields.next_if(|field| field.tag == VERSION);
        // Serial number, signature algorithm, issuer, validity.
        let subject = fields.nth(4)?.of(SEQUENCE)?;
        let mut user = User { name: String::new(), groups: Vec::new() };
        for attribute in subject.inner().flat_map(|set| set.inner()) {
            let mut parts = attribute.inner();
            let (kind, value) = (parts.next()?, parts.next()?);
            let value = std::str::from_utf8(value.content).ok()?.to_owned();
            match kind.content {
                COMMON_NAME => user.name = value,
                ORGANISATION => user.groups.push(value),
                _ => {}
            }
        }
        (!user.name.is_empty()).then_some(user)
    }
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
/// 2.5.4.10
const ORGANISATION: &[u8] = &[0x55, 4, 10];

/// One value in DER (X.690).
#[derive(Clone, Copy)]
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
}

impl<'a> Element<'a> {
    fn first(bytes: &'a [u8]) -> Option<Self> {
        Elements { rest: bytes }.next()
    }

    fn of(self, tag: u8) -> Option<Self> {
        (self.tag == tag).then_some(self)
    }

    fn inner(self) -> Elements<'a> {
        Elements { rest: self.content }
    }
}

struct Elements<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let (tag, rest) = self.rest.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match usize::from(*first) {
            short @ ..=0x7f => (short, rest),
            long => {
                let (bytes, rest) = rest.split_at_checked(long & 0x7f)?;
                let fits = bytes.len() <= 4;
                let length = bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                (if fits { length } else { return None }, rest)
            }
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(Element { tag: *tag, content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn names_are_read_back(name in "[a-z][a-z:-]{0,200}", groups in prop::collection::vec("[a-z]{1,20}", 0..2)) {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            for group in &groups {
                params.distinguished_name.push(DnType::OrganizationName, group.as_str());
            }
            params.distinguished_name.push(DnType::CommonName, name.as_str());
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            let groups = groups.into_iter().next_back().into_iter().collect();
            prop_assert_eq!(User::of_certificate(certificate.der()), Some(User { name, groups }));
        }

        #[test]
        fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _user = User::of_certificate(&bytes);
        }
    }
}
