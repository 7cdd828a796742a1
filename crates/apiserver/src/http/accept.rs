//! What form of an answer the client wants, negotiated as the real server does
//! (`k8s.io/apiserver/pkg/endpoints/handlers/negotiation`).

use super::route::{Place, Subresource};
use crate::error::Error;
use crate::protobuf;
use crate::resources::Resource;
use hyper::header::ACCEPT;
use hyper::{Method, Request};

/// How much of objects and lists the client wants.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    #[default]
    Whole,
    Table,
    /// `PartialObjectMetadata`
    Metadata,
}

/// How it is written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Medium {
    #[default]
    Json,
    Yaml,
    Protobuf,
}

impl Medium {
    const ALL: [Self; 3] = [Self::Json, Self::Yaml, Self::Protobuf];

    pub(super) fn essence(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) view: View,
    pub(super) medium: Medium,
}

/// What objects are written in.
pub(super) const OBJECTS: &str =
    "application/json, application/yaml, application/vnd.kubernetes.protobuf";
/// What watches are written in.
pub(super) const STREAMS: &str =
    "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
const OBJECTS_AND_STREAMS: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";

/// One media range of an Accept header.
#[derive(Debug, PartialEq)]
pub(super) struct Media<'a> {
    pub(super) essence: &'a str,
    quality: f32,
    pub(super) group: &'a str,
    pub(super) version: &'a str,
    /// The kind to convert to (`as`).
    pub(super) kind: &'a str,
    stream: &'a str,
}

impl<'a> Media<'a> {
    fn parse(range: &'a str) -> Option<Self> {
        let (essence, parameters) = range.split_once(';').unwrap_or((range, ""));
        let essence = match essence.trim() {
            "*" => "*/*",
            essence => essence.split_once('/').map(|_both| essence)?,
        };
        let mut media =
            Self { essence, quality: 1.0, group: "", version: "", kind: "", stream: "" };
        for (name, value) in parameters.split(';').filter_map(|it| it.split_once('=')) {
            match (name.trim(), value.trim()) {
                ("q", value) => media.quality = value.parse().unwrap_or_default(),
                ("g", value) => media.group = value,
                ("v", value) => media.version = value,
                ("as", value) => media.kind = value,
                ("stream", value) => media.stream = value,
                _ => {}
            }
        }
        Some(media)
    }

    /// Whether it asks for nothing but the object as it is.
    pub(super) fn is_plain(&self) -> bool {
        [self.group, self.version, self.kind] == [""; 3]
    }

    /// Type and subtype, as the order of ranges looks at them.
    fn is_open(&self) -> (bool, bool) {
        (self.essence.starts_with("*/"), self.essence.ends_with("/*"))
    }

    fn comes_before(&self, other: &Self) -> bool {
        let ((any, any_sub), (other_any, other_any_sub)) = (self.is_open(), other.is_open());
        self.quality > other.quality || !any && other_any || !any_sub && other_any_sub
    }

    fn takes(&self, medium: Medium) -> bool {
        let matches = [medium.essence(), "application/*", "*/*"].contains(&self.essence);
        matches && (self.stream.is_empty() || self.stream == "watch" && medium != Medium::Yaml)
    }
}

