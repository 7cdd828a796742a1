use super::*;
use crate::bench::Bench;
use crate::record::stamp;
use crate::task::Task;
use proptest::prelude::{
    Just, ProptestConfig, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use proptest::strategy::Strategy as Generator;
use std::collections::BTreeMap;
use std::time::Duration;

fn web() -> ObjectKey {
    ObjectKey::new("default", "web")
}

fn deployment(replicas: u32, image: &str, strategy: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": strategy,
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
    })
}

impl Bench {
    fn is_ready(pod: &Value) -> bool {
        pod.pointer("/status/conditions/0/status") == Some(&"True".into())
    }

    fn ready_count(&self) -> usize {
        self.pods().iter().filter(|pod| Self::is_ready(pod)).count()
    }

    /// The kubelet's work on up to `most` pods that are not ready yet.
    fn make_ready(&mut self, most: usize) {
        let pods = self.pods();
        for pod in pods.into_iter().filter(|pod| !Self::is_ready(pod)).take(most) {
            let key = record::key(&pod).unwrap();
            let mut pod = pod;
            let time = stamp(self.now().wall);
            pod["status"] = json!({"phase": "Running", "conditions":
                [{"type": "Ready", "status": "True", "lastTransitionTime": time}]});
            self.store(Kind::POD, &key, pod);
        }
    }

    fn deployment(&self) -> Value {
        self.stored[&(Kind::DEPLOYMENT, web())].clone()
    }

    fn images(&self) -> Vec<String> {
        let image =
            |pod: &Value| pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
        self.pods().iter().map(image).collect()
    }

    fn converge(&mut self) {
        for _ in 0..60 {
            self.settle();
            self.make_ready(usize::MAX);
        }
        self.settle();
    }
}

fn condition(object: &Value, kind: &str) -> (String, String) {
    let conditions = object["status"]["conditions"].as_array().unwrap();
    let found = conditions.iter().find(|found| found["type"] == kind).unwrap();
    (found["status"].as_str().unwrap().into(), found["reason"].as_str().unwrap().into())
}

#[test]
fn a_deployment_from_its_first_pod_to_a_rollback() {
    let mut bench = Bench::new();
    let strategy = json!({});
    bench.apply(deployment(3, "a", &strategy));
    bench.settle();
    assert_eq!((bench.pods().len(), bench.ready_count()), (3, 0));
    assert_eq!(condition(&bench.deployment(), "Available").0, "False");
    bench.converge();
    let status = bench.deployment()["status"].clone();
    for count in ["replicas", "readyReplicas", "availableReplicas", "updatedReplicas"] {
        assert_eq!(status[count], 3, "{count}: {status}");
    }
    assert_eq!(status["observedGeneration"], 1);
    let set = bench.all(Kind::REPLICA_SET).remove(0);
    let hash = set["metadata"]["labels"]["pod-template-hash"].as_str().unwrap();
    assert_eq!(set["metadata"]["name"], format!("web-{hash}"));
    for pod in bench.pods() {
        let name = pod["metadata"]["name"].as_str().unwrap();
        assert!(name.starts_with(&format!("web-{hash}-")), "{name}");
        assert_eq!(pod["metadata"]["labels"]["pod-template-hash"], hash);
        assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "ReplicaSet");
    }

    bench.apply(deployment(3, "b", &strategy));
    bench.settle();
    assert_eq!((bench.pods().len(), bench.ready_count()), (4, 3));
    assert_eq!(condition(&bench.deployment(), "Progressing").1, "ReplicaSetUpdated");
    bench.converge();
    assert_eq!(bench.images(), ["b"; 3]);
    assert_eq!(condition(&bench.deployment(), "Progressing").1, "NewReplicaSetAvailable");
    assert_eq!(bench.deployment()["metadata"]["annotations"][REVISION], "2");

    bench.apply(deployment(3, "a", &strategy));
    bench.converge();
    assert_eq!(bench.images(), ["a"; 3]);
    assert_eq!(bench.all(Kind::REPLICA_SET).len(), 2);
    assert_eq!(bench.deployment()["metadata"]["annotations"][REVISION], "3");
}

