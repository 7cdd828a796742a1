//! Label and field selectors, as list and watch requests carry them.
//!
//! Grammar: <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#api> and
//! `k8s.io/apimachinery/pkg/{labels,fields}`.

use crate::error::Error;
use crate::resources::Resource;
use crate::store::Object;
use serde_json::Value;

/// Which objects a request is about. The default is all.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Selector {
    labels: Vec<Label>,
    fields: Vec<Field>,
}

#[derive(Debug, Clone, PartialEq)]
struct Label {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
    GreaterThan(i64),
    LessThan(i64),
}

#[derive(Debug, Clone, PartialEq)]
struct Field {
    path: Vec<String>,
    value: String,
    equal: bool,
}

impl Selector {
    pub(crate) fn parse(labels: &str, fields: &str) -> Result<Self, Error> {
        Ok(Self { labels: parse_labels(labels)?, fields: parse_fields(fields)? })
    }

    /// The same selector of objects as they are stored, of one that uses the names of a form.
    #[must_use]
    pub(crate) fn stored(mut self, form: &Resource) -> Self {
        for field in &mut self.fields {
            let path = field.path.join(".");
            field.path = form.stored_path(&path).split('.').map(str::to_owned).collect();
        }
        self
    }

    /// Whether the kind's objects can be selected by these fields.
    pub(crate) fn check(&self, resource: &Resource) -> Result<(), Error> {
        let known = |field: &&Field| {
            let path = field.path.join(".");
            matches!(path.as_str(), "metadata.name" | "metadata.namespace")
                || resource.selectable().contains(&path.as_str())
        };
        let Some(unknown) = self.fields.iter().find(|field| !known(field)) else { return Ok(()) };
        let path = unknown.path.join(".");
        let message = match resource.selectable() {
            [] if !resource.is_custom() => format!(
                r#""{path}" is not a known field selector: only "metadata.name", "metadata.namespace""#
            ),
            _ => format!("field label not supported: {path}"),
        };
        Err(Error::BadRequest { message })
    }

    /// A selector as objects hold it: `matchLabels` and `matchExpressions`. What is missing selects nothing, what is
    /// empty everything; `None`: there is an operator that nobody knows.
    pub(crate) fn of_object(selector: &Value) -> Option<Self> {
        if selector.is_null() {
            let labels = vec![Label { key: String::new(), test: Test::Exists }];
            return Some(Self { labels, fields: Vec::new() });
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let equal = selector["matchLabels"].as_object().into_iter().flatten();
        let equal = equal.map(|(key, value)| {
            Some(Label { key: key.clone(), test: Test::In(vec![text(value)]) })
        });
        let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
        let expressions = expressions.map(|expression| {
            let values = || expression["values"].as_array().into_iter().flatten().map(text);
            let test = match expression["operator"].as_str()? {
                "In" => Test::In(values().collect()),
                "NotIn" => Test::NotIn(values().collect()),
                "Exists" => Test::Exists,
                "DoesNotExist" => Test::Absent,
                _ => return None,
            };
            Some(Label { key: text(&expression["key"]), test })
        });
        let labels = equal.chain(expressions).collect::<Option<_>>()?;
        Some(Self { labels, fields: Vec::new() })
    }

    /// Whether it selects everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, object: &Object) -> bool {
        self.labels_match(object) && self.fields.iter().all(|field| field.holds(object))
    }

    fn labels_match(&self, object: &Object) -> bool {
        self.labels.is_empty() || self.selects(&object.look(&["metadata", "labels"]))
    }

