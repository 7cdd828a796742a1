//! The world as the API tells it.

use crate::{Event, Kind};
use model::object::ObjectError;
use model::{Change, Object, ObjectKey, Touched, World};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tracing::warn;

/// A [`World`] kept up to date by a watcher's events.
///
/// An object that cannot be understood is as good as absent: it is told in the log, and the others go on.
#[derive(Debug, Default)]
pub struct Replica {
    world: World,
    /// What of lists that are coming in has come.
    listed: BTreeMap<Kind, BTreeSet<ObjectKey>>,
}

impl Replica {
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Takes an event in; says what must be compiled again.
    pub fn absorb(&mut self, event: Event) -> Vec<Touched> {
        match event {
            Event::Applied { kind, object } => self.apply(kind, &object),
            Event::Deleted { kind, object } => self.remove(kind, &object),
            Event::Listing { kind } => {
                self.listed.remove(&kind);
                Vec::new()
            }
            Event::Listed { kind, object } => {
                self.listed.entry(kind).or_default().insert(key(&object));
                self.apply(kind, &object)
            }
            Event::Restarted { kind, objects } => self.restart(kind, &objects),
            Event::Synced => Vec::new(),
        }
    }

    fn apply(&mut self, kind: Kind, value: &Value) -> Vec<Touched> {
        match Object::parse(value) {
            Ok(object) => self.world.apply(Change::Applied(Box::new(object))),
            Err(ObjectError::OtherKind { .. }) => Vec::new(),
            Err(ObjectError::Field(error)) => {
                warn!(kind = kind.kind, object = %key(value), %error, "object not understood");
                self.remove(kind, value)
            }
        }
    }

    fn remove(&mut self, kind: Kind, value: &Value) -> Vec<Touched> {
        let Some(kind) = model_kind(kind) else { return Vec::new() };
        self.world.apply(Change::Removed(kind, key(value)))
    }

    /// What a complete list does not hold is gone.
    fn restart(&mut self, kind: Kind, objects: &[Value]) -> Vec<Touched> {
        let mut listed = self.listed.remove(&kind).unwrap_or_default();
        listed.extend(objects.iter().map(key));
        let mut touched = Vec::new();
        if let Some(kind) = model_kind(kind) {
            for gone in self.world.keys(kind).into_iter().filter(|key| !listed.contains(key)) {
                touched.extend(self.world.apply(Change::Removed(kind, gone)));
            }
        }
        touched.extend(objects.iter().flat_map(|object| self.apply(kind, object)));
        touched
    }
}

fn model_kind(kind: Kind) -> Option<model::Kind> {
    kind.kind.parse().ok()
}

fn key(value: &Value) -> ObjectKey {
    let text = |name: &str| value["metadata"][name].as_str().unwrap_or_default();
    ObjectKey::new(text("namespace"), text("name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(name: &str, port: u32) -> Value {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
               "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": port}]}})
    }

    #[test]
    fn a_relist_takes_away_what_it_does_not_hold() {
        let mut replica = Replica::default();
        let kind = Kind::SERVICE;
        replica
            .absorb(Event::Restarted { kind, objects: vec![service("a", 80), service("b", 80)] });
        let touched = replica.absorb(Event::Restarted { kind, objects: vec![service("b", 80)] });
        assert_eq!(touched, [Touched::Service(ObjectKey::new("default", "a"))]);
        assert_eq!(replica.world().services().count(), 1);
    }

    #[test]
    fn a_list_in_pieces_takes_away_what_it_does_not_hold() {
        let mut replica = Replica::default();
        let kind = Kind::SERVICE;
        let listed = |name| Event::Listed { kind, object: service(name, 80) };
        let restarted = || Event::Restarted { kind, objects: Vec::new() };
        for event in [Event::Listing { kind }, listed("a"), listed("b"), restarted()] {
            drop(replica.absorb(event));
        }
        assert_eq!(replica.world().services().count(), 2);
        // A list that broke off says nothing.
        for event in [Event::Listing { kind }, listed("a"), Event::Listing { kind }, listed("b")] {
            assert_eq!(replica.absorb(event), []);
        }
        let touched = replica.absorb(restarted());
        assert_eq!(touched, [Touched::Service(ObjectKey::new("default", "a"))]);
    }

    #[test]
    fn an_object_gone_bad_is_as_good_as_absent() {
        let mut replica = Replica::default();
        let kind = Kind::SERVICE;
        replica.absorb(Event::Applied { kind, object: service("a", 80) });
        replica.absorb(Event::Applied { kind, object: service("a", 70_000) });
        assert_eq!(replica.world().services().count(), 0);
    }
}
