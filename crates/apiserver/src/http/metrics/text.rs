//! Prometheus' text format: <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::fmt::{Display, Write};

#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(&format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let mut separator = '{';
        let mut place = String::new();
        for (label, value) in labels {
            // Values are words of the API, which need no escapes; quotation marks would be written as they ought to be.
            place.extend([separator]);
            write!(place, "{label}={value:?}").unwrap_or_default();
            separator = ',';
        }
        if !labels.is_empty() {
            place.push('}');
        }
        self.line(&format_args!("{name}{place} {value}"));
    }

    /// `counts`: how many are at most each bound and more than the one before, and how many are more than all.
    pub(super) fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        bounds: &[f64],
        counts: &[u64],
        sum: f64,
    ) {
        let bucket = format!("{name}_bucket");
        let bounds = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let mut total = 0;
        for (bound, count) in bounds.zip(counts) {
            total += count;
            let mut labels = labels.to_vec();
            labels.push(("le", &bound));
            self.sample(&bucket, &labels, total);
        }
        self.sample(&format!("{name}_sum"), labels, sum);
        self.sample(&format!("{name}_count"), labels, total);
    }

    pub(super) fn finish(self) -> String {
        self.0
    }

    fn line(&mut self, line: &dyn Display) {
        self.0 += &format!("{line}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_lines() {
        let mut text = Text::default();
        text.family("seen", "gauge", "What was seen.");
        text.sample("seen", &[], 7);
        text.histogram("took_seconds", &[("verb", "GET")], &[0.5, 1.0], &[2, 0, 1], 4.25);
        let expected = "\
# HELP seen What was seen.
# TYPE seen gauge
seen 7
took_seconds_bucket{verb=\"GET\",le=\"0.5\"} 2
took_seconds_bucket{verb=\"GET\",le=\"1\"} 2
took_seconds_bucket{verb=\"GET\",le=\"+Inf\"} 3
took_seconds_sum{verb=\"GET\"} 4.25
took_seconds_count{verb=\"GET\"} 3
";
        assert_eq!(text.finish(), expected);
    }
}
