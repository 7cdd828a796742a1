//! Tests that cannot fail, tests that do not run, code that nobody calls.

use super::Finding;
use super::tree::{File, Function, Rust, Tree};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let by_name = functions_by_name(tree);
    for (file, rust) in tree.rust() {
        findings.extend(rust.functions.iter().filter_map(|f| without_assert(file, f, &by_name)));
        findings.extend(ignored(file, rust));
        findings.extend(skipping(file, rust));
        findings.extend(dead_code(file, rust));
    }
    findings
}

/// The functions of each crate by name; what is not a crate's belongs to room "".
type ByName<'t> = BTreeMap<(&'t str, &'t str), Vec<&'t Function>>;

fn functions_by_name(tree: &Tree) -> ByName<'_> {
    let mut by_name = ByName::new();
    for (file, rust) in tree.rust() {
        for function in &rust.functions {
            let key = (file.room().unwrap_or_default(), function.name.as_str());
            by_name.entry(key).or_default().push(function);
        }
    }
    by_name
}

fn without_assert(file: &File, test: &Function, by_name: &ByName<'_>) -> Option<Finding> {
    let is_test = test.attributes.iter().any(|name| name == "test" || name.ends_with("::test"));
    let can_panic_rightly = test.attributes.iter().any(|name| name == "should_panic");
    let room = file.room().unwrap_or_default();
    if !is_test || can_panic_rightly || asserts(test, room, by_name, &mut BTreeSet::new()) {
        return None;
    }
    let what = format!("test {} asserts nothing", test.name);
    Some(Finding::new(&file.path, test.line, what, "compare what it computes with what is right"))
}

/// Whether the function asserts, itself or through functions of its own crate.
fn asserts<'t>(
    function: &'t Function,
    room: &'t str,
    by_name: &ByName<'t>,
    seen: &mut BTreeSet<&'t str>,
) -> bool {
    if function.names.iter().any(|name| is_assertion(name)) {
        return true;
    }
    function.names.iter().any(|name| {
        seen.insert(name)
            && by_name
                .get(&(room, name.as_str()))
                .is_some_and(|called| called.iter().any(|f| asserts(f, room, by_name, seen)))
    })
}

fn is_assertion(name: &str) -> bool {
    let macros = ["assert", "prop_assert", "debug_assert"];
    macros.iter().any(|stem| name == *stem || name.starts_with(&format!("{stem}_")))
        || ["panic", "unwrap_err", "expect_err"].contains(&name)
}

fn ignored(file: &File, rust: &Rust) -> Vec<Finding> {
    let bare = rust.functions.iter().filter(|function| {
        let is_ignored = function.attributes.iter().any(|name| name == "ignore");
        is_ignored && file.text.contains("#[ignore]")
    });
    let remedy = "write #[ignore = \"reason\"], or make the test run";
    bare.map(|f| Finding::new(&file.path, f.line, format!("{} is ignored", f.name), remedy))
        .collect()
}

/// A text that begins by saying that something is passed over.
fn skipping(file: &File, rust: &Rust) -> Vec<Finding> {
    let is_told = |text: &str| {
        let text = text.trim_start_matches(['"', 'r', '#']).to_ascii_lowercase();
        text.starts_with("skipping") || text.starts_with("skipped:")
    };
    let told = rust.words.iter().filter(|word| word.text.contains('"') && is_told(&word.text));
    let in_tests = told.filter(|word| in_test(file, rust, word.line));
    let remedy = "let the test fail where it cannot run";
    in_tests.map(|w| Finding::new(&file.path, w.line, "a test that skips itself", remedy)).collect()
}

/// In a file of tests, or below the first `mod tests` of a file.
fn in_test(file: &File, rust: &Rust, line: usize) -> bool {
    let is_test_file = file.path.components().any(|part| part.as_os_str() == "tests");
    let first_module = rust.syntax.items.iter().find_map(|item| match item {
        syn::Item::Mod(module) if module.ident == "tests" => Some(module.ident.span().start().line),
        _ => None,
    });
    is_test_file || first_module.is_some_and(|first| line >= first)
}

fn dead_code(file: &File, rust: &Rust) -> Vec<Finding> {
    let pairs = rust.words.windows(2);
    let found = pairs.filter(|pair| pair[0].text == "allow" && pair[1].text == "dead_code");
    let remedy = "delete what nobody calls";
    found.map(|pair| Finding::new(&file.path, pair[0].line, "allow(dead_code)", remedy)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let tree = Tree::of(&[("crates/a/tests/it/main.rs", text)]);
        check(&tree).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn tests_must_be_able_to_fail() {
        let right = [
            "#[test] fn t() { assert_eq!(f(), 1) }",
            "#[test] fn t() { g() } fn g() { h() } fn h() { assert!(true) }",
            "#[test] fn t() { in_namespace(|| { assert_ne!(1, 2) }) }",
            "#[test] #[should_panic] fn t() { f() }",
            "#[tokio::test] async fn t() { f().unwrap_err(); }",
            "fn t() { f() }",
        ];
        for text in right {
            assert_eq!(told(text), Vec::<String>::new(), "{text}");
        }
        let wrong = [
            "#[test] fn t() { f() } fn f() { t() }",
            "#[tokio::test] async fn t() { assertion() }",
        ];
        for text in wrong {
            assert_eq!(told(text), ["test t asserts nothing"], "{text}");
        }
    }

    #[test]
    fn tests_must_run_and_code_must_live() {
        let bare = "#[test] #[ignore] fn t() { assert!(f()) }";
        assert_eq!(told(bare), ["t is ignored"]);
        let reasoned = "#[test] #[ignore = \"an hour long\"] fn t() { assert!(f()) }";
        assert_eq!(told(reasoned), Vec::<String>::new());
        let skips = "fn f() { if !root() { eprintln!(\"skipping: no root\"); return; } }";
        assert_eq!(told(skips), ["a test that skips itself"]);
        assert_eq!(told("#[allow(dead_code)] fn f() {}"), ["allow(dead_code)"]);
    }
}
