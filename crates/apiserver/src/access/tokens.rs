//! Tokens of service accounts: JSON Web Tokens (RFC 7519) with the claims that Kubernetes puts into them.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens>

use super::{AccessError, kept};
use crate::store::Disk;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{self, EcdsaKeyPair, KeyPair, UnparsedPublicKey};
use serde_json::{Value, json};

/// Who signs, as tokens name it, and whom they are for where they do not say.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Pods whose tokens last as long as the kubelet asks by default may go on for a year: old clients read them once.
const USUAL: i64 = 3607;
const EXTENDED: i64 = 365 * 24 * 3600;

/// What signs and verifies.
pub(crate) struct Tokens {
    key: EcdsaKeyPair,
    random: SystemRandom,
    /// Name of the key.
    id: String,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

/// What a token is bound to: it is worth nothing without that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// What a token says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    pub(crate) namespace: String,
    pub(crate) account: Bound,
    pub(crate) pod: Option<Bound>,
    pub(crate) secret: Option<Bound>,
    pub(crate) node: Option<Bound>,
    pub(crate) audiences: Vec<String>,
    /// Seconds since 1970.
    pub(crate) issued: i64,
    pub(crate) expires: i64,
    /// Name of the token.
    pub(crate) id: String,
}

impl Tokens {
    /// With a fresh key.
    pub(crate) fn new() -> Result<Self, AccessError> {
        Self::with(rcgen::KeyPair::generate()?.serialized_der())
    }

    /// With the key that the disk keeps, so that what it signed stays good.
    pub(crate) fn kept(disk: &Disk) -> Result<Self, AccessError> {
        let make = || Ok(rcgen::KeyPair::generate()?.serialize_pem());
        let key = kept(disk, "service-account-key", make)?;
        Self::with(rcgen::KeyPair::from_pem(&key)?.serialized_der())
    }

    /// `key` is one of P-256 in PKCS #8, which is what [`rcgen::KeyPair::generate`] makes.
    fn with(key: &[u8]) -> Result<Self, AccessError> {
        let random = SystemRandom::new();
        let kind = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = EcdsaKeyPair::from_pkcs8(kind, key, &random).map_err(AccessError::key)?;
        let digest = ring::digest::digest(&ring::digest::SHA256, key.public_key().as_ref());
        Ok(Self { key, random, id: BASE64.encode(digest) })
    }

    /// A name for a new token: an identifier of RFC 9562, version 4.
    pub(crate) fn identity(&self) -> Result<String, AccessError> {
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes).map_err(AccessError::key)?;
        let bits = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62;
        let digits = format!("{bits:032x}");
        let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
        let parts = [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)];
        Ok(parts.join("-"))
    }

    pub(crate) fn issue(&self, claims: &Claims) -> Result<String, AccessError> {
        let header = json!({"alg": "ES256", "kid": self.id});
        let part = |value: &Value| BASE64.encode(value.to_string());
        let text = format!("{}.{}", part(&header), part(&claims.json()));
        let signed = self.key.sign(&self.random, text.as_bytes()).map_err(AccessError::key)?;
        Ok(format!("{text}.{}", BASE64.encode(signed)))
    }

    /// What a token says, where it is one of ours and has not expired.
    pub(crate) fn verify(&self, token: &str, now: i64) -> Option<Claims> {
        let (text, signed) = token.rsplit_once('.')?;
        let key = self.key.public_key().as_ref();
        let key = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, key);
        key.verify(text.as_bytes(), &BASE64.decode(signed).ok()?).ok()?;
        let claims = BASE64.decode(text.split_once('.')?.1).ok()?;
        let claims: Value = serde_json::from_slice(&claims).ok()?;
        Claims::parse(&claims).filter(|claims| claims.issued <= now && now < claims.expires)
    }

    /// The public key as a JSON Web Key Set (RFC 7517).
    pub(crate) fn key_set(&self) -> Value {
        // An uncompressed point: a byte 4, then both coordinates.
        let point = self.key.public_key().as_ref();
        let (x, y) = point.get(1..).unwrap_or_default().split_at(point.len() / 2);
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
            "x": BASE64.encode(x), "y": BASE64.encode(y),
        }]})
    }
}

