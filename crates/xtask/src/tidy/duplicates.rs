//! The same function body written twice.

use super::Finding;
use super::tree::{File, Function, Tree};
use std::collections::BTreeMap;

/// Shorter bodies may well look alike.
const FEWEST_LINES: usize = 6;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut bodies: BTreeMap<&str, Vec<(&File, &Function)>> = BTreeMap::new();
    for (file, rust) in tree.rust() {
        for function in rust.functions.iter().filter(|f| f.lines >= FEWEST_LINES) {
            bodies.entry(&function.body).or_default().push((file, function));
        }
    }
    let twice = bodies.values().filter(|places| places.len() > 1);
    twice
        .flat_map(|places| {
            let (first_file, first) = places[0];
            let first = format!("{} at {}:{}", first.name, first_file.path.display(), first.line);
            places[1..].iter().map(move |(file, function)| {
                let what = format!("{} has the same body as {first}", function.name);
                let remedy = "keep one, in the room that both may use";
                Finding::new(&file.path, function.line, what, remedy)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_body_is_found_whatever_its_layout() {
        let calls = ["a()", "b()", "c()", "d()", "e()", "f(1)"];
        let body = |end: &str| calls.map(|call| format!("{call};{end}")).concat();
        let (one, other) =
            (format!("fn x() {{\n{}}}", body("\n")), format!("fn y() {{\n{}}}", body(" // y\n\n")));
        let different = one.replace("f(1)", "f(2)");
        let short = "fn z() {\n a();\n}";
        let tree = Tree::of(&[
            ("crates/a/src/x.rs", &one),
            ("crates/b/src/y.rs", &other),
            ("crates/c/src/x.rs", &different),
            ("crates/d/src/z.rs", short),
            ("crates/e/src/z.rs", short),
        ]);
        let told: Vec<_> = check(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with(
                "crates/b/src/y.rs:1: y has the same body as x at crates/a/src/x.rs:1;"
            )
        );
    }
}
