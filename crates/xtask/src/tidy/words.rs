//! Words that do not belong into the tree: paths of somebody's machine.

use super::Finding;
use super::tree::Tree;

/// Paths that exist on one machine only, in halves so that this file does not hold them.
const MACHINE_PATHS: [(&str, &str); 3] = [("/wo", "rk/"), ("/ro", "ot/"), ("/ho", "me/")];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        for (line, text) in file.lines() {
            for (head, tail) in MACHINE_PATHS {
                let path = format!("{head}{tail}");
                if holds_path(text, &path) {
                    let remedy = "take the place from an argument, or make it relative";
                    let what = format!("a path of one machine, {path}");
                    findings.push(Finding::new(&file.path, line, what, remedy));
                }
            }
        }
    }
    findings
}

/// The path from the root of a file system, not as a part of a longer one or of a URL.
fn holds_path(text: &str, path: &str) -> bool {
    text.match_indices(path).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-~}/".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_one_machine_are_found() {
        let (head, tail) = MACHINE_PATHS[0];
        let own = format!("let a = \"{head}{tail}x\";");
        let below = format!("let a = \"frame{head}{tail}x\";");
        let tree = Tree::of(&[("a.txt", &own), ("b.txt", &below), ("c.txt", "a workhorse")]);
        let found = check(&tree);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].path.to_str(), found[0].line), (Some("a.txt"), 1));
    }
}
