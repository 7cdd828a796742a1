use super::*;
use crate::Object;
use proptest::prelude::*;
use serde_json::json;

/// The value of the only document, which gets a head so that it is an object of some kind.
fn spec_of(yaml: &str) -> Value {
    let text = format!("apiVersion: v1\nkind: Thing\n{yaml}");
    let mut documents = parse("t.yaml", &text).unwrap();
    assert_eq!(documents.len(), 1, "{yaml}");
    documents[0].value["spec"].take()
}

#[test]
fn yaml_means_what_kubectl_takes_it_for() {
    let rows = [
        ("spec: 010", json!(8)),
        ("spec: \"010\"", json!("010")),
        ("spec: '80'", json!("80")),
        ("spec: !!str 80", json!("80")),
        ("spec: !!int 80", json!(80)),
        ("spec: ! 80", json!("80")),
        ("spec: !!str .inf", json!(".inf")),
        ("spec: yes", json!(true)),
        ("spec:", json!(null)),
        ("spec: {a: 1, b: [x, 'y']}", json!({"a": 1, "b": ["x", "y"]})),
        ("spec: {1: a, true: b}", json!({"1": "a", "true": "b"})),
        ("spec: |\n  one\n  two\n", json!("one\ntwo\n")),
        ("spec: >-\n  one\n  two\n", json!("one two")),
        ("spec:\n- a\n-   - b\n", json!(["a", ["b"]])),
        ("x: &x {p: 1}\nspec: *x", json!({"p": 1})),
        ("x: &x {p: 1, q: 2}\nspec: {<<: *x, q: 3}", json!({"p": 1, "q": 3})),
        ("x: &x {p: 1}\ny: &y {p: 2, r: 4}\nspec: {<<: [*x, *y]}", json!({"p": 1, "r": 4})),
        ("spec: {\"<<\": 1}", json!({"<<": 1})),
        ("spec: 2026-01-02T03:04:05Z", json!("2026-01-02T03:04:05Z")),
    ];
    for (yaml, value) in rows {
        assert_eq!(spec_of(yaml), value, "{yaml}");
    }
}

#[test]
fn faulty_text_is_refused_with_its_place() {
    let rows = [
        ("a: [1,\n  2\nb: 3", "t.yaml:3:"),
        ("a: 1\nb: 2\na: 3", "t.yaml:3:1: `a` is here twice in one object, first in line 1"),
        ("a: {<<: 1}", "t.yaml:1:9: `<<` merges an object or a list of objects"),
        ("a: {<<: {}, <<: {}}", "t.yaml:1:13: `<<` is here twice"),
        ("a: *nobody", "t.yaml:1:4: "),
        ("a: &a [*a]", "t.yaml:1:8: "),
        ("a: &a 1\n---\nb: *a", "t.yaml:3:4: "),
        ("a: !Ref b", "t.yaml:1:4: `b` is not of the type its tag !Ref says"),
        ("a: !!int b", "t.yaml:1:4: `b` is not of the type its tag"),
        ("a: !!map [b]", "t.yaml:1:4: `a list` is not of the type its tag"),
        ("a: .inf", "t.yaml:1:4: .inf is a number that JSON"),
        ("{a: 1}: b", "t.yaml:1:1: a member name must be text"),
        ("a: \t\n\tb: 1", "t.yaml:2:"),
        ("# only\n- a", "t.yaml:2: expected an object with apiVersion and kind, found a list"),
        ("kind: A", "t.yaml:1: apiVersion: expected text such as v1 or apps/v1, found nothing"),
        (
            "apiVersion: v1\nkind: 3",
            "t.yaml:2: kind: expected text such as Service, found a number",
        ),
        ("{\"a\": 1,\n \"a\": 2}", "t.yaml:2:2: `a` is here twice in one object, first in line 1"),
    ];
    for (text, start) in rows {
        let error = parse("t.yaml", text).expect_err(text).to_string();
        assert!(error.starts_with(start), "{text:?}: {error}");
    }
}

