//! What the README says can be typed, and where the documents point: both must exist.

use super::Finding;
use super::tree::{File, Tree, path_text};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use syn::visit::{self, Visit};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let vocabulary = Vocabulary::of(tree);
    let documents = tree.files.iter().filter(|file| has_extension(file, "md"));
    documents
        .flat_map(|file| {
            let mut findings = commands(file, &vocabulary);
            findings.extend(links(file, tree));
            findings
        })
        .collect()
}

fn has_extension(file: &File, wanted: &str) -> bool {
    file.path.extension().is_some_and(|extension| extension == wanted)
}

/// What `make` and `podway` understand.
#[derive(Default)]
struct Vocabulary {
    targets: BTreeSet<String>,
    subcommands: BTreeSet<String>,
    flags: BTreeSet<String>,
}

impl Vocabulary {
    fn of(tree: &Tree) -> Self {
        let mut words = Vocabulary::default();
        for file in tree.files.iter().filter(|file| file.path == Path::new("Makefile")) {
            let rules = file.text.lines().filter_map(|line| line.split_once(':'));
            let names = rules.flat_map(|(names, _)| names.split_whitespace());
            words.targets = names.map(str::to_owned).collect();
        }
        for (_, rust) in tree.rust().filter(|(file, _)| file.room() == Some("podway")) {
            words.visit_file(&rust.syntax);
        }
        words
    }
}

impl<'ast> Visit<'ast> for Vocabulary {
    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        if item.attrs.iter().any(|attribute| derives(attribute, "Subcommand")) {
            let variants = item.variants.iter();
            self.subcommands.extend(variants.map(|variant| {
                named(&variant.attrs, "name").unwrap_or_else(|| kebab(&variant.ident.to_string()))
            }));
        }
        visit::visit_item_enum(self, item);
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if let Some(ident) = &field.ident
            && field.attrs.iter().any(|attribute| path_text(attribute.path()) == "arg")
        {
            let own = ident.to_string().trim_start_matches("r#").replace('_', "-");
            self.flags.insert(named(&field.attrs, "long").unwrap_or(own));
        }
        visit::visit_field(self, field);
    }
}

fn derives(attribute: &syn::Attribute, wanted: &str) -> bool {
    let syn::Meta::List(list) = &attribute.meta else { return false };
    path_text(&list.path) == "derive" && list.tokens.to_string().contains(wanted)
}

/// The text in `#[arg(long = "text")]` and its like.
fn named(attributes: &[syn::Attribute], key: &str) -> Option<String> {
    let lists = attributes.iter().filter_map(|attribute| match &attribute.meta {
        syn::Meta::List(list) => Some(list.tokens.to_string()),
        _ => None,
    });
    lists.into_iter().find_map(|tokens| {
        let (_, after) = tokens.split_once(&format!("{key} = \""))?;
        Some(after.split_once('"')?.0.to_owned())
    })
}

/// `LeastConnections` as clap writes it: `least-connections`.
fn kebab(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

/// The lines of ```` ```sh ```` blocks that start with `make` or `podway`.
fn commands(file: &File, vocabulary: &Vocabulary) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut in_shell = false;
    for (number, line) in file.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            in_shell = !in_shell && language.starts_with("sh");
            continue;
        }
        if !in_shell {
            continue;
        }
        let command = line.split('#').next().unwrap_or_default();
        let unknown = command.split('|').flat_map(|part| unknown_words(part, vocabulary));
        findings.extend(unknown.map(|word| {
            let what = format!("`{word}` in a command does not exist");
            Finding::new(&file.path, number, what, "write what works today")
        }));
    }
    findings
}

