//! Forms: a kind may be served under several groups and versions, and is stored in one of them.
//!
//! Whoever writes does so in his form: types, defaults, validation and owners are that form's. Versions of a custom
//! kind differ in their schemas: what one does not know is not shown in it.

use super::{Kind, Resource, autoscaler, custom};
use crate::store::Object;
use bytes::Bytes;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// A field of the whole object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Renamed {
    pub(crate) stored: &'static str,
    pub(crate) here: &'static str,
}

impl Resource {
    /// Whether this is the form in which the kind's objects are stored.
    pub(crate) fn is_stored(&self) -> bool {
        let stored = self.kind.resource();
        (self.group, self.version) == (stored.group, stored.version)
    }

    /// An object of a custom kind that was stored before its schema had a default is shown with it all the same, and
    /// one that was stored in another version, in this. `api_version` is that of the object, asked for where it matters:
    /// a list of thousands must not look into each.
    fn is_shown_as_stored<'a>(&self, api_version: impl FnOnce() -> Cow<'a, Value>) -> bool {
        let own = |version: &custom::Version| {
            !version.schema().fills() && *api_version() == self.api_version()
        };
        self.is_stored() && self.custom_version().is_none_or(own)
    }

    pub(crate) fn custom_version(&self) -> Option<&'static custom::Version> {
        match self.kind {
            Kind::Custom(custom) => custom.version(self.version),
            _ => None,
        }
    }

    /// A stored object's text in this form.
    pub(crate) fn text(&self, object: &Object) -> Bytes {
        match self.is_shown_as_stored(|| object.look(&["apiVersion"])) {
            true => object.json(),
            false => self.shown(&object.value).to_string().into(),
        }
    }

    /// A stored object in this form.
    pub(crate) fn shown<'a>(&self, object: &'a Value) -> Cow<'a, Value> {
        if self.is_shown_as_stored(|| Cow::Borrowed(&object["apiVersion"])) {
            return Cow::Borrowed(object);
        }
        let mut object = object.clone();
        self.rename(&mut object, |it| (it.stored, it.here));
        self.adapt(&mut object);
        Cow::Owned(object)
    }

    /// An object of this form as it is stored.
    pub(crate) fn stored(&self, mut object: Value) -> Value {
        if !self.is_stored() {
            self.rename(&mut object, |it| (it.here, it.stored));
            self.kind.resource().adapt(&mut object);
        }
        object
    }

    /// What a field of the stored form is called here.
    pub(crate) fn field_of(&self, stored: &'static str) -> &'static str {
        let renamed = self.renamed.iter().find(|it| it.stored == stored);
        renamed.map_or(stored, |it| it.here)
    }

    /// A path of this form, in the stored one.
    pub(crate) fn stored_path<'a>(&self, path: &'a str) -> Cow<'a, str> {
        let (first, rest) = path.split_once('.').map_or((path, ""), |(first, rest)| (first, rest));
        match self.renamed.iter().find(|it| it.here == first) {
            Some(renamed) if rest.is_empty() => renamed.stored.into(),
            Some(renamed) => format!("{}.{rest}", renamed.stored).into(),
            None => path.into(),
        }
    }

    /// Names of fields in the form of `api_version`, each with its name here, where there is a difference.
    pub(crate) fn names_from(&self, api_version: &str) -> Vec<(&'static str, &'static str)> {
        let mut forms = super::built_in().filter(|it| it.kind == self.kind);
        let Some(other) = forms.find(|it| it.api_version() == api_version) else {
            return Vec::new();
        };
        let renamed = self.renamed.iter().chain(other.renamed);
        let names = renamed.map(|it| (other.field_of(it.stored), self.field_of(it.stored)));
        names.filter(|(there, here)| there != here).collect()
    }

    /// The kind's other forms, where they say things otherwise than with other names for fields.
    pub(crate) fn converted_forms(&self) -> impl Iterator<Item = &'static Resource> {
        let converted = self.kind == Kind::HorizontalPodAutoscaler;
        super::built_in().filter(move |it| {
            converted && it.kind == self.kind && it.api_version() != self.api_version()
        })
    }

    fn rename(&self, object: &mut Value, names: fn(&Renamed) -> (&'static str, &'static str)) {
        let Some(fields) = object.as_object_mut() else { return };
        for (from, to) in self.renamed.iter().map(names) {
            if let Some(value) = fields.remove(from) {
                fields.insert(to.to_owned(), value);
            }
        }
    }

    /// Makes an object of another form of the kind one of this.
    fn adapt(&self, object: &mut Value) {
        if let Some(fields) = object.as_object_mut() {
            name(fields, self);
        }
        match self.kind {
            Kind::HorizontalPodAutoscaler if self.version == "v1" => autoscaler::to_v1(object),
            Kind::HorizontalPodAutoscaler => autoscaler::from_v1(object),
            Kind::Custom(_) => {
                self.custom_version().into_iter().for_each(|it| drop(it.complete(object)));
            }
            _ => {}
        }
    }
}

