//! The files of the workspace, Rust ones parsed.

use anyhow::{Context, Result};
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};

/// Folders at the root that are made, not written.
const MADE: [&str; 3] = [".git", "target", ".bench"];

pub(super) struct Tree {
    /// Text files, sorted by path.
    pub(super) files: Vec<File>,
}

pub(super) struct File {
    /// Relative to the workspace.
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// For `.rs` files.
    pub(super) rust: Option<Rust>,
}

pub(super) struct Rust {
    pub(super) syntax: syn::File,
    /// Names and literals in the order of the text, macros' contents too.
    pub(super) words: Vec<Word>,
    pub(super) functions: Vec<Function>,
}

pub(super) struct Word {
    pub(super) text: String,
    pub(super) line: usize,
}

/// A function with a body, wherever it stands but inside macros.
pub(super) struct Function {
    pub(super) name: String,
    pub(super) line: usize,
    /// Lines between its braces.
    pub(super) lines: usize,
    /// The body's tokens, white space and comments gone.
    pub(super) body: String,
    /// The names in the body.
    pub(super) names: Vec<String>,
    /// Attributes' names: `test`, `should_panic`, `tokio::test`.
    pub(super) attributes: Vec<String>,
}

impl Tree {
    pub(super) fn read(root: &Path) -> Result<Tree> {
        let mut files = Vec::new();
        walk(root, root, &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Tree { files })
    }

    /// The Rust files among them.
    pub(super) fn rust(&self) -> impl Iterator<Item = (&File, &Rust)> {
        self.files.iter().filter_map(|file| Some((file, file.rust.as_ref()?)))
    }

    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Tree {
        let files = files.iter().map(|(path, text)| {
            File::new(PathBuf::from(path), (*text).to_owned()).expect("a test's file parses")
        });
        Tree { files: files.collect() }
    }
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<File>) -> Result<()> {
    for entry in folder.read_dir().with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let name = path.strip_prefix(root).context("walking below the root")?;
        if path.is_symlink() || MADE.iter().any(|made| name == Path::new(made)) {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, files)?;
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            files.push(File::new(name.to_owned(), text)?);
        }
    }
    Ok(())
}

impl File {
    fn new(path: PathBuf, text: String) -> Result<File> {
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        let rust = is_rust.then(|| Rust::parse(&text)).transpose();
        let rust = rust.with_context(|| format!("parsing {}", path.display()))?;
        Ok(File { path, text, rust })
    }

    /// The crate a file belongs to: the folder below `crates/`.
    pub(super) fn room(&self) -> Option<&str> {
        let below = self.path.strip_prefix("crates").ok()?;
        below.components().next()?.as_os_str().to_str()
    }

    /// The lines with their numbers, from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

impl Rust {
    fn parse(text: &str) -> Result<Rust> {
        let syntax = syn::parse_file(text)?;
        let mut words = Vec::new();
        collect_words(text.parse().map_err(|error| anyhow::anyhow!("{error}"))?, &mut words);
        let mut functions = Functions(Vec::new());
        functions.visit_file(&syntax);
        Ok(Rust { syntax, words, functions: functions.0 })
    }
}

fn collect_words(tokens: TokenStream, words: &mut Vec<Word>) {
    for token in tokens {
        let line = token.span().start().line;
        match token {
            TokenTree::Group(group) => collect_words(group.stream(), words),
            TokenTree::Ident(ident) => words.push(Word { text: ident.to_string(), line }),
            TokenTree::Literal(literal) => words.push(Word { text: literal.to_string(), line }),
            TokenTree::Punct(_) => {}
        }
    }
}

struct Functions(Vec<Function>);

impl Functions {
    fn add(&mut self, attributes: &[syn::Attribute], name: &syn::Ident, block: &syn::Block) {
        let span = block.brace_token.span.join();
        let body = block.to_token_stream();
        let mut words = Vec::new();
        collect_words(body.clone(), &mut words);
        self.0.push(Function {
            name: name.to_string(),
            line: name.span().start().line,
            lines: (span.end().line - span.start().line).saturating_sub(1),
            body: body.to_string(),
            names: words.into_iter().map(|word| word.text).collect(),
            attributes: attributes.iter().map(|attribute| path_text(attribute.path())).collect(),
        });
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add(&item.attrs, &item.sig.ident, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add(&item.attrs, &item.sig.ident, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.add(&item.attrs, &item.sig.ident, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

/// `tokio::test` for `#[tokio::test(…)]`.
pub(super) fn path_text(path: &syn::Path) -> String {
    let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
    segments.join("::")
}
