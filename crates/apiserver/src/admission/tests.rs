use super::*;
use crate::registry::{Registry, Validation, Write};
use crate::store::{History, Key, Store};

const WRITE: Write<'static> = Write {
    now: 0,
    dry_run: false,
    validation: Validation::Warn,
    twice: &[],
    manager: "test",
    form: None,
    caller: None,
};

fn registry() -> Registry {
    let pools = Pools::new(&["10.96.0.0/12".parse().unwrap()], &(30_000..=32_767));
    Registry::new(Store::new(0, History::default()), pools, 1, None, 0)
}

fn create(registry: &mut Registry, kind: Kind, name: &str, rest: Value) -> Result<Value, String> {
    let mut object = rest;
    object["metadata"]["name"] = name.into();
    let created = registry.create(kind, "default", object, WRITE);
    created.map(|object| object.value.clone()).map_err(|error| error.to_string())
}

/// A kind, an object of it, and what is filled in at these pointers.
type Defaults = (Kind, Value, Vec<(&'static str, Value)>);

fn check_defaults(rows: impl IntoIterator<Item = Defaults>) {
    for (kind, object, expected) in rows {
        let created = create(&mut registry(), kind, "web", object).unwrap();
        for (pointer, expected) in expected {
            let found = created.pointer(pointer).unwrap_or(&Value::Null);
            assert_eq!(found, &expected, "{kind:?} {pointer}");
        }
    }
}

#[test]
fn defaults_of_services() {
    check_defaults([
        (
            Kind::Service,
            json!({"spec": {"ports": [{"port": 80}]}}),
            vec![
                ("/spec/type", json!("ClusterIP")),
                ("/spec/ports/0", json!({"port": 80, "protocol": "TCP", "targetPort": 80})),
                ("/spec/sessionAffinity", json!("None")),
                ("/spec/internalTrafficPolicy", json!("Cluster")),
                ("/spec/externalTrafficPolicy", Value::Null),
                ("/spec/clusterIPs", json!(["10.96.1.1"])),
                ("/spec/ipFamilies", json!(["IPv4"])),
                ("/spec/ipFamilyPolicy", json!("SingleStack")),
                ("/status/loadBalancer", json!({})),
            ],
        ),
        (
            Kind::Service,
            json!({"spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "sessionAffinity": "ClientIP",
                "ports": [{"name": "a", "port": 53, "protocol": "UDP"}, {"name": "b", "port": 53}]}}),
            vec![
                ("/spec/ports/0/nodePort", json!(30_086)),
                ("/spec/ports/1/nodePort", json!(30_086)),
                ("/spec/healthCheckNodePort", json!(30_087)),
                ("/spec/allocateLoadBalancerNodePorts", json!(true)),
                ("/spec/sessionAffinityConfig/clientIP/timeoutSeconds", json!(10_800)),
            ],
        ),
        (
            Kind::Service,
            json!({"spec": {"clusterIP": "None"}}),
            vec![("/spec/clusterIPs", json!(["None"])), ("/spec/ports", Value::Null)],
        ),
        (
            Kind::Service,
            json!({"spec": {"type": "ExternalName", "externalName": "example.com"}}),
            vec![("/spec/clusterIP", Value::Null), ("/spec/internalTrafficPolicy", Value::Null)],
        ),
    ]);
}

#[test]
fn defaults_of_other_kinds() {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    check_defaults([
        (
            Kind::Pod,
            json!({"spec": {"hostNetwork": true, "containers": [{"name": "c", "image": "r:5000/i",
                "ports": [{"containerPort": 80}], "readinessProbe": {"httpGet": {"port": 80}}}]}}),
            vec![
                ("/spec/restartPolicy", json!("Always")),
                ("/spec/terminationGracePeriodSeconds", json!(30)),
                ("/spec/containers/0/imagePullPolicy", json!("Always")),
                (
                    "/spec/containers/0/ports/0",
                    json!({"containerPort": 80, "hostPort": 80, "protocol": "TCP"}),
                ),
                ("/spec/containers/0/readinessProbe/httpGet/scheme", json!("HTTP")),
                ("/spec/containers/0/readinessProbe/periodSeconds", json!(10)),
                ("/status", json!({"phase": "Pending", "qosClass": "BestEffort"})),
                ("/metadata/generation", json!(1)),
            ],
        ),
        (
            Kind::Deployment,
            json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}, "status": {"replicas": 9}}),
            vec![
                ("/spec/replicas", json!(1)),
                (
                    "/spec/strategy/rollingUpdate",
                    json!({"maxSurge": "25%", "maxUnavailable": "25%"}),
                ),
                ("/spec/template/spec/containers/0/imagePullPolicy", json!("IfNotPresent")),
                ("/status", json!({})),
            ],
        ),
        (
            Kind::VirtualIP,
            json!({"spec": {"addresses": ["10.1.1.200"], "listeners": [{"port": 80}]}}),
            vec![
                ("/spec/vrrp/advertisementInterval", json!("100ms")),
                ("/spec/listeners/0/algorithm", json!("RoundRobin")),
                ("/metadata/namespace", Value::Null),
            ],
        ),
    ]);
}

