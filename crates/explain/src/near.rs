//! Names that somebody may have meant.

/// The names nearest to `wanted`, at most three, best first; far ones only where none is near.
pub(crate) fn nearest(wanted: &str, names: impl IntoIterator<Item = String>) -> Vec<String> {
    const SHOWN: usize = 3;
    let mut ranked: Vec<(usize, String)> =
        names.into_iter().map(|name| (distance(wanted, &name), name)).collect();
    ranked.sort();
    ranked.dedup();
    let limit = wanted.chars().count() / 4 + 1;
    let is_near = |(far, name): &(usize, String)| *far <= limit || name.contains(wanted);
    if ranked.len() > SHOWN && ranked.iter().any(is_near) {
        ranked.retain(is_near);
    }
    ranked.into_iter().take(SHOWN).map(|(_, name)| name).collect()
}

/// How many characters to insert, remove, replace or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i][j] = match (i, j) {
                (0, far) | (far, 0) => far,
                _ => {
                    let replaced = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let changed = table[i - 1][j].min(table[i][j - 1]) + 1;
                    let swaps = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                    let swapped = if swaps { table[i - 2][j - 2] + 1 } else { usize::MAX };
                    replaced.min(changed).min(swapped)
                }
            };
        }
    }
    table[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows() {
        for (a, b, far) in [("", "", 0), ("web", "wbe", 1), ("web", "webs", 1), ("abc", "", 3)] {
            assert_eq!(distance(a, b), far, "{a} {b}");
        }
        let names = ["web", "db", "cache", "worker", "website"].map(String::from);
        assert_eq!(nearest("wbe", names.clone()), ["web"]);
        assert_eq!(nearest("web", names), ["web", "website"]);
        assert_eq!(nearest("zzz", ["a".to_owned()]), ["a"]);
    }
}
