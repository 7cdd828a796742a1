//! Whose certificate it is: its subject's common name is the user, its organisations are the groups.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates>

use super::der::{Element, SEQUENCE, VERSION};
use super::tokens::{Bound, Claims};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// All who got in.
const AUTHENTICATED: &str = "system:authenticated";

/// Somebody who got in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
    pub(crate) uid: String,
    /// What else is known: of which pod, by which token.
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

impl User {
    pub(crate) fn administrator() -> Self {
        let groups = vec!["system:masters".into(), AUTHENTICATED.into()];
        Self { name: "kubernetes-admin".into(), groups, ..Self::default() }
    }

    /// A service account.
    pub(crate) fn account(claims: &Claims) -> Self {
        let mut user =
            Self { name: claims.user(), uid: claims.account.uid.clone(), ..Self::default() };
        user.groups = Self::groups_of(&user.name);
        user.note("credential-id", &format!("JTI={}", claims.id));
        for (kind, bound) in [("pod", &claims.pod), ("node", &claims.node)] {
            if let Some(Bound { name, uid }) = bound {
                user.note(&format!("{kind}-name"), name);
                user.note(&format!("{kind}-uid"), uid);
            }
        }
        user
    }

    /// The groups that somebody is in by name.
    pub(crate) fn groups_of(name: &str) -> Vec<String> {
        let mut groups = Vec::new();
        if let Some((namespace, _)) =
            name.strip_prefix("system:serviceaccount:").and_then(|it| it.split_once(':'))
        {
            groups.push("system:serviceaccounts".to_owned());
            groups.push(format!("system:serviceaccounts:{namespace}"));
        }
        groups.push(AUTHENTICATED.to_owned());
        groups
    }

    /// A service account, of whom nothing is known but the user's name.
    pub(crate) fn of_account(name: &str) -> Self {
        Self { groups: Self::groups_of(name), name: name.to_owned(), ..Self::default() }
    }

    fn note(&mut self, name: &str, value: &str) {
        self.extra.insert(format!("authentication.kubernetes.io/{name}"), vec![value.to_owned()]);
    }

    /// `UserInfo`
    pub(crate) fn json(&self) -> Value {
        let mut info = json!({"username": self.name, "groups": self.groups});
        if !self.uid.is_empty() {
            info["uid"] = self.uid.as_str().into();
        }
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
    }

    /// The subject of a certificate (X.509 in DER) that was verified already; none where it names nobody.
    pub(crate) fn of_certificate(der: &[u8]) -> Option<Self> {
        let certificate = Element::first(der)?.of(SEQUENCE)?;
        let mut fields = certificate.inner().next()?.of(SEQUENCE)?.inner().peekable();
        fields.next_if(|field| field.tag == VERSION);
        // Serial number, signature algorithm, issuer, validity.
        let (name, mut groups) = names(fields.nth(4)?.of(SEQUENCE)?)?;
        groups.push(AUTHENTICATED.to_owned());
        let user = Self { name, groups, ..Self::default() };
        (!user.name.is_empty()).then_some(user)
    }
}

/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
/// 2.5.4.10
const ORGANISATION: &[u8] = &[0x55, 4, 10];

/// The common name and the organisations of a name (X.501), the last common name where there are several.
pub(super) fn names(name: Element<'_>) -> Option<(String, Vec<String>)> {
    let (mut common, mut organisations) = (String::new(), Vec::new());
    for attribute in name.inner().flat_map(Element::inner) {
        let mut parts = attribute.inner();
        let (kind, value) = (parts.next()?, parts.next()?);
        let value = std::str::from_utf8(value.content).ok()?.to_owned();
        match kind.content {
            COMMON_NAME => common = value,
            ORGANISATION => organisations.push(value),
            _ => {}
        }
    }
    Some((common, organisations))
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
            let groups = groups.into_iter().next_back().into_iter().chain([AUTHENTICATED.to_owned()]).collect();
            let expected = User { name, groups, ..User::default() };
            prop_assert_eq!(User::of_certificate(certificate.der()), Some(expected));
        }

        #[test]
        fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _user = User::of_certificate(&bytes);
        }
    }
}