pub(super) fn header<T>(request: &Request<T>) -> &str {
    request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The ranges of an Accept header, the most wanted first. What comes before what is no order (a range of low quality
/// comes before an open one), so the result is that of the real server's way to sort, which is by insertion.
pub(super) fn ranges(accept: &str) -> Vec<Media<'_>> {
    let mut sorted: Vec<Media<'_>> = Vec::new();
    for media in accept.split(',').filter_map(|range| Media::parse(range.trim())) {
        let behind = sorted.iter().rposition(|it| !media.comes_before(it));
        sorted.insert(behind.map_or(0, |at| at + 1), media);
    }
    sorted
}

/// The first medium on the client's list for which there is something to choose.
pub(super) fn negotiate<T>(
    accept: &str,
    choose: impl Fn(&Media<'_>, Medium) -> Option<T>,
) -> Option<(T, Medium)> {
    ranges(accept).iter().find_map(|media| {
        let taken = Medium::ALL.into_iter().filter(|medium| media.takes(*medium));
        taken.filter_map(|medium| Some((choose(media, medium)?, medium))).next()
    })
}

/// The medium for what has no other views: discovery and errors.
pub(super) fn plain(accept: &str) -> Option<Medium> {
    if accept.is_empty() {
        return Some(Medium::Json);
    }
    negotiate(accept, |media, _| media.is_plain().then_some(())).map(|((), medium)| medium)
}

/// The form of objects, or of the events about them.
pub(super) fn form<T>(request: &Request<T>, place: &Place, watch: bool) -> Result<Form, Error> {
    let (accept, resource) = (header(request), place.resource);
    let is_custom = resource.is_custom();
    let in_protobuf = !is_custom && protobuf::knows(&resource.api_version(), resource.name);
    if !is_custom && place.subresource != Some(Subresource::Log) {
        let lists = place.name.is_none() && request.method() == Method::GET;
        offered(accept, if lists { OBJECTS_AND_STREAMS } else { OBJECTS })?;
    }
    if accept.is_empty() {
        return Ok(Form::default());
    }
    let chosen = negotiate(accept, |media, medium| {
        let view = view_of(media, medium, in_protobuf)?;
        // What is kept nowhere has no other view, and the real server has no table for this part of a pod.
        let has_views = !resource.transient || view == View::Whole;
        let is_guests = place.subresource == Some(Subresource::EphemeralContainers);
        if !has_views || (view == View::Table && is_guests) {
            return None;
        }
        Some((view, media.kind == "PartialObjectMetadataList"))
    });
    match chosen {
        Some((_, Medium::Yaml)) if watch => Err(Error::NotAcceptable { accepted: STREAMS }),
        Some(((view @ View::Metadata, list), medium))
            if request.method() == Method::GET && !watch =>
        {
            agree(resource, list, place.name.is_none())?;
            Ok(Form { view, medium })
        }
        Some(((view, _), medium)) => Ok(Form { view, medium }),
        None => Err(Error::NotAcceptable { accepted: OBJECTS }),
    }
}

/// Whether a list is asked for where there is one.
fn agree(resource: &Resource, wanted: bool, is_list: bool) -> Result<(), Error> {
    let package = match resource.group.split('.').next().unwrap_or_default() {
        _ if resource.is_custom() => "unstructured",
        "" | "events" => "core",
        package => package,
    };
    let name = if resource.is_custom() { "Unstructured" } else { resource.name };
    match (wanted, is_list) {
        (true, false) => Err(Error::NoList { go_type: format!("*{package}.{name}") }),
        (false, true) => Err(Error::List { go_type: format!("*{package}.{name}List") }),
        _ => Ok(()),
    }
}

/// Whether the client names anything that is written at this address, whatever it wishes of it.
pub(super) fn offered(accept: &str, available: &'static str) -> Result<(), Error> {
    let mut ranges = accept.split(',').map(|range| range.split(';').next().unwrap_or(range).trim());
    let known = |range: &str| range == "*/*" || available.split(", ").any(|it| it == range);
    match accept.is_empty() || ranges.any(known) {
        true => Ok(()),
        false => Err(Error::NotAvailable { available }),
    }
}

fn view_of(media: &Media<'_>, medium: Medium, in_protobuf: bool) -> Option<View> {
    if media.is_plain() {
        return (in_protobuf || medium != Medium::Protobuf).then_some(View::Whole);
    }
    let meta = media.group == "meta.k8s.io" && media.version == "v1";
    match media.kind {
        "Table" if meta && medium != Medium::Protobuf => Some(View::Table),
        "PartialObjectMetadata" | "PartialObjectMetadataList" if meta => Some(View::Metadata),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: &str = "g=meta.k8s.io;v=v1";

    fn chosen(accept: &str, in_protobuf: bool) -> Option<(View, Medium)> {
        let accept = accept.replace("PB", "application/vnd.kubernetes.protobuf");
        let accept = accept.replace("JSON", "application/json").replace("META", META);
        negotiate(&accept, |media, medium| view_of(media, medium, in_protobuf))
    }

    #[test]
    fn the_most_wanted_known_form_wins() {
        use {Medium::*, View::*};
        for (accept, expected) in [
            ("*/*", Some((Whole, Json))),
            ("application/*", Some((Whole, Json))),
            ("JSON;as=Table;META,JSON", Some((Table, Json))),
            ("JSON;as=Table;v=v9;g=meta.k8s.io, JSON", Some((Whole, Json))),
            ("PB", Some((Whole, Protobuf))),
            ("PB, JSON;q=0.5", Some((Whole, Protobuf))),
            ("JSON;q=0.5,PB", Some((Whole, Protobuf))),
            ("JSON, PB", Some((Whole, Json))),
            ("PB;q=0.5,JSON;q=0.4,*/*;q=0.1", Some((Whole, Protobuf))),
            ("*/*,PB;q=0.1", Some((Whole, Protobuf))),
            ("PB;stream=watch", Some((Whole, Protobuf))),
            ("PB;stream=other,JSON", Some((Whole, Json))),
            ("application/yaml;stream=watch", None),
            ("application/yaml", Some((Whole, Yaml))),
            ("PB;as=Table;META", None),
            ("PB;as=Table;META,JSON", Some((Whole, Json))),
            ("PB;as=PartialObjectMetadataList;META", Some((Metadata, Protobuf))),
            ("text/html", None),
        ] {
            assert_eq!(chosen(accept, true), expected, "{accept}");
        }
    }

    #[test]
    fn kinds_without_protobuf_have_their_metadata_in_it() {
        use {Medium::*, View::*};
        for (accept, expected) in [
            ("PB", None),
            ("PB,JSON", Some((Whole, Json))),
            ("PB;as=PartialObjectMetadata;META", Some((Metadata, Protobuf))),
        ] {
            assert_eq!(chosen(accept, false), expected, "{accept}");
        }
    }
}
