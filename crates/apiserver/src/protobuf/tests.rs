use super::*;
use proptest::prelude::*;

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
        Err(Fault::UnknownType("core.v1.Nothing".into()))
    );
    assert_eq!(decode(&envelope("v1", "Pod", b"\x0a\x7f")), Err(Fault::Broken));
}

proptest! {
    #[test]
    fn any_bytes_are_safe(kind in "(Pod|Service|Secret|Event)", raw in prop::collection::vec(any::<u8>(), 0..60)) {
        let _decoded = (decode(&envelope("v1", &kind, &raw)), decode(&[MAGIC, &raw].concat()));
    }
}
