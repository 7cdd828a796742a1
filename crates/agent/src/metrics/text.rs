//! Prometheus' text format, version 0.0.4.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What kind of metric a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Counter,
    Gauge,
    Histogram,
}

/// Families of metrics, written one after the other.
#[derive(Debug, Default)]
pub(crate) struct Text(String);

impl Text {
    /// Begins a family; its samples follow.
    pub(crate) fn family(&mut self, name: &str, kind: Type, help: &str) {
        let kind = match kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        };
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    pub(crate) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels = written(labels);
        self.line(format_args!("{name}{labels} {value}"));
    }

    /// A number that must not lose digits.
    pub(crate) fn count(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let labels = written(labels);
        self.line(format_args!("{name}{labels} {value}"));
    }

    pub(crate) fn finish(self) -> String {
        self.0
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        writeln!(self.0, "{line}").ok();
    }
}

fn written(labels: &[(&str, &str)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let escape =
        |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let each: Vec<_> =
        labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    format!("{{{}}}", each.join(","))
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// As somebody else has counted.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// How long things took.
#[derive(Debug)]
pub(crate) struct Histogram {
    /// Upper bounds in seconds, ascending.
    bounds: Vec<f64>,
    /// One more than bounds.
    counts: Vec<AtomicU64>,
    nanoseconds: AtomicU64,
}

impl Histogram {
    pub(crate) fn new(bounds: Vec<f64>) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, counts, nanoseconds: AtomicU64::new(0) }
    }

    pub(crate) fn observe(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let place = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    pub(crate) fn write(&self, text: &mut Text, name: &str, labels: &[(&str, &str)]) {
        let bucket = format!("{name}_bucket");
        let bounds = self.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let mut sum = 0;
        for (bound, count) in bounds.zip(&self.counts) {
            sum += count.load(Ordering::Relaxed);
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            text.count(&bucket, &labels, sum);
        }
        let total = Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed));
        text.sample(&format!("{name}_sum"), labels, total.as_secs_f64());
        text.count(&format!("{name}_count"), labels, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let histogram = Histogram::new(vec![0.5, 1.0]);
        for milliseconds in [500, 750, 2000] {
            histogram.observe(Duration::from_millis(milliseconds));
        }
        let mut text = Text::default();
        text.family("delay_seconds", Type::Histogram, "How long.");
        histogram.write(&mut text, "delay_seconds", &[("ip_family", "IPv4")]);
        text.family("seen", Type::Gauge, "What.");
        text.sample("seen", &[("name", "a\"b\\c\nd")], 0.25);
        text.count("seen", &[], u64::MAX);
        let expected = r#"# HELP delay_seconds How long.
# TYPE delay_seconds histogram
delay_seconds_bucket{ip_family="IPv4",le="0.5"} 1
delay_seconds_bucket{ip_family="IPv4",le="1"} 2
delay_seconds_bucket{ip_family="IPv4",le="+Inf"} 3
delay_seconds_sum{ip_family="IPv4"} 3.25
delay_seconds_count{ip_family="IPv4"} 3
# HELP seen What.
# TYPE seen gauge
seen{name="a\"b\\c\nd"} 0.25
seen 18446744073709551615
"#;
        assert_eq!(text.finish(), expected);
    }
}