#[test]
fn faulty_json_is_told_in_words_of_json() {
    let rows = [
        ("{\"a\":\n  tru}", "t.json:2:3: expected a JSON value"),
        ("{\"a\" 1}", "t.json:1:6: expected `:`"),
        ("{\"a\": [1 2]}", "t.json:1:10: expected `,` or `]`"),
        ("{\"a\": 1", "t.json:1:8: expected `,` or `}`"),
        ("{\"a\": \"b\n\"}", "t.json:1:7: expected a string, closed in its line"),
    ];
    for (text, message) in rows {
        let file: Arc<str> = "t.json".into();
        assert_eq!(json::read(&file, text).unwrap_err().to_string(), message, "{text:?}");
    }
    let error = parse("t.json", "{\"a\" 1}").unwrap_err().to_string();
    assert_eq!(error, "t.json:1:6: expected `:`");
}

#[test]
fn what_grows_without_bound_is_refused() {
    let mut bomb = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", vec![before; 9].join(", "));
    }
    assert!(matches!(parse("-", &bomb), Err(Error::TooManyCopies { .. })));
    for deep in ["[".repeat(5000), "- ".repeat(5000), "a: {b: ".repeat(60), "{\"a\":".repeat(5000)]
    {
        let error = parse("-", &deep).unwrap_err();
        assert!(matches!(error, Error::TooDeep { .. } | Error::Syntax { .. }), "{error}");
    }
}

#[test]
fn lists_are_taken_apart_and_empty_documents_left_out() {
    let text = "---\n# nothing\n---\napiVersion: v1\nkind: List\nitems:\n\
                - {apiVersion: v1, kind: Service, metadata: {name: a}}\n\
                - apiVersion: v1\n  kind: PodList\n  items:\n  - metadata: {name: b}\n---\n...\n---\n\
                {apiVersion: v1, kind: List, items: []}\n---\nnull\n";
    let documents = parse("-", text).unwrap();
    let found: Vec<_> = documents
        .iter()
        .map(|document| {
            let text = |pointer| document.value.pointer(pointer).unwrap().as_str().unwrap();
            (text("/apiVersion"), text("/kind"), text("/metadata/name"), document.line())
        })
        .collect();
    assert_eq!(found, [("v1", "Service", "a", 7), ("v1", "Pod", "b", 11)]);
    let stream = "{\"apiVersion\":\"v1\",\"kind\":\"A\"}\n{\"apiVersion\":\"v1\",\"kind\":\"B\"}";
    assert_eq!(parse("-", stream).unwrap().len(), 2);
    assert_eq!(parse("-", "").unwrap().len(), 0);
}

const SERVICE: &str = "\u{feff}# a comment
apiVersion: v1
kind: Service
metadata:
  name: web
  labels:
    app.kubernetes.io/name: web
    app: web
spec:
  type: NodePort
  ports:
  - name: http
    port: 80

  -
    name: https
    port: 443
    nodePort: 70000
";

#[test]
fn every_field_has_its_line() {
    let documents = parse("web.yaml", SERVICE).unwrap();
    let rows = [
        ("", Some(2)),
        ("kind", Some(3)),
        ("metadata.labels.app.kubernetes.io/name", Some(7)),
        ("metadata.labels.app", Some(8)),
        ("metadata.labels.apple", Some(6)),
        ("metadata.namespace", Some(4)),
        ("spec.ports", Some(11)),
        ("spec.ports[0]", Some(12)),
        ("spec.ports[0].port", Some(13)),
        ("spec.ports[0].nodePort", Some(12)),
        ("spec.ports[1].nodePort", Some(18)),
        ("spec.ports[2].port", Some(11)),
        ("spec.ports[x]", None),
        ("status.conditions[0]", Some(2)),
    ];
    for (path, line) in rows {
        assert_eq!(documents[0].line_of(path), line, "{path}");
    }
    let text = serde_json::to_string_pretty(&documents[0].value).unwrap();
    let again = parse("web.json", &text).unwrap();
    assert_eq!(again[0].value, documents[0].value);
    for (number, line) in text.lines().enumerate() {
        if line.contains("\"nodePort\"") {
            assert_eq!(again[0].line_of("spec.ports[1].nodePort"), Some(number + 1));
        }
    }
}

