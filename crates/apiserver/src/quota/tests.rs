use super::*;
use serde_json::json;

fn text(amounts: &Amounts) -> String {
    let parts = amounts.iter().map(|(name, amount)| format!("{name}={amount}"));
    parts.collect::<Vec<_>>().join(" ")
}

fn item<'a>(kind: Kind, object: &'a Value) -> Item<'a> {
    Item { resource: kind.resource(), object }
}

fn container(name: &str, requests: Value, limits: Value) -> Value {
    json!({"name": name, "resources": {"requests": requests, "limits": limits}})
}

#[test]
fn objects_use_what_quotas_are_about() {
    let big = container("b", json!({"cpu": "2", "memory": "1Gi"}), json!({"cpu": "3"}));
    let small =
        container("s", json!({"cpu": "500m", "gpu.example/x": "2"}), json!({"gpu.example/x": "2"}));
    let mut beside = small.clone();
    beside["restartPolicy"] = "Always".into();
    for (kind, object, expected) in [
        (Kind::ConfigMap, json!({}), "configmaps=1 count/configmaps=1"),
        (Kind::Deployment, json!({}), "count/deployments.apps=1"),
        (Kind::Pod, json!({"spec": {"containers": [{"name": "c"}]}}), "count/pods=1 pods=1"),
        (
            Kind::Pod,
            json!({"spec": {"containers": [big]}, "status": {"phase": "Failed"}}),
            "count/pods=1",
        ),
        (
            Kind::Pod,
            json!({"spec": {"containers": [small, small], "initContainers": [big]}}),
            "count/pods=1 cpu=2 limits.cpu=3 memory=1Gi pods=1 requests.cpu=2 requests.gpu.example/x=4 requests.memory=1Gi",
        ),
        (
            Kind::Pod,
            json!({"spec": {"containers": [big], "initContainers": [beside, big], "overhead": {"cpu": "1m", "memory": "1Mi"}}}),
            "count/pods=1 cpu=2501m limits.cpu=3001m memory=1025Mi pods=1 requests.cpu=2501m requests.gpu.example/x=2 requests.memory=1025Mi",
        ),
        (
            Kind::Pod,
            json!({"spec": {"containers": [small], "resources": {"requests": {"cpu": "4"}}}}),
            "count/pods=1 cpu=4 pods=1 requests.cpu=4 requests.gpu.example/x=2",
        ),
        (
            Kind::Service,
            json!({"spec": {"type": "NodePort", "ports": [{}, {}]}}),
            "count/services=1 services=1 services.loadbalancers=0 services.nodeports=2",
        ),
        (
            Kind::Service,
            json!({"spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{}, {"nodePort": 30000}]}}),
            "count/services=1 services=1 services.loadbalancers=1 services.nodeports=1",
        ),
        (
            Kind::PersistentVolumeClaim,
            json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1500m"}}}}),
            "count/persistentvolumeclaims=1 gold.storageclass.storage.k8s.io/persistentvolumeclaims=1 gold.storageclass.storage.k8s.io/requests.storage=2 persistentvolumeclaims=1 requests.storage=2",
        ),
    ] {
        let used = usage::of(item(kind, &object));
        assert_eq!(text(&used), expected, "{object}");
        for name in used.keys() {
            assert!(usage::is_of(kind.resource(), name), "{kind:?} {name}");
        }
    }
}

#[test]
fn scopes_narrow_a_quota_down() {
    let plain = json!({"spec": {"containers": [{"name": "c"}]}});
    let with = |field: &str, value: Value| {
        let mut pod = plain.clone();
        pod["spec"][field] = value;
        pod
    };
    let short = with("activeDeadlineSeconds", 5.into());
    let burst = with("containers", json!([container("c", json!({"cpu": "1"}), json!({}))]));
    let high = with("priorityClassName", "high".into());
    let abroad = with(
        "affinity",
        json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {"namespaceSelector": {}}}]}}),
    );
    let class = |operator: &str, values: Value| json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": operator, "values": values}]}});
    for (scopes, expected) in [
        (json!({}), "plain short burst high abroad"),
        (json!({"scopes": ["Terminating"]}), "short"),
        (json!({"scopes": ["NotTerminating"]}), "plain burst high abroad"),
        (json!({"scopes": ["BestEffort"]}), "plain short high abroad"),
        (json!({"scopes": ["NotBestEffort"]}), "burst"),
        (json!({"scopes": ["BestEffort", "Terminating"]}), "short"),
        (json!({"scopes": ["PriorityClass"]}), "high"),
        (json!({"scopes": ["CrossNamespacePodAffinity"]}), "abroad"),
        (class("In", json!(["high", "low"])), "high"),
        (class("In", json!(["low"])), ""),
        (class("NotIn", json!(["high"])), "plain short burst abroad"),
        (class("Exists", json!(null)), "high"),
        (class("DoesNotExist", json!(null)), "plain short burst abroad"),
    ] {
        let pods = [
            ("plain", &plain),
            ("short", &short),
            ("burst", &burst),
            ("high", &high),
            ("abroad", &abroad),
        ];
        let held = pods.iter().filter(|(_, pod)| scope::holds(item(Kind::Pod, pod), &scopes));
        let held: Vec<&str> = held.map(|(name, _)| *name).collect();
        assert_eq!(held.join(" "), expected, "{scopes}");
        let map = json!({});
        assert_eq!(scope::holds(item(Kind::ConfigMap, &map), &scopes), scopes == json!({}));
    }
}

