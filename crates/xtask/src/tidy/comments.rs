//! Banners: comments that draw lines instead of saying why.

use super::Finding;
use super::tree::{File, Tree};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.files.iter().filter_map(|file| Some((file, marker(file)?))).flat_map(found_in).collect()
}

/// What begins a comment in this kind of file.
fn marker(file: &File) -> Option<&'static str> {
    let name = file.path.file_name()?.to_str()?;
    match name.rsplit_once('.').map_or(name, |(_, extension)| extension) {
        "rs" => Some("//"),
        "toml" | "sh" | "yaml" | "yml" | "Makefile" | "run" => Some("#"),
        _ => None,
    }
}

fn found_in((file, marker): (&File, &'static str)) -> Vec<Finding> {
    let banners = file.lines().filter(|(_, line)| is_banner(line, marker));
    let remedy = "say in a module or a function's name what the banner says";
    banners.map(|(line, _)| Finding::new(&file.path, line, "a banner", remedy)).collect()
}

/// Four or more drawing characters in a row at the head or the end of a comment.
fn is_banner(line: &str, marker: &str) -> bool {
    let Some(comment) = line.trim().strip_prefix(marker) else { return false };
    let comment = comment.trim_start_matches(['!', '/']).trim();
    let drawn = |text: &str| {
        let first = text.chars().next().filter(|first| "-=*#~_".contains(*first));
        first.is_some_and(|first| text.chars().take_while(|c| *c == first).count() >= 4)
    };
    let reversed: String = comment.chars().rev().collect();
    drawn(comment) || drawn(&reversed) || line.trim().starts_with("/////")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banners_are_told_from_prose() {
        for banner in
            ["// ----", "  // ---- helpers ----", "//////////", "/// ====", "// helpers ===="]
        {
            assert!(is_banner(banner, "//"), "{banner}");
        }
        for prose in
            ["// why -- because", "//! | a |---|", "/// ---", "let a = 1; // ----", "//! ```"]
        {
            assert!(!is_banner(prose, "//"), "{prose}");
        }
        let tree =
            Tree::of(&[("Makefile", "# ----\n"), ("a.md", "# ----\n"), ("a.toml", "# #####")]);
        assert_eq!(check(&tree).len(), 2);
    }
}