#[test]
fn a_deleted_pod_is_replaced_and_scaling_takes_the_unready_first() {
    let mut bench = Bench::new();
    bench.apply(deployment(3, "a", &json!({})));
    bench.converge();
    let victim = record::key(&bench.pods()[1]).unwrap();
    bench.remove(Kind::POD, &victim);
    bench.settle();
    assert_eq!((bench.pods().len(), bench.ready_count()), (3, 2));
    bench.apply(deployment(2, "a", &json!({})));
    bench.settle();
    assert_eq!((bench.pods().len(), bench.ready_count()), (2, 2));
    bench.apply(deployment(120, "a", &json!({})));
    bench.converge();
    assert_eq!(bench.ready_count(), 120);
}

#[test]
fn old_sets_are_forgotten_beyond_the_history() {
    let mut bench = Bench::new();
    for image in ["a", "b", "c", "d"] {
        let mut manifest = deployment(1, image, &json!({}));
        manifest["spec"]["revisionHistoryLimit"] = 1.into();
        bench.apply(manifest);
        bench.converge();
    }
    let images: Vec<_> = bench
        .all(Kind::REPLICA_SET)
        .iter()
        .map(|set| set["spec"]["template"]["spec"]["containers"][0]["image"].clone())
        .collect();
    assert_eq!(images.len(), 2);
    assert!(images.contains(&"c".into()) && images.contains(&"d".into()), "{images:?}");
}

#[test]
fn a_rollout_that_hangs_says_so_and_recovers() {
    let mut bench = Bench::new();
    bench.apply(deployment(2, "a", &json!({})));
    bench.converge();
    bench.apply(deployment(2, "bad", &json!({})));
    bench.settle();
    let outcome = plan(&bench.cluster, &web(), bench.now());
    assert_eq!((outcome.writes.len(), outcome.again), (0, Some(Duration::from_secs(600))));
    bench.now += Duration::from_secs(600);
    bench.cluster.mark(Task::Deployment(web()));
    bench.settle();
    let progressing = condition(&bench.deployment(), "Progressing");
    assert_eq!(progressing, ("False".into(), "ProgressDeadlineExceeded".into()));
    bench.converge();
    assert_eq!(condition(&bench.deployment(), "Progressing").1, "NewReplicaSetAvailable");
}

#[test]
fn nothing_moves_while_paused() {
    let mut bench = Bench::new();
    bench.apply(deployment(2, "a", &json!({})));
    bench.converge();
    let mut manifest = deployment(3, "b", &json!({}));
    manifest["spec"]["paused"] = true.into();
    bench.apply(manifest.clone());
    bench.converge();
    assert_eq!(bench.images(), ["a"; 3]);
    let paused = ("Unknown".into(), "DeploymentPaused".into());
    assert_eq!(condition(&bench.deployment(), "Progressing"), paused);
    // The pause does not count against the deadline.
    bench.now += Duration::from_secs(5000);
    manifest["spec"]["paused"] = false.into();
    bench.apply(manifest);
    bench.settle();
    assert_eq!(condition(&bench.deployment(), "Progressing").1, "ReplicaSetUpdated");
    bench.converge();
    assert_eq!(bench.images(), ["b"; 3]);
    assert_eq!(condition(&bench.deployment(), "Progressing").1, "NewReplicaSetAvailable");
}

