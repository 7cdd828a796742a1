//! Names of images, as <https://github.com/distribution/reference> has their grammar. Pure.

use serde::{Deserialize, Serialize};

const DEFAULT_HOST: &str = "docker.io";
/// Where a name of one word is, at the default host.
const DEFAULT_FOLDER: &str = "library";
const DEFAULT_TAG: &str = "latest";
const TAG_LIMIT: usize = 128;
/// Hexadecimal digits of a digest, at least.
const DIGEST_DIGITS: usize = 32;

/// An image, or all of a name or a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Host and path. All below a folder: it ends in a slash.
    name: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Reference {
    /// An image. One without tag and digest is that of the default tag.
    pub(crate) fn parse(text: &str) -> Option<Reference> {
        let mut parsed = written(text)?;
        if parsed.digest.is_none() {
            parsed.tag.get_or_insert_with(|| DEFAULT_TAG.to_owned());
        }
        Some(parsed)
    }

    /// An image, one of any tag, or all of a folder.
    pub(super) fn pattern(text: &str) -> Option<Reference> {
        let Some(folder) = text.strip_suffix("/*") else { return written(text) };
        // A host by itself is a folder, too.
        let whole = written(&format!("{folder}/x"))?;
        let name = whole.name.strip_suffix('x')?.to_owned();
        Some(Reference { name, tag: None, digest: None })
    }

    /// Whether this, as a pattern, is about an image.
    pub(super) fn covers(&self, image: &Reference) -> bool {
        let named = match self.name.ends_with('/') {
            true => image.name.starts_with(&self.name),
            false => image.name == self.name,
        };
        let same =
            |ours: &Option<String>, theirs: &Option<String>| ours.is_none() || ours == theirs;
        named && same(&self.tag, &image.tag) && same(&self.digest, &image.digest)
    }
}

fn written(text: &str) -> Option<Reference> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest).filter(|it| is_digest(it)).map(Some)?),
        None => (text, None),
    };
    // A colon before a slash is that of a port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => {
            (name, Some(tag).filter(|it| is_tag(it)).map(Some)?)
        }
        _ => (rest, None),
    };
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
            (host, path.to_owned())
        }
        Some(_) => (DEFAULT_HOST, name.to_owned()),
        None => (DEFAULT_HOST, format!("{DEFAULT_FOLDER}/{name}")),
    };
    let is_name = is_host(host) && path.split('/').all(is_component);
    let own = |text: Option<&str>| text.map(str::to_owned);
    is_name.then(|| Reference {
        name: format!("{host}/{path}"),
        tag: own(tag),
        digest: own(digest),
    })
}

fn is_host(text: &str) -> bool {
    let (name, port) = text.rsplit_once(':').unwrap_or((text, "0"));
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
            && ![bytes.first(), bytes.last()].iter().any(|it| it.is_none_or(|byte| *byte == b'-'))
    };
    name.split('.').all(is_label) && !port.is_empty() && port.bytes().all(|it| it.is_ascii_digit())
}

/// Lower-case letters and digits, with a dot, one or two underscores or any number of hyphens between them.
fn is_component(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let between = text.split(|letter: char| u8::try_from(letter).is_ok_and(is_inner));
    let is_separator =
        |it: &str| matches!(it, "" | "." | "_" | "__") || it.bytes().all(|byte| byte == b'-');
    let ends = [text.bytes().next(), text.bytes().last()];
    ends.iter().all(|it| it.is_some_and(is_inner)) && between.into_iter().all(is_separator)
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.bytes().next().is_some_and(is_word)
        && text.len() <= TAG_LIMIT
        && text.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

fn is_digest(text: &str) -> bool {
    let Some((kind, digits)) = text.split_once(':') else { return false };
    kind.bytes().next().is_some_and(|it| it.is_ascii_alphabetic())
        && digits.len() >= DIGEST_DIGITS
        && digits.bytes().all(|it| it.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let with_digest = format!("nginx@{digest}");
        for (text, expected) in [
            ("nginx", Some(("docker.io/library/nginx", Some("latest"), None))),
            ("team/app:1.0_x", Some(("docker.io/team/app", Some("1.0_x"), None))),
            ("localhost/app", Some(("localhost/app", Some("latest"), None))),
            ("localhost:5000/a/b:t", Some(("localhost:5000/a/b", Some("t"), None))),
            (
                "registry.k8s.io/e2e-test-images/agnhost:2.56",
                Some(("registry.k8s.io/e2e-test-images/agnhost", Some("2.56"), None)),
            ),
            (&with_digest, Some(("docker.io/library/nginx", None, Some(&*digest)))),
            ("a__b/c--d.e", Some(("docker.io/a__b/c--d.e", Some("latest"), None))),
            ("", None),
            ("Nginx", None),
            ("nginx:", None),
            ("nginx:.x", None),
            ("nginx@sha256:12", None),
            ("a//b", None),
            ("a..b", None),
            ("a___b", None),
            ("-a", None),
            ("a b", None),
            ("host.:5/a", None),
            ("https://a.io/b", None),
        ] {
            let parsed = Reference::parse(text);
            let parts =
                parsed.as_ref().map(|it| (&*it.name, it.tag.as_deref(), it.digest.as_deref()));
            assert_eq!(parts, expected, "{text}");
        }
    }

    #[test]
    fn folders_are_of_a_host() {
        let name = |text| Reference::pattern(text).map(|it| it.name);
        for (text, expected) in [
            ("registry.k8s.io/*", Some("registry.k8s.io/")),
            ("a.io/b/*", Some("a.io/b/")),
            ("team/*", Some("docker.io/team/")),
            ("*", None),
            ("a.io/b*", None),
            ("a.io/b/*:1", None),
        ] {
            assert_eq!(name(text).as_deref(), expected, "{text}");
        }
    }
}
