//! Numbers of completions, as a status has them: `0-2,5,7,8`.

use crate::record::Pod;
use std::collections::BTreeSet;

/// Annotation and label of a pod with the number that it completes.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Further numbers than any Job has mean nothing.
const MOST_COMPLETIONS: u32 = 100_000;

/// The number of a pod, if its Job has that number.
pub(super) fn index(pod: &Pod, completions: Option<u32>) -> Option<u32> {
    let index = pod.base.meta.annotations.get(INDEX)?.parse().ok()?;
    completions.is_none_or(|completions| index < completions).then_some(index)
}

/// Three or more in a row are written as a range.
pub(super) fn ranges(numbers: &BTreeSet<u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    let text = |(first, last): &(u32, u32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}

pub(super) fn numbers(text: &str) -> BTreeSet<u32> {
    let run = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let last: u32 = last.parse().ok()?;
        Some(first.parse().ok()?..=last.min(MOST_COMPLETIONS))
    };
    text.split(',').filter_map(run).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop, prop_assert_eq, proptest};

    #[test]
    fn pairs_are_no_ranges() {
        assert_eq!(ranges(&numbers("0,1,2,4,5,7")), "0-2,4,5,7");
    }

    proptest! {
        #[test]
        fn they_are_read_as_they_are_written(done in prop::collection::btree_set(0u32..40, 0..30)) {
            prop_assert_eq!(numbers(&ranges(&done)), done);
        }

        #[test]
        fn any_text_is_some_numbers(text in "[0-9,-]{0,20}|\\PC{0,20}") {
            let found = numbers(&text);
            prop_assert_eq!(numbers(&ranges(&found)), found);
        }
    }
}