/// Sentences that people search for.
fn check_refusals<const N: usize>(rows: [(Kind, Value, &str); N]) {
    for (kind, object, expected) in rows {
        let error = create(&mut registry(), kind, "web", object).unwrap_err();
        assert_eq!(
            error,
            format!("{} \"web\" is invalid: {expected}", kind.resource().qualified_kind())
        );
    }
}

#[test]
fn refusals_of_services() {
    let port = || json!([{"port": 80}]);
    check_refusals([
        (Kind::Service, json!({"spec": {}}), "spec.ports: Required value"),
        (
            Kind::Service,
            json!({"spec": {"ports": [{"port": 0, "targetPort": 1}]}}),
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            Kind::Service,
            json!({"spec": {"ports": [{"name": "a", "port": 80, "protocol": "X"}]}}),
            r#"spec.ports[0].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP""#,
        ),
        (
            Kind::Service,
            json!({"spec": {"ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}]}}),
            r#"spec.ports[1].name: Duplicate value: "a""#,
        ),
        (
            Kind::Service,
            json!({"spec": {"type": "X", "ports": port()}}),
            r#"spec.type: Unsupported value: "X": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort""#,
        ),
        (
            Kind::Service,
            json!({"spec": {"ports": [{"port": 80, "nodePort": 30000}]}}),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (
            Kind::Service,
            json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}}),
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767",
        ),
        (
            Kind::Service,
            json!({"spec": {"clusterIP": "10.1.1.1", "ports": port()}}),
            r#"spec.clusterIPs: Invalid value: ["10.1.1.1"]: failed to allocate IP 10.1.1.1: the provided network does not match the current range"#,
        ),
    ]);
    let named = create(&mut registry(), Kind::Service, "-web", json!({"spec": {"ports": port()}}))
        .unwrap_err();
    assert!(
        named.contains(r#"metadata.name: Invalid value: "-web": a lowercase RFC 1123 label must"#),
        "{named}"
    );
    let shaped = create(&mut registry(), Kind::Service, "web", json!({"spec": {"ports": [80]}}))
        .unwrap_err();
    assert_eq!(
        shaped,
        r#"Service in version "v1" cannot be handled as a Service: json: cannot unmarshal number into Go struct field ServiceSpec.spec.ports of type v1.ServicePort"#
    );
}

#[test]
fn refusals_of_other_kinds() {
    let pod = |container: Value| json!({"spec": {"containers": [container]}});
    check_refusals([
        (Kind::Pod, json!({}), "spec.containers: Required value"),
        (Kind::Pod, pod(json!({"name": "c"})), "spec.containers[0].image: Required value"),
        (
            Kind::Pod,
            pod(json!({"name": "c", "image": "i", "ports": [{"containerPort": 70000}]})),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            Kind::VirtualIP,
            json!({"spec": {"addresses": ["x"]}}),
            r#"spec.addresses[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
        ),
        (
            Kind::VirtualIP,
            json!({"spec": {"addresses": ["::1"], "vrrp": {"virtualRouterId": 256}}}),
            "spec.vrrp.virtualRouterId: Invalid value: 256: must be between 1 and 255, inclusive",
        ),
        (Kind::EndpointSlice, json!({"endpoints": []}), "addressType: Required value"),
    ]);
    let wrong = create(
        &mut registry(),
        Kind::Deployment,
        "web",
        json!({"spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}}),
    );
    assert!(
        wrong
            .unwrap_err()
            .ends_with("Invalid value: null: `selector` does not match template `labels`")
    );
}

/// A service keeps what it has through any change, and gives back what it no longer needs.
#[test]
fn allocations_follow_changes() {
    let mut registry = registry();
    let exposed = json!({"spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    let first = create(&mut registry, Kind::Service, "web", exposed.clone()).unwrap();
    let key = Key::new("default", "web");
    let mut update = |object: &Value| {
        let part = Part::Main;
        registry
            .update(Kind::Service, &key, part, object.clone(), WRITE)
            .map(|object| object.value.clone())
    };
    let again = update(&exposed).unwrap();
    assert_eq!(again["spec"], first["spec"], "what was given stays");
    assert_eq!(
        again["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"],
        "nothing changed"
    );
    let mut internal = again;
    internal["spec"]["type"] = "ClusterIP".into();
    let internal = update(&internal).unwrap();
    assert_eq!(internal["spec"]["ports"][0].get("nodePort"), None);
    let mut moved = internal;
    moved["spec"]["clusterIP"] = "10.96.0.99".into();
    moved["spec"]["clusterIPs"] = json!(["10.96.0.99"]);
    let refused = update(&moved).unwrap_err().to_string();
    assert!(refused.ends_with(
        r#"spec.clusterIPs[0]: Invalid value: ["10.96.0.99"]: may not change once set"#
    ));
    let taken = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30_086}]}});
    create(&mut registry, Kind::Service, "other", taken).expect("the port was given back");
}
