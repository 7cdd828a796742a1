use super::*;
use crate::resources::{self, Resource};
use crate::schema::{Root, Type};
use bytes::Bytes;
use fields::Id;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap());
    bytes
}

fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn number(at: u64, value: i64) -> Vec<u8> {
    [varint(at << 3), varint(value.cast_unsigned())].concat()
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), field(1, &meta), field(2, raw), field(3, b""), field(4, b"")].concat()
}

#[test]
fn a_service_as_kubectl_sends_it() {
    let metadata = [field(1, b"web"), field(3, b""), number(7, 0), field(8, b"")].concat();
    let target = [number(1, 1), number(2, 0), field(3, b"http")].concat();
    let port =
        [field(1, b""), field(2, b"TCP"), number(3, 80), field(4, &target), number(5, 0)].concat();
    let selector = [field(1, b"app"), field(2, b"web")].concat();
    let spec = [field(1, &port), field(2, &selector), field(3, b"")].concat();
    let service = [field(1, &metadata), field(2, &spec), field(3, &field(1, b""))].concat();
    let expected = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "status": {"loadBalancer": {}},
        "spec": {"ports": [{"protocol": "TCP", "port": 80, "targetPort": "http"}], "selector": {"app": "web"}},
    });
    assert_eq!(decode(&envelope("v1", "Service", &service)), Ok(expected));
}

#[test]
fn types_that_write_themselves() {
    let replicas = number(1, 0);
    let deployment = field(2, &replicas);
    let decoded = decode(&envelope("apps/v1", "Deployment", &deployment)).unwrap();
    assert_eq!(decoded["spec"]["replicas"], 0, "a pointer to zero is a zero");
    let entry = [field(1, b"k"), field(2, b"hi")].concat();
    let decoded = decode(&envelope("v1", "Secret", &field(2, &entry))).unwrap();
    assert_eq!(decoded["data"]["k"], "aGk=");
    let options = number(1, 0);
    let decoded = decode(&envelope("apps/v1", "DeleteOptions", &options)).unwrap();
    assert_eq!(decoded["gracePeriodSeconds"], 0);
    let about = field(8, &field(1, b"Pod"));
    let event = [field(2, &number(1, 60)), field(4, b"example.com/a"), about, field(10, b"m")];
    let decoded = decode(&envelope("events.k8s.io/v1", "Event", &event.concat())).unwrap();
    assert_eq!(decoded["eventTime"], "1970-01-01T00:01:00.000000Z");
    assert_eq!([&decoded["note"], &decoded["regarding"]["kind"]], ["m", "Pod"]);
    let renewed = [number(1, 60), number(2, 5_000)].concat();
    let decoded =
        decode(&envelope("coordination.k8s.io/v1", "Lease", &field(2, &field(4, &renewed))))
            .unwrap();
    assert_eq!(decoded["spec"]["renewTime"], "1970-01-01T00:01:00.000005Z");
}

#[test]
fn what_is_no_object_is_told() {
    assert_eq!(decode(b"{}"), Err(Fault::Magic));
    assert_eq!(
        decode(&envelope("v1", "Nothing", b"")),
        Err(Fault::UnknownType { api_version: "v1".into(), kind: "Nothing".into() })
    );
    let unreadable = Fault::Unreadable { api_version: "v1".into(), kind: "Pod".into() };
    assert_eq!(decode(&envelope("v1", "Pod", b"\x0a\x7f")), Err(unreadable));
}

