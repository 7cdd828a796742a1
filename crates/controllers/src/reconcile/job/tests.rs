use super::*;
use crate::bench::Bench;
use crate::fixture::merge;
use crate::record::stamp;
use crate::task::Task;
use proptest::prelude::{Just, ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};
use proptest::prop_oneof;
use proptest::strategy::Strategy as Generator;

fn key() -> ObjectKey {
    ObjectKey::new("default", "j")
}

fn job(spec: Value) -> Value {
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "default"},
        "spec": {"template": {"spec": {"containers": [{"name": "c"}]}}},
    });
    merge(&mut job["spec"], spec);
    job
}

impl Bench {
    fn of(spec: Value) -> Self {
        let mut bench = Bench::new();
        bench.apply(job(spec));
        bench.settle();
        bench
    }

    fn job(&self) -> Value {
        self.stored.get(&(Kind::JOB, key())).cloned().unwrap_or_default()
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.cluster.mark(Task::Job(key()));
        self.settle();
    }

    /// Pods that have neither ended nor been told to.
    fn running(&self) -> Vec<Value> {
        let runs = |pod: &Value| {
            pod["metadata"]["deletionTimestamp"].is_null()
                && matches!(pod["status"]["phase"].as_str(), None | Some("Pending" | "Running"))
        };
        self.pods().into_iter().filter(runs).collect()
    }

    fn set_status(&mut self, mut pod: Value, status: Value) {
        pod["status"] = status;
        self.store(Kind::POD, &crate::record::key(&pod).unwrap(), pod);
    }

    /// The pod at this place of those that run ends, with that code.
    fn end(&mut self, place: usize, code: i64) {
        let pod = self.running()[place].clone();
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        let state = json!({"terminated": {"exitCode": code, "finishedAt": stamp(self.now().wall)}});
        let status = json!({"phase": phase, "containerStatuses": [{"name": "c", "state": state}]});
        self.set_status(pod, status);
    }

    fn numbers(&self) -> Vec<String> {
        let number =
            |pod: &Value| pod["metadata"]["annotations"][INDEX].as_str().map(str::to_owned);
        let mut numbers: Vec<_> = self.running().iter().filter_map(number).collect();
        numbers.sort();
        numbers
    }

    /// The conditions that hold, with their reasons.
    fn said(&self) -> String {
        let job = self.job();
        let holding = job["status"]["conditions"].as_array().into_iter().flatten();
        let holding = holding.filter(|it| it["status"] == "True");
        let text = |it: &Value| format!("{}={}", text(it, "type"), text(it, "reason"));
        holding.map(text).collect::<Vec<_>>().join(" ")
    }

    fn count(&self, field: &str) -> u64 {
        self.job()["status"][field].as_u64().unwrap_or(0)
    }
}

const DONE: &str = "SuccessCriteriaMet=CompletionsReached Complete=CompletionsReached";

fn failed(reason: &str) -> String {
    format!("FailureTarget={reason} Failed={reason}")
}

#[test]
fn pods_are_counted_before_they_may_go() {
    let mut bench = Bench::of(json!({"completions": 3, "parallelism": 2}));
    assert_eq!((bench.running().len(), bench.count("active")), (2, 2));
    let pod = bench.running()[0].clone();
    assert_eq!(pod["metadata"]["finalizers"], json!([COUNTED]));
    // It ends, and somebody deletes it at once: it is there until it is counted.
    bench.end(0, 0);
    bench.delete(Kind::POD, &crate::record::key(&pod).unwrap());
    assert_eq!(bench.pods().len(), 2);
    bench.work(1);
    assert_eq!(
        bench.job()["status"]["uncountedTerminatedPods"]["succeeded"],
        json!([pod["metadata"]["uid"]])
    );
    assert_eq!(bench.count("succeeded"), 0);
    bench.settle();
    assert_eq!((bench.count("succeeded"), bench.running().len()), (1, 2));
    assert!(bench.job()["status"]["uncountedTerminatedPods"]["succeeded"].is_null());
    bench.end(0, 0);
    bench.settle();
    assert_eq!((bench.count("succeeded"), bench.running().len()), (2, 1));
    bench.end(0, 0);
    bench.settle();
    assert_eq!((bench.said(), bench.count("succeeded")), (DONE.to_owned(), 3));
    let status = bench.job()["status"].clone();
    assert_eq!((&status["ready"], &status["terminating"]), (&json!(0), &json!(0)));
    assert!(status["completionTime"].is_string() && status["startTime"].is_string());
}

#[test]
fn without_completions_the_first_success_ends_it() {
    let mut bench = Bench::of(json!({"parallelism": 3}));
    assert_eq!(bench.running().len(), 3);
    bench.end(1, 0);
    bench.settle();
    assert_eq!((bench.running().len(), bench.said()), (2, String::new()));
    bench.end(0, 1);
    bench.end(0, 0);
    bench.settle();
    assert_eq!((bench.said(), bench.count("failed")), (DONE.to_owned(), 1));
}

