//! JSON paths of printer columns, as far as definitions use them: fields, numbers, and choices by a field's value.
//!
//! <https://kubernetes.io/docs/reference/kubectl/jsonpath/>

use serde_json::Value;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    Item(usize),
    All,
    /// Items whose field has this value: `[?(@.type=="Ready")]`
    Where(String, String),
}

impl Path {
    /// What is not understood leads nowhere.
    pub(crate) fn parse(text: &str) -> Self {
        let (mut steps, mut rest) = (Vec::new(), text.trim());
        while !rest.is_empty() {
            let (step, after) = next(rest).unwrap_or((Step::Field(String::new()), ""));
            steps.push(step);
            rest = after;
        }
        Self(steps)
    }

    /// Everything that it leads to.
    pub(crate) fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![value];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.take(value)).collect();
        }
        found.retain(|value| !value.is_null());
        found
    }
}

impl Step {
    fn take<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let items = || value.as_array().into_iter().flatten();
        match self {
            Self::Field(name) => value.get(name).into_iter().collect(),
            Self::Item(index) => value.get(index).into_iter().collect(),
            Self::All => items().collect(),
            Self::Where(field, wanted) => items().filter(|item| item[field] == *wanted).collect(),
        }
    }
}

fn next(text: &str) -> Option<(Step, &str)> {
    if let Some(rest) = text.strip_prefix('.') {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let name = rest[..end].replace('\\', "");
        return Some((Step::Field(name), &rest[end..]));
    }
    let (inner, rest) = text.strip_prefix('[')?.split_once(']')?;
    if let Some(choice) = inner.strip_prefix("?(@.") {
        let (field, value) = choice.strip_suffix(')')?.split_once("==")?;
        let value = value.trim().trim_matches(['"', '\'']);
        return Some((Step::Where(field.trim().to_owned(), value.to_owned()), rest));
    }
    let step = match inner {
        "*" => Step::All,
        _ => match inner.parse() {
            Ok(index) => Step::Item(index),
            Err(_) => Step::Field(inner.trim_matches(['"', '\'']).to_owned()),
        },
    };
    Some((step, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn paths() {
        let object = json!({"spec": {"n": 3, "list": [{"type": "A", "v": "x"}, {"type": "Ready", "v": "y"}], "a.b": "z"}});
        for (path, expected) in [
            (".spec.n", json!([3])),
            (".spec.list[1].v", json!(["y"])),
            (".spec.list[*].v", json!(["x", "y"])),
            (r#".spec.list[?(@.type=="Ready")].v"#, json!(["y"])),
            (".spec['a.b']", json!(["z"])),
            (".spec.none.deeper", json!([])),
            ("nonsense", json!([])),
        ] {
            assert_eq!(json!(Path::parse(path).find(&object)), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_safe(text in "\\PC{0,40}") {
            let _found = Path::parse(&text).find(&json!({"a": [1]}));
        }
    }
}
