//! The examples of this repository are right.

use model::manifest::{load, parse};
use model::{Object, Selector};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The manifests of a folder below `examples/`, as name and text.
#[expect(clippy::disallowed_methods, reason = "tests may read files, the crate may not")]
fn manifests(folder: &str) -> Vec<(String, String)> {
    let examples: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let entries = examples.join(folder).read_dir().unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json"))
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    files.sort();
    files
}

fn objects(folder: &str) -> Vec<Option<Object>> {
    let texts = manifests(folder);
    let documents = texts.iter().flat_map(|(name, text)| parse(name, text).unwrap()).collect();
    load(documents).unwrap().into_iter().map(|(_, object)| object).collect()
}

/// How many objects there are of each kind; those without a place in the model are "other".
fn census(objects: &[Option<Object>]) -> BTreeMap<String, usize> {
    let mut census = BTreeMap::new();
    for object in objects {
        let kind = object.as_ref().map_or("other".to_owned(), |object| object.kind().to_string());
        *census.entry(kind).or_default() += 1;
    }
    census
}

#[test]
fn the_examples_are_valid() {
    let rows: [(&str, &[(&str, usize)]); 2] = [
        ("kubeadm-ha", &[("Deployment", 1), ("Node", 3), ("Service", 1), ("VirtualIP", 1)]),
        (
            "larger",
            &[
                ("Deployment", 3),
                ("EndpointSlice", 1),
                ("Namespace", 3),
                ("Node", 3),
                ("Pod", 3),
                ("Service", 9),
                ("VirtualIP", 1),
                ("other", 1),
            ],
        ),
    ];
    for (folder, wanted) in rows {
        let found = census(&objects(folder));
        let wanted = wanted.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
        assert_eq!(found, wanted, "{folder}");
    }
}

#[test]
fn merge_keys_and_aliases_give_the_labels_a_reader_sees() {
    let frontend = objects("larger").into_iter().flatten().find_map(|object| match object {
        Object::Deployment(deployment) if &*deployment.meta.key.name == "frontend" => {
            Some(deployment)
        }
        _ => None,
    });
    let labels = |pairs: [(&str, &str); 2]| -> BTreeMap<String, String> {
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    };
    let wanted =
        labels([("app.kubernetes.io/name", "frontend"), ("app.kubernetes.io/part-of", "shop")]);
    let frontend = frontend.unwrap();
    assert_eq!(frontend.meta.labels, wanted);
    assert_eq!(frontend.selector, Selector::from_labels(wanted));
}
