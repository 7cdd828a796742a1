use super::*;
use crate::bench::Bench;
use crate::fixture::merge;
use crate::task::Task;

fn key() -> ObjectKey {
    ObjectKey::new("default", "tick")
}

/// Each minute; the bench's clock begins at a full one.
fn cron(spec: Value) -> Value {
    let template = json!({"spec": {"template": {"spec": {"containers": [{"name": "c"}]}}}});
    let mut cron = json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": "tick", "namespace": "default", "creationTimestamp": "2027-01-15T08:00:00Z"},
        "spec": {"schedule": "* * * * *", "jobTemplate": template},
    });
    merge(&mut cron["spec"], spec);
    cron
}

impl Bench {
    fn with(spec: Value) -> Self {
        let mut bench = Bench::new();
        bench.apply(cron(spec));
        bench.settle();
        bench
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.cluster.mark(Task::CronJob(key()));
        self.settle();
    }

    fn status(&self) -> Value {
        self.stored[&(Kind::CRON_JOB, key())]["status"].clone()
    }

    /// The minutes of the Jobs that there are, and whether they are not over.
    fn runs(&self) -> Vec<(String, bool)> {
        let run = |job: Value| {
            let time = job["metadata"]["annotations"][SCHEDULED].as_str().unwrap().to_owned();
            (time[14..16].to_owned(), Job::parse(&job).unwrap().finished().is_none())
        };
        self.all(Kind::JOB).into_iter().map(run).collect()
    }

    /// The last Job ends like that.
    fn finish(&mut self, condition: &str) {
        let mut job = self.all(Kind::JOB).pop().unwrap();
        let now = stamp(self.now().wall);
        job["status"]["conditions"] =
            json!([{"type": condition, "status": "True", "lastTransitionTime": now}]);
        if condition == "Complete" {
            job["status"]["completionTime"] = now.into();
        }
        self.store(Kind::JOB, &crate::record::key(&job).unwrap(), job);
        self.settle();
    }
}

fn runs(expected: &[(&str, bool)]) -> Vec<(String, bool)> {
    expected.iter().map(|(minute, active)| ((*minute).to_owned(), *active)).collect()
}

#[test]
fn runs_overlap_as_their_policy_says() {
    let rows = [
        ("Allow", runs(&[("01", true), ("02", true)]), 2),
        ("Forbid", runs(&[("01", true)]), 1),
        ("Replace", runs(&[("02", true)]), 1),
    ];
    for (policy, expected, active) in rows {
        let mut bench = Bench::with(json!({"concurrencyPolicy": policy}));
        bench.pass(59);
        assert_eq!(bench.runs(), [], "{policy}");
        bench.pass(1);
        bench.pass(60);
        assert_eq!(bench.runs(), expected, "{policy}");
        assert_eq!(bench.status()["active"].as_array().unwrap().len(), active, "{policy}");
    }
    // What was forbidden begins when the other one is over, if it is not too late.
    for (deadline, begun) in [(json!(null), true), (json!(50), true), (json!(20), false)] {
        let spec = json!({"concurrencyPolicy": "Forbid", "startingDeadlineSeconds": deadline});
        let mut bench = Bench::with(spec);
        bench.pass(60);
        bench.pass(90);
        bench.finish("Complete");
        assert_eq!(bench.runs().contains(&("02".to_owned(), true)), begun, "{deadline}");
    }
}

#[test]
fn so_many_are_kept() {
    let spec = json!({"successfulJobsHistoryLimit": 2, "failedJobsHistoryLimit": 1});
    let mut bench = Bench::with(spec);
    for condition in ["Complete", "Failed", "Complete", "Complete", "Failed"] {
        bench.pass(60);
        bench.finish(condition);
    }
    assert_eq!(bench.runs(), runs(&[("03", false), ("04", false), ("05", false)]));
    assert_eq!(bench.status()["lastSuccessfulTime"], "2027-01-15T08:04:00Z");
    assert_eq!(bench.status()["lastScheduleTime"], "2027-01-15T08:05:00Z");
    assert_eq!(bench.status()["active"], json!([]));
}

#[test]
fn times_are_those_of_its_zone() {
    let mut bench = Bench::with(json!({"schedule": "30 9 * * *", "timeZone": "Europe/Berlin"}));
    bench.pass(1799);
    assert_eq!(bench.runs(), []);
    bench.pass(1);
    let job = bench.all(Kind::JOB).pop().unwrap();
    assert_eq!(job["metadata"]["annotations"][SCHEDULED], "2027-01-15T09:30:00+01:00");
    assert_eq!(job["metadata"]["name"], "tick-30000030");
    // Neither a zone that nobody knows nor a pause begins anything.
    for spec in [json!({"timeZone": "Nowhere/City"}), json!({"suspend": true})] {
        let mut bench = Bench::with(spec);
        bench.pass(600);
        assert_eq!(bench.runs(), []);
    }
}
