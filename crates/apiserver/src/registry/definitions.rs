//! CustomResourceDefinitions: a stored definition makes a kind, a deleted one takes the kind and its objects away.

use super::Registry;
use crate::error::Error;
use crate::resources::{Custom, Kind, Resource, StatusRule, custom};
use crate::schema::decode;
use crate::store::Change;
use serde_json::Value;
use std::sync::Arc;

/// The custom kinds of a moment.
#[derive(Debug, Default)]
pub(crate) struct Customs {
    kinds: Arc<Vec<Custom>>,
    last: u32,
}

impl Customs {
    pub(crate) fn kinds(&self) -> &Arc<Vec<Custom>> {
        &self.kinds
    }

    fn find(&self, group: &Value, plural: &Value) -> Option<Custom> {
        let mut kinds = self.kinds.iter();
        let same = |kind: &&Custom| {
            let resource = Kind::Custom(**kind).resource();
            *group == resource.group && *plural == resource.plural
        };
        kinds.find(same).copied()
    }
}

impl Registry {
    /// Declares, declares anew, or takes back the kind of a definition that changed.
    pub(super) fn settle_definition(&mut self, change: &Change, now: i64) {
        if change.kind != Kind::CustomResourceDefinition {
            return;
        }
        let spec = |object: &Value| {
            (object["spec"]["group"].clone(), object["spec"]["names"]["plural"].clone())
        };
        let old = change.old.as_ref().map(|old| spec(&old.value));
        let known = old.and_then(|(group, plural)| self.customs.find(&group, &plural));
        let same = matches!((&change.old, &change.new), (Some(old), Some(new)) if old.value["spec"] == new.value["spec"]);
        if same {
            return;
        }
        let mut kinds: Vec<Custom> = self.customs.kinds.as_ref().clone();
        match &change.new {
            Some(new) => {
                let id = known.map_or_else(|| self.customs.last + 1, Custom::id);
                let Some(declared) = Custom::declare(id, &new.value) else { return };
                self.customs.last = self.customs.last.max(id);
                kinds.retain(|kind| kind.id() != id);
                kinds.push(declared);
            }
            None => {
                let Some(known) = known else { return };
                self.drop_all(Kind::Custom(known), now);
                kinds.retain(|kind| *kind != known);
            }
        }
        kinds.sort_by_key(|kind| (Kind::Custom(*kind).resource().qualified(), kind.id()));
        self.customs.kinds = Arc::new(kinds);
    }

    /// The objects of a kind that goes do not outlive it, whatever they wait for.
    fn drop_all(&mut self, kind: Kind, now: i64) {
        let keys: Vec<_> = self.store.list(kind, None, None).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.store.remove(kind, &key);
        }
        self.settle(now);
    }

    /// Prunes and completes a custom object.
    pub(super) fn complete_custom(
        &mut self,
        version: &'static custom::Version,
        object: &mut Value,
    ) -> Vec<String> {
        let mut unknown = Vec::new();
        decode::prune(version.root(), object, &mut unknown);
        version.schema().complete(object);
        unknown
    }

    /// Checks a custom object by its schema and the schema's rules.
    pub(super) fn check_custom(
        &mut self,
        resource: &'static Resource,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<(), Error> {
        let Kind::Custom(kind) = resource.kind else { return Ok(()) };
        let Some(version) = kind.version(resource.version) else { return Ok(()) };
        let verdict = version.schema().validate(object, old);
        self.warnings.extend(verdict.unchecked);
        if verdict.causes.is_empty() {
            return Ok(());
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        Err(Error::Invalid { resource, name, causes: verdict.causes })
    }
}

/// Whether a status write has to be checked too: a custom kind's schema covers it.
pub(super) fn covers_status(resource: &Resource) -> bool {
    matches!(resource.kind, Kind::Custom(_)) && resource.status == StatusRule::Separate
}
