//! Decoding by types: what a field cannot be is refused, what nobody knows is dropped and told.
//!
//! Wording is that of Go's `encoding/json` and of `sigs.k8s.io/json`, which clients show to people.

use super::{Id, Root, Struct, Type};
use serde_json::Value;

/// Drops the fields that the type does not have and adds them to `unknown`, as `unknown field "spec.x"`.
///
/// # Errors
/// The first field of the wrong type, in a sentence.
pub(crate) fn decode(
    root: Root<'_>,
    value: &mut Value,
    unknown: &mut Vec<String>,
) -> Result<(), String> {
    Place::default().decode(root, value, unknown)
}

/// As [`decode`], with whatever types: schemas of custom kinds are validated elsewhere.
pub(crate) fn prune(root: Root<'_>, value: &mut Value, unknown: &mut Vec<String>) {
    let mut place = Place { lenient: true, ..Place::default() };
    // A lenient place refuses nothing.
    place.decode(root, value, unknown).unwrap_or_default();
}

/// Where in an object we are: for people with indices, for Go without.
#[derive(Default)]
struct Place {
    path: String,
    fields: Vec<String>,
    owner: String,
    /// Types do not matter.
    lenient: bool,
}

impl Place {
    fn decode(
        &mut self,
        root: Root<'_>,
        value: &mut Value,
        unknown: &mut Vec<String>,
    ) -> Result<(), String> {
        match (root.node(), &mut *value) {
            (_, Value::Null) | (Type::Any, _) => Ok(()),
            (Type::Struct(node), Value::Object(fields)) => {
                let outer = std::mem::replace(&mut self.owner, node.name.to_string());
                if !node.open {
                    self.drop_unknown(node, fields, unknown);
                }
                for (name, value) in fields.iter_mut() {
                    let Some(id) = node.fields.get(name.as_str()) else { continue };
                    self.below(&format!(".{name}"), Some(name), |place| {
                        place.decode(root.at(*id), value, unknown)
                    })?;
                }
                self.owner = outer;
                Ok(())
            }
            (Type::Map { values, .. }, Value::Object(fields)) => {
                let mut fields = fields.iter_mut();
                fields.try_for_each(|(name, value)| {
                    self.below(&format!(".{name}"), None, |place| {
                        place.decode(root.at(*values), value, unknown)
                    })
                })
            }
            (Type::List { items, .. }, Value::Array(list)) => {
                let mut list = list.iter_mut().enumerate();
                list.try_for_each(|(index, value)| {
                    self.below(&format!("[{index}]"), None, |place| {
                        place.decode(root.at(*items), value, unknown)
                    })
                })
            }
            (_, value) => self.scalar(root, value),
        }
    }

    fn drop_unknown(
        &self,
        node: &Struct,
        fields: &mut serde_json::Map<String, Value>,
        unknown: &mut Vec<String>,
    ) {
        fields.retain(|name, _| {
            let known = node.fields.contains_key(name.as_str());
            if !known {
                let path = format!("{}.{name}", self.path);
                unknown.push(format!("unknown field {:?}", path.trim_start_matches('.')));
            }
            known
        });
    }

    /// Goes down a step and comes back.
    fn below<T>(&mut self, step: &str, field: Option<&str>, act: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        self.path.push_str(step);
        self.fields.extend(field.map(str::to_owned));
        let result = act(self);
        self.path.truncate(length);
        if field.is_some() {
            self.fields.pop();
        }
        result
    }