fn name(fields: &mut Map<String, Value>, resource: &Resource) {
    fields.insert("apiVersion".into(), resource.api_version().into());
}

#[cfg(test)]
mod tests {
    use super::super::{FORMS, Kind, built_in};
    use crate::store::Object;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    proptest! {
        /// What one group's client writes is what he reads, and selects by the names that he knows.
        #[test]
        fn there_and_back(names in prop::collection::btree_set("[a-z]{1,3}|note|regarding|reason|deprecatedCount|type", 0..8), path in "[a-z.]{0,12}") {
            let event = &FORMS[0];
            let mut object: Value = names.iter().map(|name| (name.clone(), json!(name))).collect();
            object["apiVersion"] = "events.k8s.io/v1".into();
            let stored = event.stored(object.clone());
            prop_assert_eq!(&stored["apiVersion"], "v1");
            prop_assert_eq!(event.shown(&stored).into_owned(), object);
            prop_assert!(event.stored_path(&path).ends_with(path.split_once('.').map_or("", |it| it.1)));
        }
    }

    #[test]
    fn text_that_is_shown_as_stored_is_not_parsed() {
        let pod = built_in().find(|it| it.kind == Kind::Pod).unwrap();
        let object = Object::unsaved(json!({"apiVersion": "v1", "kind": "Pod"})).cooled();
        assert_eq!(pod.text(&object), object.json());
        assert!(!object.is_warm());
    }

    #[test]
    fn a_form_shows_what_is_stored_and_back() {
        let event = &FORMS[0];
        let stored = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "a"}, "message": "m",
            "involvedObject": {"kind": "Pod"}, "reason": "r", "source": {"component": "c"}, "count": 2,
            "reportingComponent": "x"});
        let shown = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a"},
            "note": "m", "regarding": {"kind": "Pod"}, "reason": "r", "deprecatedSource": {"component": "c"},
            "deprecatedCount": 2, "reportingController": "x"});
        assert_eq!(*event.shown(&stored), shown);
        assert_eq!(event.stored(shown), stored);
        assert_eq!(event.stored_path("regarding.kind"), "involvedObject.kind");
        assert_eq!(event.stored_path("type"), "type");
    }

    #[test]
    fn one_form_of_each_kind_is_stored() {
        for resource in built_in() {
            let stored = resource.kind.resource();
            assert_eq!(
                resource.is_stored(),
                std::ptr::eq(stored, resource),
                "{}",
                resource.qualified()
            );
            let fields = resource.root().expect("a root");
            for renamed in resource.renamed {
                assert!(fields.field(renamed.here).is_some(), "{renamed:?}");
                assert!(
                    stored.root().expect("a root").field(renamed.stored).is_some(),
                    "{renamed:?}"
                );
            }
        }
    }
}