impl Claims {
    /// For how long a token that was asked for with this many seconds is good.
    pub(crate) fn lifetime(&self, seconds: i64) -> i64 {
        if self.pod.is_some() && seconds == USUAL { EXTENDED } else { seconds }
    }

    fn json(&self) -> Value {
        let bound = |it: &Bound| json!({"name": it.name, "uid": it.uid});
        let mut own = json!({"namespace": self.namespace, "serviceaccount": bound(&self.account)});
        for (name, it) in [("pod", &self.pod), ("secret", &self.secret), ("node", &self.node)] {
            if let Some(it) = it {
                own[name] = bound(it);
            }
        }
        if self.expires - self.issued == EXTENDED {
            own["warnafter"] = (self.issued + USUAL).into();
        }
        json!({
            "aud": self.audiences, "exp": self.expires, "iat": self.issued, "iss": ISSUER, "jti": self.id,
            "kubernetes.io": own, "nbf": self.issued, "sub": self.user(),
        })
    }

    fn parse(claims: &Value) -> Option<Self> {
        let own = &claims["kubernetes.io"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let bound = |name: &str| {
            let it = own.get(name)?;
            Some(Bound { name: text(&it["name"])?, uid: text(&it["uid"])? })
        };
        let audiences = claims["aud"].as_array()?.iter().filter_map(text).collect();
        let parsed = Self {
            namespace: text(&own["namespace"])?,
            account: bound("serviceaccount")?,
            pod: bound("pod"),
            secret: bound("secret"),
            node: bound("node"),
            audiences,
            issued: claims["iat"].as_i64()?,
            expires: claims["exp"].as_i64()?,
            id: text(&claims["jti"])?,
        };
        (claims["iss"] == ISSUER).then_some(parsed)
    }

    /// Name of the user that the account is.
    pub(crate) fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.account.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claims() -> Claims {
        let bound = |name: &str| Bound { name: name.into(), uid: format!("uid of {name}") };
        Claims {
            namespace: "shop".into(),
            account: bound("web"),
            pod: Some(bound("web-1")),
            audiences: vec![ISSUER.into()],
            issued: 1000,
            expires: 1600,
            id: "one".into(),
            ..Claims::default()
        }
    }

    #[test]
    fn a_token_is_good_for_its_time_and_its_key() {
        let (tokens, others) = (Tokens::new().unwrap(), Tokens::new().unwrap());
        let token = tokens.issue(&claims()).unwrap();
        assert_eq!(tokens.verify(&token, 1000), Some(claims()));
        for (tokens, token, now) in [
            (&tokens, token.clone(), 999),
            (&tokens, token.clone(), 1600),
            (&others, token.clone(), 1000),
            (&tokens, token.replacen('.', ".e30", 1), 1000),
            (&tokens, token[..token.len() - 4].to_owned(), 1000),
        ] {
            assert_eq!(tokens.verify(&token, now), None, "{token} at {now}");
        }
    }

    #[test]
    fn the_key_set_has_both_halves_of_the_point() {
        let tokens = Tokens::new().unwrap();
        let key = &tokens.key_set()["keys"][0];
        let half = |name: &str| BASE64.decode(key[name].as_str().unwrap()).unwrap();
        let point = [&[4][..], &half("x"), &half("y")].concat();
        assert_eq!(point, tokens.key.public_key().as_ref());
    }

    proptest! {
        #[test]
        fn any_text_is_safe(text in "[a-zA-Z0-9_.-]{0,80}") {
            let tokens = Tokens::new().unwrap();
            prop_assert_eq!(tokens.verify(&text, 0), None);
        }
    }
}
