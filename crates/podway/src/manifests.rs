//! Manifests from files, folders and standard input: the door in front of `model::manifest`.

use model::Object;
use model::manifest::{self, Document, LoadError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What `-f` was given, and why it cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{}: cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: no file here ends in .yaml, .yml or .json", path.display())]
    EmptyFolder { path: PathBuf },
    #[error("-f - can be given once only: standard input ends after it was read")]
    StandardInputTwice,
    #[error(transparent)]
    Text(#[from] manifest::Error),
    #[error(transparent)]
    Object(#[from] Box<LoadError>),
}

/// All that is wrong with the manifests, a line each.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub(crate) struct Faults(Vec<Error>);

/// The objects of all `-f` arguments in order, each with its typed form where the model has one.
///
/// All faults of all files at once, so that a caller applies everything or nothing.
pub(crate) fn load(paths: &[PathBuf]) -> Result<Vec<(Document, Option<Object>)>, Faults> {
    let documents = read(paths).map_err(Faults)?;
    let fault = |error: LoadError| Error::from(Box::new(error));
    let faults = |errors: Vec<LoadError>| Faults(errors.into_iter().map(fault).collect());
    manifest::load(documents).map_err(faults)
}

/// The documents of all `-f` arguments: files, folders (with what is below them), `-`.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Document>, Vec<Error>> {
    let (mut documents, mut errors) = (Vec::new(), Vec::new());
    if paths.iter().filter(|path| is_standard_input(path)).count() > 1 {
        return Err(vec![Error::StandardInputTwice]);
    }
    for path in paths {
        let files = files(path).unwrap_or_else(|error| {
            errors.push(error);
            Vec::new()
        });
        for file in files {
            match read_file(&file) {
                Ok(found) => documents.extend(found),
                Err(error) => errors.push(error),
            }
        }
    }
    if errors.is_empty() { Ok(documents) } else { Err(errors) }
}

fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn read_file(path: &Path) -> Result<Vec<Document>, Error> {
    let text = if is_standard_input(path) {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|source| Error::Read { path: path.to_owned(), source })?;
    Ok(manifest::parse(&path.to_string_lossy(), &text)?)
}

/// The path itself, or the manifests in and below a folder, sorted by name.
fn files(path: &Path) -> Result<Vec<PathBuf>, Error> {
    if is_standard_input(path) || !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    walk(path, &mut found)?;
    if found.is_empty() {
        return Err(Error::EmptyFolder { path: path.to_owned() });
    }
    Ok(found)
}

/// Links to files are followed, links to folders are not: they may go in circles.
fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    let unreadable = |source| Error::Read { path: folder.to_owned(), source };
    let entries = std::fs::read_dir(folder).map_err(unreadable)?;
    let mut entries: Vec<_> = entries.collect::<Result<_, _>>().map_err(unreadable)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_type().map_err(unreadable)?.is_dir() {
            walk(&path, found)?;
        } else if is_manifest(&path) && path.is_file() {
            found.push(path);
        }
    }
    Ok(())
}

fn is_manifest(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|e| extension == *e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A folder of this test alone, gone at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("podway-{name}-{}", std::process::id()));
            fs::create_dir_all(path.join("below")).unwrap();
            Folder(path)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn folders_are_read_with_all_below_in_order() {
        let folder = Folder::new("folders");
        let object =
            |name| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
        folder.write("c.yml", &object("three"));
        folder.write("a.yaml", &object("one"));
        folder.write(
            "below/b.json",
            r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"two"}}"#,
        );
        folder.write("notes.txt", "no: [manifest");
        let loaded = load(std::slice::from_ref(&folder.0)).unwrap();
        let names: Vec<_> = loaded
            .iter()
            .map(|(_, object)| object.as_ref().unwrap().meta().key.name.to_string())
            .collect();
        assert_eq!(names, ["one", "two", "three"]);
    }

    #[test]
    fn every_fault_is_told() {
        let folder = Folder::new("faults");
        let broken = folder.write("broken.yaml", "kind: [");
        let paths = [broken, folder.0.join("below"), folder.0.join("none.yaml")];
        let told: Vec<_> = load(&paths).unwrap_err().0.iter().map(ToString::to_string).collect();
        let ends = ["broken.yaml:2:1", ".yaml, .yml or .json", "No such file or directory"];
        assert_eq!(told.len(), ends.len());
        for (told, end) in told.iter().zip(ends) {
            assert!(told.contains(end), "{told}");
        }
        let twice = [PathBuf::from("-"), PathBuf::from("-")];
        assert!(matches!(read(&twice).unwrap_err()[..], [Error::StandardInputTwice]));
    }
}