#[test]
fn failures_are_waited_after_and_borne_up_to_a_limit() {
    let mut bench = Bench::of(json!({"backoffLimit": 2}));
    for wait in [10, 20] {
        bench.end(0, 1);
        bench.wait(wait - 1);
        assert_eq!(bench.running().len(), 0, "{wait}");
        bench.wait(1);
        assert_eq!(bench.running().len(), 1, "{wait}");
    }
    bench.end(0, 1);
    bench.settle();
    assert_eq!((bench.said(), bench.count("failed")), (failed("BackoffLimitExceeded"), 3));

    let mut bench = Bench::of(json!({"completions": 2}));
    bench.end(0, 1);
    bench.wait(10);
    bench.end(0, 0);
    bench.wait(1);
    // After a success it begins anew.
    bench.end(0, 1);
    bench.wait(10);
    assert_eq!(bench.running().len(), 1);

    let on_failure = json!({"spec": {"restartPolicy": "OnFailure"}});
    let mut bench = Bench::of(json!({"backoffLimit": 2, "template": on_failure}));
    let pod = bench.running()[0].clone();
    let restarts =
        |count: u32| json!({"phase": "Running", "containerStatuses": [{"restartCount": count}]});
    bench.set_status(pod.clone(), restarts(1));
    bench.settle();
    assert_eq!(bench.said(), "");
    bench.set_status(pod, restarts(2));
    bench.settle();
    assert_eq!(bench.said(), failed("BackoffLimitExceeded"));
    assert_eq!(bench.running().len(), 0);
}

#[test]
fn it_is_over_when_the_last_pod_is_gone() {
    let mut bench = Bench::of(json!({"activeDeadlineSeconds": 60}));
    let mut pod = bench.running()[0].clone();
    // The kubelet takes its time.
    pod["metadata"]["finalizers"] = json!([COUNTED, "example.com/slow"]);
    bench.set_status(pod.clone(), json!({"phase": "Running"}));
    bench.wait(59);
    assert_eq!(bench.said(), "");
    bench.wait(1);
    assert_eq!(bench.said(), "FailureTarget=DeadlineExceeded");
    assert_eq!((bench.count("active"), bench.count("terminating")), (0, 1));
    let left = &bench.pods()[0]["metadata"]["finalizers"];
    assert_eq!(left, &json!(["example.com/slow"]), "it is counted, and others' finalizers stay");
    bench.remove(Kind::POD, &crate::record::key(&pod).unwrap());
    bench.settle();
    assert_eq!((bench.said(), bench.count("failed")), (failed("DeadlineExceeded"), 1));
}

#[test]
fn a_suspended_job_has_no_pods_and_begins_anew() {
    let mut bench = Bench::of(json!({"parallelism": 2, "completions": 2}));
    let first = bench.job()["status"]["startTime"].clone();
    bench.apply(job(json!({"parallelism": 2, "completions": 2, "suspend": true})));
    bench.settle();
    assert_eq!((bench.pods().len(), bench.said()), (0, "Suspended=JobSuspended".to_owned()));
    assert_eq!((bench.count("active"), bench.count("failed")), (0, 0));
    assert!(bench.job()["status"]["startTime"].is_null());
    bench.now += Duration::from_secs(5);
    bench.apply(job(json!({"parallelism": 2, "completions": 2, "suspend": false})));
    bench.settle();
    assert_eq!((bench.running().len(), bench.said()), (2, String::new()));
    let again = bench.job()["status"]["startTime"].clone();
    assert!(again.is_string() && again != first, "{again}");
}

#[test]
fn each_number_is_completed_once() {
    let spec = json!({"completions": 4, "parallelism": 2, "completionMode": "Indexed"});
    let mut bench = Bench::of(spec);
    assert_eq!(bench.numbers(), ["0", "1"]);
    let pod = bench.running()[1].clone();
    assert_eq!(pod["spec"]["hostname"], "j-1");
    let variable = &pod["spec"]["containers"][0]["env"][0];
    assert_eq!(
        variable["valueFrom"]["fieldRef"]["fieldPath"],
        format!("metadata.labels['{INDEX}']")
    );
    bench.end(1, 0);
    bench.settle();
    assert_eq!(bench.job()["status"]["completedIndexes"], "1");
    assert_eq!(bench.numbers(), ["0", "2"]);
    // A number that two pods have is one too many.
    let mut double = bench.running()[0].clone();
    double["metadata"]["name"] = "j-0-double".into();
    bench.store(Kind::POD, &ObjectKey::new("default", "j-0-double"), double);
    bench.settle();
    assert_eq!(bench.numbers(), ["0", "2"]);
    for _ in 0..3 {
        bench.end(0, 0);
        bench.settle();
    }
    let job = bench.job();
    assert_eq!(
        (bench.said(), &job["status"]["completedIndexes"]),
        (DONE.to_owned(), &json!("0-3"))
    );
    assert_eq!(bench.count("succeeded"), 4);
}

