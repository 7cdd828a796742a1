//! Cells of role bindings.

use super::items;
use serde_json::Value;

pub(crate) fn role(binding: &Value) -> Value {
    let role = &binding["roleRef"];
    let text = |field: &str| role[field].as_str().unwrap_or_default();
    format!("{}/{}", text("kind"), text("name")).into()
}

pub(crate) fn users(binding: &Value) -> Value {
    subjects(binding, "User")
}

pub(crate) fn groups(binding: &Value) -> Value {
    subjects(binding, "Group")
}

pub(crate) fn accounts(binding: &Value) -> Value {
    subjects(binding, "ServiceAccount")
}

fn subjects(binding: &Value, kind: &str) -> Value {
    let subjects = items(&binding["subjects"]).filter(|subject| subject["kind"] == kind);
    let name = |subject: &Value| {
        let text = |field: &str| subject[field].as_str().unwrap_or_default().to_owned();
        if kind == "ServiceAccount" {
            format!("{}/{}", text("namespace"), text("name"))
        } else {
            text("name")
        }
    };
    subjects.map(name).collect::<Vec<_>>().join(", ").into()
}
