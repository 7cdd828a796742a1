//! What form of an answer the client wants.

use crate::error::Error;
use hyper::Request;
use hyper::header::ACCEPT;

/// The form of objects and lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Json,
    Table,
    /// `PartialObjectMetadata`
    Metadata,
}

/// One media range of an Accept header.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Media<'a> {
    pub(super) essence: &'a str,
    pub(super) group: &'a str,
    pub(super) version: &'a str,
    /// The kind to convert to (`as`).
    pub(super) kind: &'a str,
}

pub(super) fn header<T>(request: &Request<T>) -> &str {
    request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The ranges of an Accept header in the order given; clients order them by preference.
pub(super) fn ranges(accept: &str) -> impl Iterator<Item = Media<'_>> {
    accept.split(',').map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let mut media = Media { essence: parts.next().unwrap_or_default(), ..Media::default() };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name {
                "g" => media.group = value,
                "v" => media.version = value,
                "as" => media.kind = value,
                _ => {}
            }
        }
        media
    })
}

/// The first form on the client's list that we have.
pub(super) fn view(accept: &str) -> Result<View, Error> {
    if accept.trim().is_empty() {
        return Ok(View::Json);
    }
    ranges(accept).find_map(|media| view_of(&media)).ok_or(Error::NotAcceptable)
}

fn view_of(media: &Media<'_>) -> Option<View> {
    if !matches!(media.essence, "application/json" | "application/*" | "*/*") {
        return None;
    }
    let meta = media.group == "meta.k8s.io" && media.version == "v1";
    match media.kind {
        "" => Some(View::Json),
        "Table" if meta => Some(View::Table),
        "PartialObjectMetadata" | "PartialObjectMetadataList" if meta => Some(View::Metadata),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_known_form_wins() {
        for (accept, expected) in [
            ("", Some(View::Json)),
            ("*/*", Some(View::Json)),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Some(View::Table)),
            ("application/json;as=Table;v=v9;g=meta.k8s.io, application/json", Some(View::Json)),
            ("application/vnd.kubernetes.protobuf, application/json;q=0.5", Some(View::Json)),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Some(View::Metadata),
            ),
            ("text/html", None),
        ] {
            assert_eq!(view(accept).ok(), expected, "{accept}");
        }
    }
}