#[test]
fn numbers_fail_by_themselves() {
    let spec = json!({"completions": 2, "parallelism": 2, "completionMode": "Indexed",
        "backoffLimit": i32::MAX, "backoffLimitPerIndex": 1});
    let mut bench = Bench::of(spec);
    bench.end(0, 1);
    bench.settle();
    let waiting = bench.pods().into_iter().find(|pod| pod["status"]["phase"] == "Failed").unwrap();
    assert_eq!(waiting["metadata"]["finalizers"], json!([COUNTED]), "it waits for its successor");
    bench.wait(10);
    assert_eq!(bench.numbers(), ["0", "1"]);
    let again =
        bench.running().into_iter().find(|pod| pod["metadata"]["annotations"][INDEX] == "0");
    assert_eq!(again.unwrap()["metadata"]["annotations"][FAILURES], "1");
    assert_eq!((bench.count("failed"), bench.said()), (1, String::new()));
    let place = bench.running().iter().position(|pod| pod["metadata"]["annotations"][INDEX] == "0");
    bench.end(place.unwrap(), 1);
    bench.wait(1000);
    assert_eq!(
        (&bench.job()["status"]["failedIndexes"], bench.numbers()),
        (&json!("0"), vec!["1".to_owned()])
    );
    bench.end(0, 0);
    bench.settle();
    assert_eq!(bench.said(), failed("FailedIndexes"));
    assert_eq!(bench.job()["status"]["completedIndexes"], "1");

    let spec = json!({"completions": 5, "parallelism": 5, "completionMode": "Indexed",
        "backoffLimit": i32::MAX, "backoffLimitPerIndex": 0, "maxFailedIndexes": 1});
    let mut bench = Bench::of(spec);
    bench.end(0, 1);
    bench.end(0, 1);
    bench.settle();
    assert_eq!((bench.said(), bench.running().len()), (failed("MaxFailedIndexesExceeded"), 0));
}