#[test]
fn loading_tells_every_fault_of_every_file() {
    let mut documents = parse("web.yaml", SERVICE).unwrap();
    let others = "apiVersion: v1\nkind: Node\nmetadata: {}\n---\n\
                  apiVersion: extensions/v1beta1\nkind: Deployment\nmetadata: {name: d, namespace: shop}\n---\n\
                  apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: k}\n";
    documents.extend(parse("more.yaml", others).unwrap());
    let told: Vec<_> = load(documents).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "web.yaml:18: Service default/web: spec.ports[1].nodePort: expected a node port number, \
             found 70000",
            "more.yaml:3: Node: metadata.name: expected a string, found nothing",
            "more.yaml:5: Deployment shop/d: apiVersion: expected apps/v1, found \"extensions/v1beta1\"",
        ]
    );
    let right = parse("ok.yaml", &SERVICE.replace("70000", "30443")).unwrap();
    let other = parse("cm.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}").unwrap();
    let loaded = load(right.into_iter().chain(other).collect()).unwrap();
    assert!(matches!(loaded[0].1, Some(Object::Service(_))));
    assert_eq!(loaded[1].1, None);
}

#[test]
fn fields_that_no_virtual_ip_has_are_told() {
    let rows = [
        (
            "addreses: [10.1.1.9]",
            "spec.addreses: expected addresses, nodeSelector, vrrp or listeners",
        ),
        ("vrrp: {preemptive: no}", "spec.vrrp.preemptive: expected virtualRouterId, advertisement"),
        (
            "listeners: [{port: 1, backends: {nodes: {port: 2}}, healthcheck: {}}]",
            "spec.listeners[0].healthcheck: expected name, protocol, port, algorithm, backends or",
        ),
    ];
    for (slip, told) in rows {
        let head = "apiVersion: podway.io/v1alpha1\nkind: VirtualIP\nmetadata: {name: v}\nspec:\n";
        let text = format!("{head}  addresses: [10.1.1.8]\n  {slip}\n");
        let errors = load(parse("v.yaml", &text).unwrap()).unwrap_err();
        let begin = format!("v.yaml:6: VirtualIP v: {told}");
        assert!(errors[0].to_string().starts_with(&begin), "{}", errors[0]);
    }
}

fn json_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 8.0 + 0.0625)),
        any::<String>().prop_map(Value::from),
        "[a-z0-9.:#&*!|>{}\\[\\]',\"<~ -]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-z0-9.: -]{0,8}|.{0,4}", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn json_reads_as_serde_json_reads_it(spec in json_values(), pretty in any::<bool>()) {
        let value = json!({"apiVersion": "v1", "kind": "Thing", "spec": spec});
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let documents = parse("t.json", &text.unwrap()).unwrap();
        prop_assert_eq!(&documents[0].value, &value);
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), yaml in "[-a: \\n\\t\\[\\]{},&*!|>'\"#%?<~0x.]{0,60}") {
        for text in [&text, &yaml, &format!("{{{yaml}"), &format!("a: &a\n  {yaml}\nb: *a")] {
            if let Ok(documents) = parse("-", text) {
                load(documents).map(|_| ()).unwrap_or_default();
            }
        }
    }

    #[test]
    fn broken_manifests_do_not_make_it_panic(cut in 0_usize..400, junk in "[\\PC\\n]{0,8}") {
        let text: String = SERVICE.chars().take(cut).chain(junk.chars()).chain(SERVICE.chars().skip(cut)).collect();
        if let Ok(documents) = parse("-", &text) {
            prop_assert!(documents.iter().all(|document| document.line() >= 1));
        }
    }
}