    /// Whether it selects an object with these labels, whatever its fields.
    pub(crate) fn selects(&self, labels: &Value) -> bool {
        self.labels.iter().all(|label| label.test.holds(labels[&label.key].as_str()))
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match self {
            Self::Exists => value.is_some(),
            Self::Absent => value.is_none(),
            Self::In(values) => value.is_some_and(|value| values.iter().any(|v| v == value)),
            Self::NotIn(values) => value.is_none_or(|value| values.iter().all(|v| v != value)),
            Self::GreaterThan(bound) => number().is_some_and(|number| number > *bound),
            Self::LessThan(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

impl Field {
    fn holds(&self, object: &Object) -> bool {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let text = match path[..] {
            // Who has told an Event stands in one of two places.
            ["source"] => {
                let source = text_at(object, &["source", "component"]);
                if source.is_empty() { text_at(object, &["reportingComponent"]) } else { source }
            }
            _ => text_at(object, &path),
        };
        (text == self.value) == self.equal
    }
}

/// Flags and numbers that an object is silent about are no and zero.
fn text_at(object: &Object, path: &[&str]) -> String {
    match object.look(path).into_owned() {
        Value::String(text) => text,
        Value::Null => match path {
            ["spec", "unschedulable" | "hostNetwork"] => "false".to_owned(),
            ["status", "replicas" | "successful"] => "0".to_owned(),
            _ => String::new(),
        },
        Value::Array(_) | Value::Object(_) => String::new(),
        other => other.to_string(),
    }
}

fn parse_fields(text: &str) -> Result<Vec<Field>, Error> {
    split_unescaped(text)
        .into_iter()
        .filter(|term| !term.is_empty())
        .map(|term| parse_field(&term))
        // Nothing that equals nothing selects everything.
        .filter(|field| !field.as_ref().is_ok_and(|it| it.path == [""] && it.value.is_empty()))
        .collect()
}

fn parse_field(term: &str) -> Result<Field, Error> {
    let operators = [("!=", false), ("==", true), ("=", true)];
    let found =
        operators.iter().filter_map(|(sign, equal)| Some((term.find(sign)?, *sign, *equal)));
    let first = found.min_by_key(|(at, sign, _)| (*at, std::cmp::Reverse(sign.len())));
    let Some((at, sign, equal)) = first else {
        let message = format!("invalid selector: '{term}'; can't understand '{term}'");
        return Err(Error::BadRequest { message });
    };
    let path = term[..at].trim().split('.').map(str::to_owned).collect();
    Ok(Field { path, value: unescape(&term[at + sign.len()..]), equal })
}

/// Splits at commas that no backslash hides.
fn split_unescaped(text: &str) -> Vec<String> {
    let (mut terms, mut term, mut hidden) = (Vec::new(), String::new(), false);
    for letter in text.chars() {
        match letter {
            ',' if !hidden => terms.push(std::mem::take(&mut term)),
            _ => term.push(letter),
        }
        hidden = letter == '\\' && !hidden;
    }
    terms.push(term);
    terms
}

fn unescape(text: &str) -> String {
    let mut letters = text.chars();
    let mut plain = String::new();
    while let Some(letter) = letters.next() {
        plain.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    plain
}

fn parse_labels(text: &str) -> Result<Vec<Label>, Error> {
    split_outside_brackets(text)
        .map(str::trim)
        .filter(|term| !term.is_empty())
        .map(parse_label)
        .collect()
}

/// Splits at commas outside of `(…)`.
fn split_outside_brackets(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    text.split(move |letter| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    })
}

fn parse_label(term: &str) -> Result<Label, Error> {
    let sign = ["==", "=", "!=", "<", ">", "("].into_iter().find(|sign| term.starts_with(sign));
    let message = match sign {
        Some(sign) => format!("found '{sign}', expected: !, identifier, or 'end of string'"),
        None => format!("unable to parse requirement: {term:?}"),
    };
    let bad = || Error::BadRequest { message: message.clone() };
    if let Some(key) = term.strip_prefix('!') {
        return Ok(Label { key: label_key(key).ok_or_else(bad)?, test: Test::Absent });
    }
    let end = term.find(|c: char| c.is_whitespace() || "=!<>(".contains(c)).unwrap_or(term.len());
    let (key, rest) = (label_key(&term[..end]).ok_or_else(bad)?, term[end..].trim());
    let test = parse_test(rest).ok_or_else(bad)?;
    Ok(Label { key, test })
}

fn parse_test(text: &str) -> Option<Test> {
    if text.is_empty() {
        return Some(Test::Exists);
    }
    let sign = |sign: &str| text.strip_prefix(sign).map(str::trim);
    if let Some(value) = sign("!=") {
        return Some(Test::NotIn(vec![label_value(value)?]));
    }
    if let Some(value) = sign("==").or_else(|| sign("=")) {
        return Some(Test::In(vec![label_value(value)?]));
    }
    if let Some(set) = sign("notin") {
        return Some(Test::NotIn(label_values(set)?));
    }
    if let Some(set) = sign("in") {
        return Some(Test::In(label_values(set)?));
    }
    if let Some(bound) = sign(">") {
        return Some(Test::GreaterThan(bound.parse().ok()?));
    }
    Some(Test::LessThan(sign("<")?.parse().ok()?))
}

fn label_values(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('(')?.strip_suffix(')')?;
    inner.split(',').map(|value| label_value(value.trim())).collect()
}

fn label_key(text: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let text = text.trim();
    (!text.is_empty() && text.chars().all(plain)).then(|| text.to_owned())
}

fn label_value(text: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.chars().all(plain).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn labels_and_fields_select() {
        let pod = Object::unsaved(json!({
            "metadata": {"name": "web-1", "labels": {"app": "web", "tier": "", "n": "7"}},
            "spec": {"nodeName": "a,b", "hostNetwork": true},
        }));
        for (labels, fields, expected) in [
            ("", "", true),
            ("app=web", "", true),
            ("app==web,tier", "", true),
            ("app!=web", "", false),
            ("app in (web, db)", "", true),
            ("app notin (web,db)", "", false),
            ("other notin (web)", "", true),
            ("!other, app", "", true),
            ("!app", "", false),
            ("tier=", "", true),
            ("n>6,n<8", "", true),
            ("n > 7", "", false),
            ("", "metadata.name=web-1", true),
            ("", "metadata.name!=web-1", false),
            ("", r"spec.nodeName=a\,b", true),
            ("", "spec.nodeName=", false),
            ("", "status.phase=", true),
            ("", "spec.hostNetwork=true,metadata.name==web-1", true),
            ("app=web", "spec.nodeName=x", false),
        ] {
            let selector = Selector::parse(labels, fields).unwrap();
            assert_eq!(selector.matches(&pod), expected, "{labels} {fields}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for (labels, fields) in
            [("app in web", ""), ("=x", ""), ("a b", ""), ("a=b=c", ""), ("", "name"), ("n>x", "")]
        {
            assert!(
                matches!(Selector::parse(labels, fields), Err(Error::BadRequest { .. })),
                "{labels} {fields}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_safe(labels in "\\PC{0,40}", fields in "\\PC{0,40}") {
            if let Ok(selector) = Selector::parse(&labels, &fields) {
                let _matched = selector.matches(&Object::unsaved(json!({"metadata": {}})));
            }
        }
    }
}