/// Sizes of the sets by image.
fn sizes(bench: &Bench) -> BTreeMap<String, u64> {
    let size = |set: Value| {
        let image = set["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap();
        (image.to_owned(), set["spec"]["replicas"].as_u64().unwrap())
    };
    bench.all(Kind::REPLICA_SET).into_iter().map(size).collect()
}

/// The example of the documentation: a rollout that hangs, scaled meanwhile.
#[test]
fn scaling_during_a_rollout_keeps_the_parts() {
    let mut bench = Bench::new();
    let strategy = json!({"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}});
    bench.apply(deployment(10, "a", &strategy));
    bench.converge();
    bench.apply(deployment(10, "bad", &strategy));
    bench.settle();
    assert_eq!(sizes(&bench), [("a".to_owned(), 8), ("bad".to_owned(), 5)].into());
    bench.apply(deployment(15, "bad", &strategy));
    bench.settle();
    assert_eq!(sizes(&bench), [("a".to_owned(), 11), ("bad".to_owned(), 7)].into());
    for set in bench.all(Kind::REPLICA_SET) {
        let annotations = &set["metadata"]["annotations"];
        assert_eq!((&annotations[DESIRED], &annotations[MOST]), (&json!("15"), &json!("18")));
    }
    bench.make_ready(usize::MAX);
    bench.converge();
    assert_eq!(bench.images(), vec!["bad"; 15]);
}

#[test]
fn a_rollout_says_how_far_it_is() {
    let mut bench = Bench::new();
    bench.apply(deployment(1, "a", &json!({})));
    bench.work(1);
    assert_eq!(condition(&bench.deployment(), "Progressing").1, "NewReplicaSetCreated");
    bench.converge();
    bench.apply(deployment(1, "b", &json!({"type": "Recreate"})));
    bench.work(1);
    let status = bench.deployment()["status"].clone();
    assert_eq!(
        (&status["unavailableReplicas"], &status["observedGeneration"]),
        (&json!(0), &json!(2))
    );
    bench.converge();
    assert_eq!(bench.images(), ["b"]);
    // Without a deadline nobody judges.
    let mut manifest = deployment(1, "c", &json!({}));
    manifest["spec"]["progressDeadlineSeconds"] = i32::MAX.into();
    bench.apply(manifest);
    bench.converge();
    let status = bench.deployment()["status"].clone();
    let listed = status["conditions"].as_array().unwrap().iter();
    assert_eq!(listed.map(|it| &it["type"]).collect::<Vec<_>>(), ["Available"]);
}

#[test]
fn a_set_that_comes_back_knows_its_former_revisions() {
    let mut bench = Bench::new();
    for image in ["a", "b", "a", "b", "a"] {
        let mut manifest = deployment(1, image, &json!({}));
        manifest["spec"]["minReadySeconds"] = u64::from(image == "b").into();
        bench.apply(manifest);
        bench.converge();
        bench.now += Duration::from_secs(2);
        bench.cluster.mark(Task::Deployment(web()));
        bench.converge();
    }
    let told = bench.all(Kind::REPLICA_SET).into_iter().map(|set| {
        let annotations = &set["metadata"]["annotations"];
        let text = |name| annotations[name].as_str().unwrap_or_default().to_owned();
        (text(REVISION), text(REVISION_HISTORY), set["spec"]["minReadySeconds"].clone())
    });
    let told: BTreeMap<_, _> = told.map(|(now, before, wait)| (now, (before, wait))).collect();
    assert_eq!(told["5"], ("1,3".to_owned(), json!(0)));
    assert_eq!(told["4"], ("2".to_owned(), json!(1)));
}

#[test]
fn sets_tell_why_they_were_made() {
    let mut bench = Bench::new();
    let mut manifest = deployment(1, "a", &json!({}));
    let cause = |text: &str| json!({"kubernetes.io/change-cause": text, "kubectl.kubernetes.io/last-applied-configuration": "{}"});
    manifest["metadata"]["annotations"] = cause("first");
    bench.apply(manifest);
    bench.converge();
    let mut manifest = deployment(1, "b", &json!({}));
    manifest["metadata"]["annotations"] = cause("second");
    bench.apply(manifest);
    bench.converge();
    let sets = bench.all(Kind::REPLICA_SET);
    let told = sets.iter().map(|set| {
        let annotations = &set["metadata"]["annotations"];
        assert!(annotations["kubectl.kubernetes.io/last-applied-configuration"].is_null());
        (annotations[REVISION].clone(), annotations["kubernetes.io/change-cause"].clone())
    });
    let told: BTreeMap<_, _> =
        told.map(|(revision, cause)| (revision.to_string(), cause.to_string())).collect();
    assert_eq!(told["\"1\""], "\"first\"");
    assert_eq!(told["\"2\""], "\"second\"");
}

#[derive(Debug, Clone)]
enum Event {
    Apply(u32, &'static str),
    Work(usize),
    Ready(usize),
    Lose(usize),
}

fn events() -> impl Generator<Value = Event> {
    let image = prop_oneof![Just("a"), Just("b"), Just("c")];
    prop_oneof![
        1 => (0u32..7, image).prop_map(|(replicas, image)| Event::Apply(replicas, image)),
        6 => (1usize..4).prop_map(Event::Work),
        5 => (1usize..4).prop_map(Event::Ready),
        1 => (0usize..10).prop_map(Event::Lose),
    ]
}

fn strategies() -> impl Generator<Value = Value> {
    let rolling = |surge: &str, unavailable: Value| {
        json!({"type": "RollingUpdate", "rollingUpdate":
            {"maxSurge": surge, "maxUnavailable": unavailable}})
    };
    prop_oneof![
        Just(json!({})),
        Just(json!({"type": "Recreate"})),
        Just(rolling("0%", 1.into())),
        Just(rolling("100%", 0.into())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever happens on the way, the last template wins, with the right number of pods and a status that says so;
    /// and only a lost pod or a smaller wish brings readiness below the bound. (What is decided already is carried out
    /// first: no controller can take back a deletion because another pod dies at that moment.)
    #[test]
    fn deployments_converge(
        strategy in strategies(),
        events in prop::collection::vec(events(), 0..60),
    ) {
        let mut bench = Bench::new();
        let mut wish = (3, "a");
        bench.apply(deployment(3, "a", &strategy));
        bench.converge();
        for event in events {
            let ready = bench.ready_count();
            match event {
                Event::Apply(replicas, image) => {
                    bench.settle();
                    wish = (replicas, image);
                    bench.apply(deployment(replicas, image, &strategy));
                    // Scaling keeps the parts that the sets have, whichever of them has ready pods.
                    bench.settle();
                }
                Event::Work(tasks) => {
                    bench.work(tasks);
                    let parsed = bench.cluster.deployment(&web()).unwrap();
                    let bounds = Bounds::of(parsed.strategy, parsed.replicas);
                    let least = usize::try_from(bounds.least).unwrap().min(ready);
                    prop_assert!(bench.ready_count() >= least, "{ready} → {}", bench.ready_count());
                }
                Event::Ready(pods) => bench.make_ready(pods),
                Event::Lose(index) => {
                    bench.settle();
                    let lost = bench.pods().get(index).and_then(record::key);
                    if let Some(key) = lost {
                        bench.remove(Kind::POD, &key);
                    }
                }
            }
        }
        bench.converge();
        let (replicas, image) = wish;
        let expected = vec![image.to_owned(); usize::try_from(replicas).unwrap()];
        prop_assert_eq!(bench.images(), expected);
        let status = bench.deployment()["status"].clone();
        for count in ["replicas", "readyReplicas", "availableReplicas", "updatedReplicas"] {
            prop_assert_eq!(status[count].as_u64().unwrap_or(0), u64::from(replicas), "{}", count);
        }
        prop_assert_eq!(&status["unavailableReplicas"], 0);
    }
}

#[test]
fn what_is_refused_is_said_until_it_is_granted() {
    let mut bench = Bench::new();
    bench.apply(deployment(2, "one", &json!({"type": "RollingUpdate"})));
    let task = Task::Deployment(web());
    let reasons = |bench: &Bench| {
        let conditions = bench.deployment()["status"]["conditions"].clone();
        let reason = |kind: &str| {
            let found = conditions.as_array()?.iter().find(|it| it["type"] == kind)?;
            Some(found["reason"].as_str()?.to_owned())
        };
        ["Progressing", "ReplicaFailure"].map(reason)
    };
    let some = |reason: &str| Some(reason.to_owned());
    bench.cluster.note_refusal(task.clone(), "no sets today", bench.now);
    bench.settle();
    assert_eq!(bench.all(Kind::REPLICA_SET).len(), 0, "not yet");
    assert_eq!(reasons(&bench), [some("ReplicaSetCreateError"), None]);

    bench.now += Duration::from_secs(1);
    bench.cluster.mark(task.clone());
    bench.work(1);
    bench.cluster.end_trouble(&task);
    let set = record::key(&bench.all(Kind::REPLICA_SET)[0]).unwrap();
    bench.cluster.note_refusal(Task::ReplicaSet(set.clone()), "no pods today", bench.now);
    bench.settle();
    assert_eq!(reasons(&bench), [some("NewReplicaSetCreated"), some("FailedCreate")]);
    bench.cluster.end_trouble(&Task::ReplicaSet(set));
    bench.settle();
    bench.make_ready(2);
    bench.settle();
    assert_eq!(reasons(&bench), [some("NewReplicaSetAvailable"), None]);
}

#[test]
fn a_set_whose_name_another_one_has_gets_another_name() {
    let wanted = deployment(2, "one", &json!({"type": "RollingUpdate"}));
    let name = {
        let mut bench = Bench::new();
        bench.apply(wanted.clone());
        bench.settle();
        bench.all(Kind::REPLICA_SET)[0]["metadata"]["name"].clone()
    };
    let mut bench = Bench::new();
    bench.apply(json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "other"}},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "other"}}, "template": {}},
    }));
    bench.apply(wanted);
    bench.settle();
    assert_eq!(bench.deployment()["status"]["collisionCount"], 1);
    assert_eq!(bench.all(Kind::REPLICA_SET).len(), 2);
    assert_eq!(bench.pods().len(), 2);
}
