//! How many there are of something, and how many there shall be, seen as one object whatever the kind.

use super::{Part, Registry, Write, meta};
use crate::error::{Cause, Error, Reason};
use crate::resources::{Kind, Scale};
use crate::store::{Key, Object};
use crate::table;
use serde_json::{Value, json};
use std::sync::Arc;

impl Registry {
    /// Writes the replicas that a Scale object asks for.
    pub(crate) fn rescale(
        &mut self,
        kind: Kind,
        key: &Key,
        scale: Scale,
        wanted: &Value,
        write: Write<'_>,
    ) -> Result<Arc<Object>, Error> {
        let (resource, old) = (write.resource(kind), self.get(kind, key)?);
        meta::check_same(resource, key, wanted, &old.value)?;
        let replicas = match &wanted["spec"]["replicas"] {
            Value::Null => 0.into(),
            count if count.as_i64().is_some_and(|count| count >= 0) => count.clone(),
            other => {
                let message = format!("Invalid value: {other}: must be greater than or equal to 0");
                let field = "spec.replicas".into();
                let causes = vec![Cause { reason: Reason::Invalid, field, message }];
                return Err(Error::Scale { name: key.name.clone(), causes });
            }
        };
        let mut object = resource.shown(&old.value).into_owned();
        if let Some(place) = object.pointer_mut(scale.wanted) {
            *place = replicas;
        } else {
            object["spec"]["replicas"] = replicas;
        }
        self.update(kind, key, Part::Scale, object, write)
    }
}

/// `autoscaling/v1` Scale
pub(crate) fn view(scale: Scale, object: &Value) -> Value {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let fields = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"];
    let metadata = fields
        .iter()
        .filter_map(|field| Some(((*field).to_owned(), object["metadata"].get(*field)?.clone())));
    let mut status = json!({"replicas": number(scale.current)});
    if let Some(selector) = object.pointer(scale.selector) {
        status["selector"] = selector_text(selector).into();
    }
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata.collect::<serde_json::Map<_, _>>(),
        "spec": {"replicas": number(scale.wanted)},
        "status": status,
    })
}

fn selector_text(selector: &Value) -> String {
    if let Some(text) = selector.as_str() {
        return text.to_owned();
    }
    let plain = selector.get("matchLabels").is_none() && selector.get("matchExpressions").is_none();
    let whole = if plain { json!({"matchLabels": selector}) } else { selector.clone() };
    table::selector(&whole, "").as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Kind;

    #[test]
    fn views() {
        let deployment = json!({"metadata": {"name": "web", "labels": {"a": "b"}}, "status": {"replicas": 2},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}}});
        let scale = Kind::Deployment.resource().scale.expect("deployments scale");
        let seen = view(scale, &deployment);
        assert_eq!(seen["metadata"], json!({"name": "web"}));
        assert_eq!(
            (&seen["spec"]["replicas"], &seen["status"]["replicas"]),
            (&json!(3), &json!(2))
        );
        assert_eq!(seen["status"]["selector"], "app=web");
        assert_eq!(selector_text(&json!({"app": "web"})), "app=web");
    }
}