/// A value of a type with something in every field, so far as it is not too deep.
fn filled(shape: Shape, seed: &mut u64, depth: usize) -> Value {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let number = i64::try_from(*seed >> 40).unwrap() + 1;
    let schema = |seed: &mut u64| filled(fields::shape_of(SCHEMA).unwrap(), seed, depth + 1);
    match shape {
        Shape::Int => (if number % 2 == 0 { number } else { -number }).into(),
        Shape::Flag => true.into(),
        Shape::Double => (number as f64 / 8.0).into(),
        Shape::Text => format!("text-{number}\n").into(),
        Shape::Bytes => base64::encode(&number.to_le_bytes()).into(),
        Shape::Time => crate::time::rfc3339(number).into(),
        Shape::MicroTime => crate::time::rfc3339(number)
            .replace('Z', &format!(".{:06}Z", number % 1_000_000))
            .into(),
        Shape::Quantity => format!("{number}m").into(),
        Shape::IntOrString if number % 2 == 0 => number.into(),
        Shape::IntOrString => format!("{number}%").into(),
        Shape::Raw => json!({"f:a": {"b": [number, null, "c\""]}}),
        Shape::SchemaOrFlag if number % 2 == 0 => true.into(),
        Shape::SchemaOrTexts if number % 2 == 0 => json!(["a", "b"]),
        Shape::SchemaOrArray if number % 2 == 0 => json!([schema(seed), schema(seed)]),
        Shape::Texts => json!(["a", "b"]),
        Shape::SchemaOrFlag | Shape::SchemaOrTexts | Shape::SchemaOrArray => schema(seed),
        Shape::Message(id) => {
            let mut object = Map::new();
            fill(&mut object, fields::at(id), seed, depth);
            object.into()
        }
    }
}

fn fill(object: &mut Map<String, Value>, message: &Message, seed: &mut u64, depth: usize) {
    for Field { name, shape, count, .. } in &message.slots {
        let schemas = [Shape::SchemaOrFlag, Shape::SchemaOrTexts, Shape::SchemaOrArray];
        let is_schema = schemas.contains(shape) || Some(*shape) == fields::shape_of(SCHEMA);
        if depth > 2 && is_schema || depth > 20 {
            continue;
        }
        let mut one = || filled(*shape, seed, depth + 1);
        let value = match count {
            Count::One { .. } => one(),
            Count::List => json!([one(), one()]),
            Count::Map => json!({"a": one(), "b/c": one()}),
        };
        object.insert((*name).into(), value);
    }
}

fn filled_object(resource: &Resource, mut seed: u64) -> Value {
    let fields = fields::of_kind(&resource.api_version(), resource.name).unwrap();
    let mut object = Map::new();
    fill(&mut object, fields, &mut seed, 0);
    object.insert("apiVersion".into(), resource.api_version().into());
    object.insert("kind".into(), resource.name.into());
    object.into()
}

fn kinds() -> impl Iterator<Item = &'static Resource> {
    let ours = resources::Kind::VirtualIP;
    resources::built_in().filter(move |it| it.kind != ours)
}

fn check_fields(root: Root<'_>, message: &Message, path: &str, seen: &mut BTreeSet<Id>) {
    let Type::Struct(node) = root.node() else { return };
    for name in node.fields.keys() {
        let found = message.slots.iter().find(|field| field.name == &**name);
        assert!(found.is_some() || ["apiVersion", "kind"].contains(&&**name), "{path}.{name}");
        let (Some(field), Some(inner)) = (found, root.field(name)) else { continue };
        let inner = match inner.node() {
            Type::List { items, .. } => inner.at(*items),
            Type::Map { values, .. } => inner.at(*values),
            _ => inner,
        };
        match field.shape {
            Shape::Message(id) if seen.insert(id) => {
                check_fields(inner, fields::at(id), &format!("{path}.{name}"), seen);
            }
            _ => {}
        }
    }
}

/// No field of the API that protobuf could not tell.
#[test]
fn every_field_has_a_number() {
    let mut seen = BTreeSet::new();
    for resource in kinds() {
        let fields = fields::of_kind(&resource.api_version(), resource.name);
        let fields = fields.unwrap_or_else(|| panic!("{}", resource.name));
        check_fields(resource.root().unwrap(), fields, resource.name, &mut seen);
    }
    assert!(seen.len() > 250, "{}", seen.len());
}

#[test]
fn groups_of_others_have_no_protobuf() {
    for (api_version, kind, expected) in [
        ("v1", "Pod", true),
        ("v1", "PodList", true),
        ("rbac.authorization.k8s.io/v1", "RoleList", true),
        ("meta.k8s.io/v1", "PartialObjectMetadataList", true),
        ("apps/v1", "DeleteOptions", true),
        ("apps.example.com/v1", "Deployment", false),
        ("podway.io/v1alpha1", "VirtualIP", false),
    ] {
        assert_eq!(knows(api_version, kind), expected, "{api_version} {kind}");
    }
}