    fn scalar(&self, root: Root<'_>, value: &Value) -> Result<(), String> {
        let fits = match root.node() {
            Type::Text => value.is_string(),
            Type::Integer { long: true } => value.is_i64() || value.is_u64(),
            Type::Integer { long: false } => {
                value.as_i64().is_some_and(|number| i32::try_from(number).is_ok())
            }
            Type::Number => value.is_number(),
            Type::Flag => value.is_boolean(),
            Type::IntegerOrText => {
                value.is_string() || value.as_i64().is_some_and(|it| i32::try_from(it).is_ok())
            }
            Type::Bytes => match value.as_str().map(illegal_byte) {
                Some(Some(at)) if !self.lenient => {
                    return Err(format!("illegal base64 data at input byte {at}"));
                }
                Some(_) => true,
                None => false,
            },
            Type::Time { micro } => match value {
                Value::String(text) if !self.lenient => {
                    return crate::time::parse(text, *micro).map_err(|fault| fault.to_string());
                }
                value => value.is_string(),
            },
            Type::Quantity => match value {
                Value::String(text) if is_quantity(text) => true,
                Value::String(_) if !self.lenient => return Err(QUANTITY.to_owned()),
                value => value.is_number(),
            },
            Type::Any | Type::Map { .. } | Type::List { .. } | Type::Struct(_) => false,
        };
        if fits || self.lenient {
            return Ok(());
        }
        let (found, wanted) = (go_value(value, root.node()), go_type(root, root.id));
        if self.fields.is_empty() {
            return Err(format!("json: cannot unmarshal {found} into Go value of type {wanted}"));
        }
        let field = format!("{}.{}", self.owner, self.fields.join("."));
        Err(format!("json: cannot unmarshal {found} into Go struct field {field} of type {wanted}"))
    }
}

const QUANTITY: &str = "quantities must match the regular expression \
                        '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

pub(crate) fn is_quantity(text: &str) -> bool {
    let rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    let number = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    if number.len() == rest.len() {
        return false;
    }
    let suffix = number.trim_start_matches(|c: char| "eEinumkKMGTP".contains(c));
    let exponent = suffix.strip_prefix(['+', '-']).unwrap_or(suffix);
    exponent.chars().all(|c| c.is_ascii_digit())
}

/// Where text stops to be base64 (RFC 4648, padded), if it does, as Go counts: an unfinished group from its beginning.
fn illegal_byte(text: &str) -> Option<usize> {
    let octets = text.as_bytes();
    let mut digits = 0;
    for (at, octet) in octets.iter().enumerate() {
        match octet {
            b'=' => return illegal_end(octets, at, digits),
            b'\n' | b'\r' => {}
            b'+' | b'/' => digits = (digits + 1) % 4,
            digit if digit.is_ascii_alphanumeric() => digits = (digits + 1) % 4,
            _ => return Some(at),
        }
    }
    (digits > 0).then(|| octets.len() - digits)
}

/// The same from the first padding on, before which a group has so many digits.
fn illegal_end(octets: &[u8], at: usize, digits: usize) -> Option<usize> {
    let text_from = |at: usize| {
        let rest = octets.iter().skip(at);
        at + rest.take_while(|octet| matches!(octet, b'\n' | b'\r')).count()
    };
    let mut rest = text_from(at + 1);
    match (digits, octets.get(rest)) {
        (0 | 1, _) => return Some(at),
        (2, None) => return Some(octets.len()),
        (2, Some(b'=')) => rest = text_from(rest + 1),
        (2, Some(_)) => return Some(rest - 1),
        _ => {}
    }
    (rest < octets.len()).then_some(rest)
}

fn go_value(value: &Value, wanted: &Type) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(number) if matches!(wanted, Type::Integer { .. }) => {
            format!("number {number}")
        }
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(_) => "array".into(),
        Value::Object(_) => "object".into(),
    }
}