#[test]
fn what_has_no_room_is_refused() {
    let quota = |hard: Value, used: Value| json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"used": used}});
    let pod = |containers: Value| json!({"spec": {"containers": containers}});
    let sized = container("a", json!({"cpu": "600m"}), json!({"cpu": "1"}));
    for (hard, used, containers, expected) in [
        (json!({"pods": "1"}), json!({"pods": "0"}), json!([{"name": "a"}]), ""),
        (
            json!({"pods": "1", "count/pods": "9"}),
            json!({"pods": "1", "count/pods": "3"}),
            json!([{"name": "a"}]),
            "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1",
        ),
        (json!({"requests.cpu": "1200m"}), json!({"requests.cpu": "600m"}), json!([sized]), ""),
        (
            json!({"requests.cpu": "1", "limits.cpu": "1500m", "memory": null}),
            json!({"requests.cpu": "500m", "limits.cpu": "1"}),
            json!([sized]),
            "exceeded quota: q, requested: limits.cpu=1,requests.cpu=600m, used: limits.cpu=1,requests.cpu=500m, limited: limits.cpu=1500m,requests.cpu=1",
        ),
        (
            json!({"requests.cpu": "9", "memory": "1Gi", "ephemeral-storage": "1Gi"}),
            json!({}),
            json!([{"name": "c"}, {"name": "b"}, sized]),
            "failed quota: q: must specify memory for: a,b,c; requests.cpu for: b,c",
        ),
        (json!({"configmaps": "0"}), json!({}), json!([{"name": "a"}]), ""),
    ] {
        let (quota, pod) = (quota(hard, used), pod(containers));
        let found = check(&quota, item(Kind::Pod, &pod), None).err().unwrap_or_default();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_change_needs_room_for_what_is_more() {
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"services.nodeports": "3"}}, "status": {"used": {"services.nodeports": "2"}}});
    let service =
        |kind: &str, ports: usize| json!({"spec": {"type": kind, "ports": vec![json!({}); ports]}});
    for (old, new, refused) in [
        (service("NodePort", 2), service("NodePort", 3), false),
        (service("NodePort", 2), service("NodePort", 4), true),
        (service("ClusterIP", 2), service("NodePort", 2), true),
        (service("NodePort", 9), service("NodePort", 8), false),
    ] {
        let found = check(&quota, item(Kind::Service, &new), Some(&old));
        assert_eq!(found.is_err(), refused, "{old} {new}");
    }
}

#[test]
fn ranges_complete_and_check() {
    let range = |limit: Value| json!({"spec": {"limits": [limit]}});
    let mut pod = json!({"metadata": {"name": "p"}, "spec": {"initContainers": [{"name": "i"}],
        "containers": [container("a", json!({"cpu": "1"}), json!({})), {"name": "b"}]}});
    let defaults = json!({"type": "Container", "default": {"memory": "2Gi", "cpu": "2"}, "defaultRequest": {"memory": "1Gi", "cpu": "1"}});
    limits::complete(&range(defaults), &mut pod);
    assert_eq!(
        pod["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: memory request for container a; cpu, memory limit for container a; cpu, memory request for container b; cpu, memory limit for container b; cpu, memory request for init container i; cpu, memory limit for init container i"
    );
    assert_eq!(
        pod["spec"]["containers"][0]["resources"],
        json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}})
    );
    let claim = json!({"spec": {"resources": {"requests": {"storage": "5Gi"}}}});
    for (kind, object, limit, expected) in [
        (
            Kind::Pod,
            &pod,
            json!({"type": "Container", "min": {"cpu": "500m"}, "max": {"cpu": "2"}}),
            "",
        ),
        (
            Kind::Pod,
            &pod,
            json!({"type": "Container", "min": {"cpu": "1500m"}}),
            "minimum cpu usage per Container is 1500m, but request is 1",
        ),
        (
            Kind::Pod,
            &pod,
            json!({"type": "Container", "max": {"cpu": "1500m"}}),
            "maximum cpu usage per Container is 1500m, but limit is 2",
        ),
        (
            Kind::Pod,
            &pod,
            json!({"type": "Container", "max": {"x.y/z": "1"}}),
            "maximum x.y/z usage per Container is 1.  No limit is specified",
        ),
        (
            Kind::Pod,
            &pod,
            json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "1500m"}}),
            "cpu max limit to request ratio per Container is 1500m, but provided ratio is 2.000000",
        ),
        (
            Kind::Pod,
            &pod,
            json!({"type": "Pod", "max": {"cpu": "3", "memory": "9Gi"}, "min": {"memory": "3Gi"}}),
            "[minimum memory usage per Pod is 3Gi, but request is 2Gi, maximum cpu usage per Pod is 3, but limit is 4]",
        ),
        (
            Kind::PersistentVolumeClaim,
            &claim,
            json!({"type": "PersistentVolumeClaim", "max": {"storage": "4Gi"}}),
            "maximum storage usage per PersistentVolumeClaim is 4Gi, but request is 5Gi",
        ),
        (
            Kind::PersistentVolumeClaim,
            &claim,
            json!({"type": "Container", "max": {"storage": "4Gi"}}),
            "",
        ),
    ] {
        let found = limits::check(&range(limit.clone()), kind, object).unwrap_or_default();
        assert_eq!(found, expected, "{limit}");
    }
}
