//! How Kubernetes merges the lists and maps of its types, as the k8s-openapi crate's source tells it.
//!
//! One line a field: `TYPE FIELD atomic|set|KEY[,KEY…]`. The crate knows one key of each keyed list, so those that
//! have two are said here (API reference, `x-kubernetes-list-map-keys`).

use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const SECOND_KEYS: [(&str, &str, &str); 5] = [
    ("io.k8s.api.core.v1.Container", "ports", "containerPort,protocol"),
    ("io.k8s.api.core.v1.EphemeralContainer", "ports", "containerPort,protocol"),
    ("io.k8s.api.core.v1.PodSpec", "topologySpreadConstraints", "topologyKey,whenUnsatisfiable"),
    ("io.k8s.api.core.v1.ServiceSpec", "ports", "port,protocol"),
    ("io.k8s.api.core.v1.ServiceStatus", "conditions", "type"),
];

pub(crate) fn write(version: &str, out: &mut impl Write) -> Result<()> {
    let mut lines = BTreeSet::new();
    for file in files(&source()?.join("src").join(version))? {
        let text = std::fs::read_to_string(&file)?;
        lines.extend(rules(&text));
    }
    lines.retain(|line| {
        !line.contains(".v1alpha") && !line.contains(".v1beta") && !line.contains(".v2beta")
    });
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    Ok(())
}

/// The folder of the crate that this workspace builds with.
fn source() -> Result<PathBuf> {
    let output = Command::new("cargo").args(["metadata", "--format-version=1"]).output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let package = packages.iter().find(|package| package["name"] == "k8s-openapi");
    let manifest = package.and_then(|package| package["manifest_path"].as_str());
    let manifest = Path::new(manifest.context("no k8s-openapi")?);
    Ok(manifest.parent().unwrap_or(manifest).to_owned())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    if found.is_empty() {
        bail!("{}: nothing there", folder.display());
    }
    Ok(found)
}

fn rules(text: &str) -> Vec<String> {
    let Some(name) = between(text, "// Generated from definition ", "\n") else { return vec![] };
    let fields = fields(text);
    let field = |snake: &str| fields.get(snake).map_or(snake, |field| *field).to_owned();
    let mut lines = Vec::new();
    for part in text.split("crate::merge_strategies::").skip(1) {
        let strategy = part.split('(').next().unwrap_or_default();
        let Some(target) = between(part, "&mut self.", ",") else { continue };
        let target = field(target);
        let rule = match strategy {
            "list::atomic" | "map::atomic" => "atomic".to_owned(),
            "list::set" => "set".to_owned(),
            "list::map" => match SECOND_KEYS.iter().find(|it| it.0 == name && it.1 == target) {
                Some((_, _, keys)) => (*keys).to_owned(),
                None => keys(part).into_iter().map(camel).collect::<Vec<_>>().join(","),
            },
            _ => continue,
        };
        lines.push(format!("{name} {target} {rule}"));
    }
    lines
}

/// `"podCIDR" => Field::Key_pod_cidr,`
fn fields(text: &str) -> BTreeMap<&str, &str> {
    let arms = text.lines().filter_map(|line| line.trim().split_once(" => Field::Key_"));
    arms.map(|(json, snake)| (snake.trim_end_matches(','), json.trim_matches('"'))).collect()
}

fn keys(part: &str) -> Vec<&str> {
    let keys = between(part, "&[", "],").unwrap_or_default();
    keys.split("|lhs, rhs| lhs.").skip(1).filter_map(|key| key.split(' ').next()).collect()
}

/// Keys of list items: `mount_path` is `mountPath`.
fn camel(snake: &str) -> String {
    let mut words = snake.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let (head, rest) = word.split_at(word.len().min(1));
        match word {
            "id" => name + "ID",
            _ => name + &head.to_uppercase() + rest,
        }
    })
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split_once(end).map(|(inner, _)| inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_tells_its_rules() {
        let text = r#"// Generated from definition io.k8s.api.core.v1.X
            crate::merge_strategies::list::atomic(&mut self.cluster_ips, other.cluster_ips);
            crate::merge_strategies::list::map(
                &mut self.volume_mounts,
                other.volume_mounts,
                &[|lhs, rhs| lhs.mount_path == rhs.mount_path],
            "clusterIPs" => Field::Key_cluster_ips,
            "volumeMounts" => Field::Key_volume_mounts,"#;
        let expected = [
            "io.k8s.api.core.v1.X clusterIPs atomic",
            "io.k8s.api.core.v1.X volumeMounts mountPath",
        ];
        assert_eq!(rules(text), expected);
    }
}