fn go_type(root: Root<'_>, id: Id) -> String {
    match root.types.of(id) {
        Type::Text | Type::Time { .. } => "string".into(),
        Type::Integer { long: true } => "int64".into(),
        Type::Integer { long: false } => "int32".into(),
        Type::Number => "float64".into(),
        Type::Flag => "bool".into(),
        Type::IntegerOrText => "intstr.IntOrString".into(),
        Type::Quantity => "resource.Quantity".into(),
        Type::Bytes => "[]uint8".into(),
        Type::Any => "interface {}".into(),
        Type::Map { values, .. } => format!("map[string]{}", go_type(root, *values)),
        Type::List { items, .. } => format!("[]{}", go_type(root, *items)),
        Type::Struct(node) => format!("v1.{}", node.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Kind;
    use crate::schema::builtin;
    use serde_json::json;

    fn check(kind: Kind, mut value: Value) -> (Result<(), String>, Vec<String>, Value) {
        let mut unknown = Vec::new();
        let outcome =
            decode(builtin::root(kind.resource()).expect("a root"), &mut value, &mut unknown);
        (outcome, unknown, value)
    }

    #[test]
    fn unknown_fields_are_dropped_and_told() {
        let template = json!({"spec": {"containers": [{"name": "c", "imgae": "x"}]}, "labels": {}});
        let deployment = json!({"kind": "Deployment", "metadata": {"labels": {"any": "thing"}, "annots": {}},
            "spec": {"replcas": 2, "replicas": 3, "template": template}});
        let (outcome, unknown, left) = check(Kind::Deployment, deployment);
        assert_eq!(outcome, Ok(()));
        let expected = [
            r#"unknown field "metadata.annots""#,
            r#"unknown field "spec.replcas""#,
            r#"unknown field "spec.template.labels""#,
            r#"unknown field "spec.template.spec.containers[0].imgae""#,
        ];
        assert_eq!(unknown, expected);
        assert_eq!(left["spec"]["replicas"], 3);
        assert_eq!(left["metadata"], json!({"labels": {"any": "thing"}}));
    }

    #[test]
    fn wrong_types_are_refused_in_the_words_of_go() {
        for (kind, value, expected) in [
            (
                Kind::Service,
                json!({"spec": {"ports": [{"port": "x"}]}}),
                "json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32",
            ),
            (
                Kind::Service,
                json!({"spec": []}),
                "json: cannot unmarshal array into Go struct field Service.spec of type v1.ServiceSpec",
            ),
            (
                Kind::Service,
                json!({"metadata": {"labels": {"a": 1}}}),
                "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
            ),
            (
                Kind::Service,
                json!({"spec": {"ports": [{"port": 3_000_000_000_u32}]}}),
                "json: cannot unmarshal number 3000000000 into Go struct field ServicePort.spec.ports.port of type int32",
            ),
            (
                Kind::Pod,
                json!({"spec": {"containers": {}}}),
                "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
            ),
            (
                Kind::Pod,
                json!({"spec": {"containers": [{"resources": {"limits": {"cpu": "much"}}}]}}),
                QUANTITY,
            ),
            (
                Kind::Lease,
                json!({"spec": {"renewTime": "2026-01-02T03:04:05Z"}}),
                r#"parsing time "2026-01-02T03:04:05Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000""#,
            ),
            (
                Kind::Lease,
                json!({"metadata": {"creationTimestamp": "today"}}),
                r#"parsing time "today" as "2006-01-02T15:04:05Z07:00": cannot parse "today" as "2006""#,
            ),
            (Kind::Secret, json!({"data": {"a": "$"}}), "illegal base64 data at input byte 0"),
            (
                Kind::Secret,
                json!([]),
                "json: cannot unmarshal array into Go value of type v1.Secret",
            ),
        ] {
            assert_eq!(check(kind, value).0, Err(expected.to_owned()));
        }
    }

    #[test]
    fn where_base64_ends() {
        for (text, expected) in [
            ("", None),
            ("aGk=", None),
            ("aA=\n=\n", None),
            ("$", Some(0)),
            ("1", Some(0)),
            ("aGkx1", Some(4)),
            ("a===", Some(1)),
            ("ab=", Some(3)),
            ("ab=x", Some(2)),
            ("aGk=x", Some(4)),
        ] {
            assert_eq!(illegal_byte(text), expected, "{text:?}");
        }
    }

    #[test]
    fn odd_types_fit() {
        let resources =
            json!({"limits": {"cpu": 1, "memory": "64Mi"}, "requests": {"cpu": "100m"}});
        let probe = json!({"httpGet": {"port": "web"}});
        let pod = json!({"spec": {"containers": [{"resources": resources, "livenessProbe": probe}], "nodeName": null}});
        assert_eq!(check(Kind::Pod, pod).0, Ok(()));
        assert_eq!(check(Kind::Secret, json!({"data": {"a": "aGk=", "b": ""}})).0, Ok(()));
        let any =
            json!({"spec": {"nodeSelector": {"matchLabels": {"a": "b"}}}, "status": {"later": 1}});
        let (outcome, unknown, left) = check(Kind::VirtualIP, any.clone());
        assert_eq!((outcome, unknown, left), (Ok(()), vec![], any));
    }
}