#[test]
fn rules_say_what_a_failure_means() {
    let exit = |action: &str, operator: &str, code: i64| json!({"action": action, "onExitCodes": {"operator": operator, "values": [code]}});
    let evicted = json!({"action": "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]});
    let rules = json!({"rules": [evicted, exit("FailJob", "In", 42), exit("Count", "NotIn", 0)]});
    let spec = || json!({"completions": 2, "backoffLimit": 5, "podFailurePolicy": rules});
    let mut bench = Bench::of(spec());
    bench.end(0, 7);
    bench.settle();
    assert_eq!((bench.count("failed"), bench.said()), (1, String::new()));
    bench.wait(10);
    let pod = bench.running()[0].clone();
    let conditions = json!([{"type": "DisruptionTarget", "status": "True"}]);
    bench.set_status(pod, json!({"phase": "Failed", "conditions": conditions}));
    bench.wait(100);
    assert_eq!((bench.count("failed"), bench.running().len()), (1, 1), "as if it had never been");
    let name = text(&bench.running()[0]["metadata"], "name");
    bench.end(0, 42);
    bench.settle();
    assert_eq!(bench.said(), failed("PodFailurePolicy"));
    let message = text(&bench.job()["status"]["conditions"][0], "message");
    let expected = format!(
        "Container c for pod default/{name} failed with exit code 42 matching FailJob rule at index 1"
    );
    assert_eq!(message, expected);

    let rules = json!({"rules": [exit("FailIndex", "In", 3)]});
    let spec = json!({"completions": 2, "parallelism": 2, "completionMode": "Indexed",
        "backoffLimit": i32::MAX, "backoffLimitPerIndex": 9, "podFailurePolicy": rules});
    let mut bench = Bench::of(spec);
    bench.end(1, 3);
    bench.settle();
    assert_eq!(
        (&bench.job()["status"]["failedIndexes"], bench.numbers()),
        (&json!("1"), vec!["0".to_owned()])
    );
}

#[test]
fn enough_may_be_less_than_all() {
    let rules =
        json!({"rules": [{"succeededIndexes": "0-2", "succeededCount": 2}, {"succeededCount": 4}]});
    let spec = json!({"completions": 5, "parallelism": 5, "completionMode": "Indexed", "successPolicy": rules});
    let mut bench = Bench::of(spec);
    for _ in 0..2 {
        let last = bench.running().len() - 1;
        bench.end(last, 0);
        bench.settle();
    }
    assert_eq!(bench.said(), "", "3 and 4 are not asked for");
    bench.end(0, 0);
    bench.settle();
    bench.end(0, 0);
    bench.settle();
    assert_eq!(bench.said(), "SuccessCriteriaMet=SuccessPolicy Complete=SuccessPolicy");
    assert_eq!((bench.pods().len(), bench.count("succeeded"), bench.count("failed")), (4, 4, 0));
}

#[test]
fn a_successor_comes_when_its_policy_says() {
    for (policy, successors) in [("TerminatingOrFailed", 1), ("Failed", 0)] {
        let mut bench = Bench::of(json!({"podReplacementPolicy": policy}));
        let mut pod = bench.running()[0].clone();
        pod["metadata"]["finalizers"] = json!([COUNTED, "example.com/slow"]);
        pod["metadata"]["deletionTimestamp"] = stamp(bench.now().wall).into();
        bench.set_status(pod.clone(), json!({"phase": "Running"}));
        bench.wait(100);
        assert_eq!(bench.running().len(), successors, "{policy}");
        pod["metadata"]["finalizers"] = json!([]);
        bench.remove(Kind::POD, &crate::record::key(&pod).unwrap());
        bench.wait(100);
        assert_eq!(bench.running().len(), 1, "{policy}");
    }
}

#[test]
fn pods_of_a_job_that_is_gone_may_go() {
    let mut bench = Bench::of(json!({"parallelism": 2, "completions": 2}));
    bench.remove(Kind::JOB, &key());
    bench.settle();
    assert_eq!(bench.pods().len(), 2);
    assert!(bench.pods().iter().all(|pod| pod["metadata"]["finalizers"].is_null()));
    let mut bench = Bench::of(json!({"managedBy": "example.com/other"}));
    assert_eq!((bench.pods().len(), bench.job()["status"].clone()), (0, Value::Null));
    bench.apply(job(json!({})));
    bench.settle();
    assert_eq!(bench.pods().len(), 1);
}

#[test]
fn a_job_that_is_over_stays_for_its_time() {
    let mut bench = Bench::of(json!({"ttlSecondsAfterFinished": 10}));
    bench.end(0, 0);
    bench.settle();
    bench.wait(9);
    assert_eq!(bench.said(), DONE);
    bench.wait(1);
    assert!(bench.job().is_null());
}

#[derive(Debug, Clone)]
enum Event {
    Work(usize),
    End(usize, i64),
    Delete(usize),
    Suspend(bool),
}

fn events() -> impl Generator<Value = Event> {
    prop_oneof![
        6 => (1usize..3).prop_map(Event::Work),
        4 => (0usize..6, prop_oneof![3 => Just(0i64), 1 => Just(1i64)]).prop_map(|(place, code)| Event::End(place, code)),
        1 => (0usize..6).prop_map(Event::Delete),
        1 => any::<bool>().prop_map(Event::Suspend),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// Whatever happens in between, each pod that succeeded is counted once, there are never more of them than asked
    /// for, and the Job ends.
    #[test]
    fn each_pod_counts_once(
        indexed in any::<bool>(),
        completions in 1u32..6,
        parallelism in 1u32..4,
        events in prop::collection::vec(events(), 0..60),
    ) {
        let mode = if indexed { "Indexed" } else { "NonIndexed" };
        let spec = |suspend: bool| json!({"completions": completions, "parallelism": parallelism,
            "completionMode": mode, "backoffLimit": 1000, "suspend": suspend});
        let mut bench = Bench::of(spec(false));
        let mut succeeded = 0u64;
        for event in events {
            match event {
                Event::Work(most) => drop(bench.work(most)),
                Event::End(place, code) if place < bench.running().len() => {
                    let tracked = bench.running()[place]["metadata"]["finalizers"].is_array();
                    bench.end(place, code);
                    succeeded += u64::from(code == 0 && tracked);
                }
                Event::Delete(place) => {
                    if let Some(pod) = bench.pods().get(place) {
                        bench.delete(Kind::POD, &crate::record::key(pod).unwrap());
                    }
                }
                Event::Suspend(suspend) => bench.apply(job(spec(suspend))),
                Event::End(..) => {}
            }
            prop_assert!(bench.running().len() <= usize::try_from(parallelism).unwrap() + 1);
        }
        bench.apply(job(spec(false)));
        for _ in 0..60 {
            bench.wait(600);
            if bench.said() == DONE {
                break;
            }
            let last = bench.running().len() - 1;
            bench.end(last, 0);
            succeeded += 1;
        }
        prop_assert_eq!(bench.said(), DONE);
        prop_assert_eq!(bench.count("succeeded"), succeeded.max(completions.into()));
        prop_assert!(bench.running().is_empty());
        for pod in bench.pods() {
            prop_assert!(pod["metadata"]["finalizers"].is_null(), "{}", pod);
        }
    }
}
