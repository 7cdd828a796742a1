//! Values as YAML in blocks, keys in the order of the alphabet.

use serde_json::Value;

pub(crate) fn text(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => block(&mut out, value, 0),
        Value::Array(items) if !items.is_empty() => block(&mut out, value, 0),
        other => out.push_str(&(scalar(other) + "\n")),
    }
    out
}

/// Lines of a mapping or a list; the first one is indented already where it stands behind a dash.
fn block(out: &mut String, value: &Value, indent: usize) {
    let mut first = out.ends_with("- ");
    let mut begin = |out: &mut String| {
        if !std::mem::take(&mut first) {
            out.push_str(&" ".repeat(indent));
        }
    };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                begin(out);
                out.push_str(&word(name));
                out.push(':');
                within(out, value, indent);
            }
        }
        Value::Array(items) => {
            for item in items {
                begin(out);
                out.push_str("- ");
                match is_block(item) {
                    true => block(out, item, indent + 2),
                    false => out.push_str(&(scalar(item) + "\n")),
                }
            }
        }
        _ => {}
    }
}

/// What stands behind a key: lists are indented as deep as it, mappings deeper.
fn within(out: &mut String, value: &Value, indent: usize) {
    if !is_block(value) {
        out.push_str(&format!(" {}\n", scalar(value)));
        return;
    }
    out.push('\n');
    block(out, value, if value.is_array() { indent } else { indent + 2 });
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), word)
}

/// Text as it is, or in quotes where it could be taken for something else.
fn word(text: &str) -> String {
    const WORDS: [&str; 10] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", ".inf"];
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_./- ".contains(letter);
    let begins = text.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '/');
    let is_plain = begins && text.chars().all(plain) && !text.ends_with(' ');
    match is_plain && !WORDS.contains(&text.to_ascii_lowercase().as_str()) {
        true => text.to_owned(),
        // Quotes and escapes of JSON are YAML's, too.
        false => Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn blocks() {
        let value = json!({"kind": "A", "empty": {}, "none": [], "n": 1, "yes": "no", "at": "2026-01-01T00:00:00Z",
            "items": [{"a": "x", "b": {"c": [[1, 2], "- y"]}}, null]});
        let expected = "at: \"2026-01-01T00:00:00Z\"\nempty: {}\nitems:\n- a: x\n  b:\n    c:\n    - - 1\n      - 2\n    \
                        - \"- y\"\n- null\nkind: A\n\"n\": 1\nnone: []\n\"yes\": \"no\"\n";
        assert_eq!(text(&value), expected);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "\\PC{0,8}|[a-z0-9.:# -]{0,6}|yes|~|1e3|0x1f|\n".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let map = prop::collection::btree_map("[a-zA-Z0-9~. -]{1,5}", inner.clone(), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::from),
                map.prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in values()) {
            let written: String = text(&value).lines().map(|line| format!("  {line}\n")).collect();
            let manifest = format!("apiVersion: v1\nkind: Body\nbody:\n{written}");
            let read = model::manifest::parse("test", &manifest).expect("YAML");
            prop_assert_eq!(&read[0].value["body"], &value);
        }
    }
}
