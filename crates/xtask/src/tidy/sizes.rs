//! Files and functions that grew past the stop.

use super::Finding;
use super::tree::Tree;

const LONGEST_FILE: usize = 800;
const LONGEST_FUNCTION: usize = 80;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, rust) in tree.rust() {
        let lines = file.lines().count();
        if lines > LONGEST_FILE {
            let what = format!("{lines} lines, {LONGEST_FILE} are the most");
            let remedy = "find the seam and split the file along it";
            findings.push(Finding::new(&file.path, 1, what, remedy));
        }
        for function in rust.functions.iter().filter(|f| f.lines > LONGEST_FUNCTION) {
            let what = format!(
                "function {} has {} lines, {LONGEST_FUNCTION} are the most",
                function.name, function.lines
            );
            let remedy = "take its parts out and name them";
            findings.push(Finding::new(&file.path, function.line, what, remedy));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_too_long_is_found() {
        let function = |lines| format!("\nfn f() {{\n{}}}\n", "    g();\n".repeat(lines));
        let (right, long, file) =
            (function(80), function(81), "const A: u8 = 1;\n".replace('A', "_").repeat(801));
        let tree = Tree::of(&[("a.rs", &right), ("b.rs", &long), ("c.rs", &file)]);
        let told: Vec<_> = check(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("b.rs:2: function f has 81 lines, 80 are the most; "));
        assert!(told[1].starts_with("c.rs:1: 801 lines, 800 are the most; "));
    }
}