fn unknown_words(command: &str, vocabulary: &Vocabulary) -> Vec<String> {
    let mut words =
        command.split_whitespace().skip_while(|word| word.contains('=') || *word == "sudo");
    let program = words.next().unwrap_or_default();
    let arguments: Vec<_> = words.take_while(|word| *word != "--").collect();
    match program.rsplit('/').next().unwrap_or_default() {
        "make" => {
            let targets =
                arguments.iter().filter(|word| !word.starts_with('-') && !word.contains('='));
            targets
                .filter(|word| !vocabulary.targets.contains(**word))
                .map(|word| format!("make {word}"))
                .collect()
        }
        "podway" => unknown_to_podway(&arguments, vocabulary),
        _ => Vec::new(),
    }
}

fn unknown_to_podway(arguments: &[&str], vocabulary: &Vocabulary) -> Vec<String> {
    let built_in = ["help", "version"];
    let verbs = match arguments {
        [group @ ("lab" | "show"), verb, ..] if !verb.starts_with('-') => vec![*group, *verb],
        [verb, ..] if !verb.starts_with('-') => vec![*verb],
        _ => Vec::new(),
    };
    let unknown_verbs = verbs
        .into_iter()
        .filter(|verb| !vocabulary.subcommands.contains(*verb) && !built_in.contains(verb))
        .map(|verb| format!("podway … {verb}"));
    let flags = arguments.iter().filter_map(|word| word.strip_prefix("--"));
    let flags = flags.map(|flag| flag.split('=').next().unwrap_or_default());
    let unknown_flags = flags
        .filter(|flag| !vocabulary.flags.contains(*flag) && !built_in.contains(flag))
        .map(|flag| format!("podway … --{flag}"));
    unknown_verbs.chain(unknown_flags).collect()
}

/// Links to files of the tree.
fn links(file: &File, tree: &Tree) -> Vec<Finding> {
    let folder = file.path.parent().unwrap_or(Path::new(""));
    let mut findings = Vec::new();
    for (number, line) in file.lines() {
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split([')', '#']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let wanted = normal(&folder.join(target));
            if !tree.files.iter().any(|other| other.path.starts_with(&wanted)) {
                let what = format!("a link to {target}, which is not there");
                findings.push(Finding::new(&file.path, number, what, "correct or remove it"));
            }
        }
    }
    findings
}

/// The path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAKEFILE: &str = "demo test:\n\tcargo build\n";
    const MAIN: &str = r#"
        #[derive(Subcommand)] enum Command { Lab(Lab), Explain { #[arg(long)] to: String, #[arg(long = "from")] source: String } }
        #[derive(Debug, Subcommand)] enum Lab { Up { #[arg(short, long)] node_count: u8 }, ReDo }
    "#;

    fn told(readme: &str) -> Vec<String> {
        let readme = format!("# Title\n```sh\n{readme}\n```\n`podway lab fly` in prose\n");
        let tree = Tree::of(&[
            ("Makefile", MAKEFILE),
            ("README.md", &readme),
            ("crates/podway/src/main.rs", MAIN),
        ]);
        check(&tree).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn commands_must_exist() {
        let right = [
            "make demo test",
            "podway lab up --node-count 3 # --what",
            "./target/release/podway lab re-do",
            "cat x | podway explain --from client --to=1.2.3.4:5 -- --more",
            "podway --help",
            "curl -k --location x",
        ];
        for line in right {
            assert_eq!(told(line), Vec::<String>::new(), "{line}");
        }
        let wrong = [
            ("make dinner", "make dinner"),
            ("podway lab fly", "podway … fly"),
            ("podway bake", "podway … bake"),
            ("FOO=1 podway lab up --nodes 3", "podway … --nodes"),
        ];
        for (line, word) in wrong {
            assert_eq!(told(line), [format!("`{word}` in a command does not exist")], "{line}");
        }
    }

    #[test]
    fn links_must_lead_somewhere() {
        let text =
            "[a](../README.md) [b](b.md#part) [c](https://c.example) [d](none.md) [e](..) [f](#g)";
        let tree = Tree::of(&[("README.md", ""), ("docs/b.md", text)]);
        let told: Vec<_> = check(&tree).into_iter().map(|finding| finding.what).collect();
        assert_eq!(told, ["a link to none.md, which is not there"]);
    }
}