#[test]
fn zeros_are_written_where_go_has_them() {
    let written = encode(br#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a","creationTimestamp":null}}"#);
    let metadata = [
        &field(1, b"a")[..],
        &field(2, b""),
        &field(3, b""),
        &field(4, b""),
        &field(5, b""),
        &field(6, b""),
        &number(7, 0),
        &field(8, b""),
    ]
    .concat();
    let raw = [field(1, &metadata), field(2, b""), field(3, &field(1, b""))].concat();
    assert_eq!(written.unwrap(), envelope("v1", "Namespace", &raw));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]
    #[test]
    fn what_is_written_is_read(seed in any::<u64>()) {
        for resource in kinds() {
            let object = filled_object(resource, seed);
            let octets = encode(object.to_string().as_bytes()).unwrap();
            prop_assert_eq!(decode(&octets), Ok(object.clone()), "{}", resource.name);
            let (mut item, name) = (object.clone(), format!("{}List", resource.name));
            item.as_object_mut().unwrap().retain(|name, _| name != "kind" && name != "apiVersion");
            let list = json!({"kind": name, "apiVersion": resource.api_version(),
                "metadata": {"resourceVersion": "7", "remainingItemCount": 0}, "items": [&item, &item]});
            let octets = encode(list.to_string().as_bytes()).unwrap();
            let (kind, metadata) = ((&*resource.api_version(), resource.name), list["metadata"].to_string());
            let items = [&item, &item].map(Value::to_string).into_iter();
            prop_assert!(encode_list(kind, metadata.as_bytes(), items) == Ok(octets.clone()));
            prop_assert_eq!(decode(&octets), Ok(list));
        }
    }
}

/// However letters are escaped, the octets are those of the shortest escapes.
#[test]
fn escapes_in_raw_json_are_the_shortest() {
    let object = |raw: &str| {
        let text = r#"{"apiVersion":"apps/v1","kind":"ControllerRevision","data":"#.to_owned();
        encode((text + raw + "}").as_bytes()).unwrap()
    };
    for (raw, expected) in [
        (r#"{"a":"\u003cb\u003e"}"#, r#"{"a":"<b>"}"#),
        (r#"{"a":"\/\"\\\n\u0001"}"#, r#"{"a":"/\"\\\n\u0001"}"#),
        (r#"{"k:{\"n\":1}":"\\u003c"}"#, r#"{"k:{\"n\":1}":"\\u003c"}"#),
    ] {
        let octets = object(raw);
        assert!(octets.windows(expected.len()).any(|it| it == expected.as_bytes()), "{raw}");
        assert_eq!(octets, object(expected));
    }
}

/// Values of other kinds than their fields are none, and texts that are cut off are told.
#[test]
fn what_is_no_value_of_a_field_is_its_zero() {
    let odd = r#"{"apiVersion":"v1","kind":"Pod","metadata":[],"spec":{"containers":{},"hostNetwork":"x","nodeName":7,
        "volumes":[null],"nodeSelector":3},"status":{"startTime":"never","unknown":[{"a":"]"}]}}"#;
    let plain = r#"{"kind":"Pod","apiVersion":"v1","spec":{"volumes":[{}],"nodeName":""},"status":{"startTime":null}}"#;
    let [odd_octets, plain_octets] = [odd, plain].map(|it| encode(it.as_bytes()).unwrap());
    let start_time = |octets: &Bytes| octets.windows(2).filter(|it| it == b"\x3a\0").count();
    assert_eq!((start_time(&odd_octets), start_time(&plain_octets)), (1, 0));
    assert_eq!(decode(&odd_octets), decode(&plain_octets));
    for end in 0..odd.len() - 1 {
        assert_eq!(encode(&odd.as_bytes()[..end]), Err(Fault::Broken), "{}", &odd[..end]);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_safe(kind in "(Pod|Service|Secret|Event)", raw in prop::collection::vec(any::<u8>(), 0..60)) {
        let _decoded = (decode(&envelope("v1", &kind, &raw)), decode(&[MAGIC, &raw].concat()));
    }
}
