//! Volumes that a container mounts: directories of the node, filled with what the API has, shown at the container's
//! places ([`Mounts`]). Pure, but for [`Volumes::fill`].

use super::environment::{Services, SourceError};
use super::names;
use super::places::Mounts;
use super::spec::{Spec, Surroundings};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::{Client, Kind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// ConfigMaps and Secrets are read again so often.
const REFRESH: Duration = Duration::from_secs(10);
/// Seconds for which a token is asked for where nothing is said.
const LIFETIME: u64 = 3600;

/// The volumes of a pod, below the kubelet's directory.
#[derive(Debug, Clone)]
pub(super) struct Volumes<'a> {
    pub(super) spec: &'a Spec,
    /// `ROOT/volumes/UID`
    pub(super) directory: PathBuf,
}

/// Files by their path within a volume.
type Files = BTreeMap<String, Vec<u8>>;

impl<'a> Volumes<'a> {
    pub(super) fn new(spec: &'a Spec, root: &Path) -> Self {
        Volumes { spec, directory: directory(root, &spec.pod.meta.uid) }
    }

    /// What a container mounts: the volume's directory, or a part of it, and the place.
    pub(super) fn mounts(&self, container: &Value) -> Mounts {
        let mounts = list(&container["volumeMounts"]).iter();
        let mount = |mount: &Value| {
            let (name, place) = (mount["name"].as_str()?, mount["mountPath"].as_str()?);
            let volume = self.spec.volume(name)?;
            let part = mount["subPath"].as_str().filter(|it| !it.is_empty());
            let source = match volume.pointer("/hostPath/path").and_then(Value::as_str) {
                Some(path) => PathBuf::from(path),
                None if is_ours(volume) => self.directory.join(name),
                None => return None,
            };
            let source = match part {
                Some(part) => source.join(Some(part).filter(|it| is_within(it))?),
                None => source,
            };
            Some((source, PathBuf::from(place)))
        };
        let mounts: Vec<_> = mounts.filter_map(mount).collect();
        // What the pod wants there itself goes before what every pod has.
        let is_free = |place: &&str| mounts.iter().all(|(_, to)| to != Path::new(place));
        let named = [names::HOSTS, names::RESOLVER].into_iter().filter(is_free);
        let named = named.map(|place| (self.named(place), PathBuf::from(place)));
        let wanted = named.chain(mounts.iter().cloned()).collect();
        // Names of volumes have no dot.
        let doubles = self.directory.join(format!("{}.doubles", text(container, "name")));
        Mounts { wanted, doubles }
    }

    /// Writes how the pod finds others by name.
    pub(super) fn name(
        &self,
        services: &Services,
        surroundings: &Surroundings,
    ) -> Result<(), SourceError> {
        // A machine without one tells nothing.
        let machine = |place: &str| std::fs::read_to_string(place).unwrap_or_default();
        let hosts = names::hosts(self.spec, surroundings, &machine(names::HOSTS));
        let resolver = names::resolver(self.spec, services, &machine(names::RESOLVER));
        let files = [(names::HOSTS, Some(hosts)), (names::RESOLVER, resolver)];
        std::fs::create_dir_all(&self.directory)
            .and_then(|()| {
                let mut written =
                    files.into_iter().filter_map(|(place, text)| Some((place, text?)));
                written.try_for_each(|(place, text)| std::fs::write(self.named(place), text))
            })
            .map_err(|source| SourceError::Volume { source })
    }

    /// Names of volumes have no dot.
    fn named(&self, place: &str) -> PathBuf {
        self.directory.join(place.trim_start_matches('/').replace('/', "."))
    }

    /// Writes what a container mounts.
    pub(super) async fn fill(
        &self,
        client: &Client,
        container: &Value,
        surroundings: &Surroundings,
    ) -> Result<(), SourceError> {
        for mount in list(&container["volumeMounts"]) {
            let name = mount["name"].as_str().unwrap_or_default();
            if let Some(volume) = self.spec.volume(name).filter(|volume| is_ours(volume)) {
                let written = self.write(client, volume, Some(surroundings)).await;
                written.map_err(|why| SourceError::Mount {
                    volume: name.to_owned(),
                    why: Box::new(why),
                })?;
                self.make_part(name, mount)?;
            }
        }
        Ok(())
    }

    /// A part of a volume that is not there is an empty directory.
    fn make_part(&self, volume: &str, mount: &Value) -> Result<(), SourceError> {
        let part = mount["subPath"].as_str().filter(|part| is_within(part));
        let missing = part.map(|part| self.directory.join(volume).join(part));
        let Some(missing) = missing.filter(|it| !it.exists()) else { return Ok(()) };
        std::fs::create_dir_all(missing).map_err(|source| SourceError::Volume { source })
    }

    /// Without surroundings, files that tell of them stay as they are.
    async fn write(
        &self,
        client: &Client,
        volume: &Value,
        surroundings: Option<&Surroundings>,
    ) -> Result<(), SourceError> {
        let name = volume["name"].as_str().unwrap_or_default();
        let files = self.contents(client, volume, surroundings).await?;
        let written = write(&self.directory.join(name), &files);
        written.map_err(|source| SourceError::Volume { source })
    }

    async fn contents(
        &self,
        client: &Client,
        volume: &Value,
        surroundings: Option<&Surroundings>,
    ) -> Result<Files, SourceError> {
        let mut files = Files::new();
        for source in sources(volume) {
            files.extend(self.of_source(client, &source, surroundings).await?);
        }
        Ok(files)
    }

    async fn of_source(
        &self,
        client: &Client,
        source: &Value,
        surroundings: Option<&Surroundings>,
    ) -> Result<Files, SourceError> {
        let namespace = &*self.spec.pod.meta.key.namespace;
        if let Some(wanted) = source.get("serviceAccountToken") {
            let token = self.token(client, wanted).await?;
            return Ok(Files::from([(text(wanted, "path"), token.into_bytes())]));
        }
        if let Some(wanted) = source.get("downwardAPI") {
            let item = |item: &Value| {
                let field = item.pointer("/fieldRef/fieldPath").and_then(Value::as_str)?;
                Some((text(item, "path"), self.spec.told(field, surroundings?)?.into_bytes()))
            };
            return Ok(list(&wanted["items"]).iter().filter_map(item).collect());
        }
        let kinds = [("configMap", Kind::CONFIG_MAP, "name"), ("secret", Kind::SECRET, "name")];
        let kinds = kinds.into_iter().chain([("secret", Kind::SECRET, "secretName")]);
        for (field, kind, named) in kinds {
            let Some((wanted, name)) =
                source.get(field).and_then(|it| Some((it, it.get(named)?.as_str()?)))
            else {
                continue;
            };
            return match client::get(client, kind, Some(namespace), name).await? {
                Some(object) => Ok(chosen(all(kind, &object), &wanted["items"])),
                None if wanted["optional"] == true => Ok(Files::new()),
                None => Err(SourceError::Absent { kind, name: name.to_owned() }),
            };
        }
        Ok(Files::new())
    }

    async fn token(&self, client: &Client, wanted: &Value) -> Result<String, SourceError> {
        let meta = &self.spec.pod.meta;
        let audience = wanted["audience"].as_str().filter(|it| !it.is_empty());
        let bound =
            json!({"kind": "Pod", "apiVersion": "v1", "name": &*meta.key.name, "uid": meta.uid});
        let asked = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {
                "audiences": audience.into_iter().collect::<Vec<_>>(),
                "expirationSeconds": wanted["expirationSeconds"].as_u64().unwrap_or(LIFETIME),
                "boundObjectRef": bound,
            },
        });
        let account = self.spec.account();
        let answer = client::request_token(client, &meta.key.namespace, account, &asked).await?;
        Ok(text(&answer["status"], "token"))
    }
}

/// Keeps a volume as the API has it, until it is dropped.
pub(super) async fn keep(client: Client, root: PathBuf, spec: Spec, volume: Value) {
    loop {
        tokio::time::sleep(period(&volume)).await;
        let written = Volumes::new(&spec, &root).write(&client, &volume, None).await;
        if let Err(error) = written {
            tracing::debug!(pod = %spec.pod.meta.key, %error, "a volume stays as it is");
        }
    }
}

/// How long a volume stays as it is: one with tokens until the first of them is four fifths through its life.
fn period(volume: &Value) -> Duration {
    let sources = sources(volume);
    let tokens = sources.iter().filter_map(|source| source.get("serviceAccountToken"));
    let lifetime = |token: &Value| token["expirationSeconds"].as_u64().unwrap_or(LIFETIME);
    tokens.map(lifetime).min().map_or(REFRESH, |seconds| Duration::from_secs(seconds * 4 / 5))
}

/// What commands in a container share with it: noted down for those that the supervisor starts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Surface {
    pub(crate) environment: Vec<(String, String)>,
    /// Where it starts.
    pub(crate) directory: PathBuf,
    pub(crate) mounts: Mounts,
    /// What the image's entry point is here, where that is a program.
    pub(crate) program: Option<PathBuf>,
}

impl Surface {
    pub(super) fn note(&self, root: &Path, uid: &str, container: &str) -> io::Result<()> {
        let directory = directory(root, uid);
        std::fs::create_dir_all(&directory)?;
        std::fs::write(Self::file(&directory, container), serde_json::to_vec(self)?)
    }

    /// None: the container was not started yet.
    pub(crate) fn read(root: &Path, uid: &str, container: &str) -> Option<Self> {
        let file = Self::file(&directory(root, uid), container);
        serde_json::from_slice(&std::fs::read(file).ok()?).ok()
    }

    /// Names of volumes have no dot.
    fn file(directory: &Path, container: &str) -> PathBuf {
        directory.join(format!("{}.json", container.replace('/', "")))
    }
}

/// Where the volumes of a pod are.
pub(super) fn directory(root: &Path, uid: &str) -> PathBuf {
    root.join("volumes").join(uid)
}

/// Whether the API may have something new for it.
pub(super) fn is_changing(volume: &Value) -> bool {
    ["projected", "configMap", "secret"].iter().any(|kind| volume.get(kind).is_some())
}

/// Whether its contents are made here.
fn is_ours(volume: &Value) -> bool {
    let kinds = ["projected", "configMap", "secret", "downwardAPI", "emptyDir"];
    kinds.iter().any(|kind| volume.get(kind).is_some())
}

/// What a volume is made of, each in the shape that it has in a projected one.
fn sources(volume: &Value) -> Vec<Value> {
    match volume.get("projected") {
        Some(projected) => list(&projected["sources"]).to_vec(),
        None => vec![volume.clone()],
    }
}

fn all(kind: Kind, object: &Value) -> Files {
    let entries = |field: &str| object[field].as_object().cloned().unwrap_or_default();
    let decode = |value: &Value| STANDARD.decode(value.as_str()?).ok();
    let plain = |value: &Value| Some(value.as_str()?.as_bytes().to_vec());
    let (text, bytes) = match kind {
        Kind::SECRET => (Default::default(), entries("data")),
        _ => (entries("data"), entries("binaryData")),
    };
    let text = text.iter().filter_map(|(key, value)| Some((key.clone(), plain(value)?)));
    let bytes = bytes.iter().filter_map(|(key, value)| Some((key.clone(), decode(value)?)));
    text.chain(bytes).collect()
}

/// The keys that are asked for, under the paths that are asked for; all of them where none is.
fn chosen(mut files: Files, items: &Value) -> Files {
    if list(items).is_empty() {
        return files;
    }
    let item = |item: &Value| Some((text(item, "path"), files.remove(item["key"].as_str()?)?));
    list(items).iter().filter_map(item).collect()
}

/// Each file is replaced as a whole: who reads it has the old or the new one. Paths stay within the directory.
fn write(directory: &Path, files: &Files) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    for (path, bytes) in files {
        if !is_within(path) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("no path in a volume: {path}"),
            ));
        }
        let path = directory.join(path);
        if std::fs::read(&path).is_ok_and(|old| old == *bytes) {
            continue;
        }
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        let draft = path.with_extension("new");
        std::fs::write(&draft, bytes)?;
        std::fs::rename(&draft, &path)?;
    }
    Ok(())
}

fn is_within(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    parts.all(|it| matches!(it, Component::Normal(_))) && !path.is_empty()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        let volumes = json!([
            {"name": "config", "configMap": {"name": "c"}},
            {"name": "claim", "persistentVolumeClaim": {"claimName": "x"}},
            {"name": "host", "hostPath": {"path": "/srv"}},
        ]);
        let mount = |name: &str, place: &str| json!({"name": name, "mountPath": place});
        let mut part = mount("config", "/etc/one");
        part["subPath"] = "one".into();
        let mut outside = part.clone();
        outside["subPath"] = "../other".into();
        let mounts = json!([
            mount("config", "/run/config"),
            mount("claim", "/data"),
            mount("host", "/mnt"),
            part,
            outside
        ]);
        Spec::parse(&json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "uid": "u"},
            "spec": {"volumes": volumes, "containers": [{"name": "c", "volumeMounts": mounts}]},
        }))
        .unwrap()
    }

    #[test]
    fn mounts_of_what_can_be_made() {
        let spec = spec();
        let container = spec.written(&spec.pod.containers[0]).unwrap();
        let mounts = Volumes::new(&spec, Path::new("/run/n")).mounts(container);
        let expected = [
            ("/run/n/volumes/u/etc.hosts", "/etc/hosts"),
            ("/run/n/volumes/u/etc.resolv.conf", "/etc/resolv.conf"),
            ("/run/n/volumes/u/config", "/run/config"),
            ("/srv", "/mnt"),
            ("/run/n/volumes/u/config/one", "/etc/one"),
        ];
        assert_eq!(mounts.wanted, expected.map(|(from, to)| (from.into(), to.into())));
    }

    #[test]
    fn tokens_are_renewed_before_they_expire() {
        let token = |seconds: u64| json!({"serviceAccountToken": {"expirationSeconds": seconds}});
        for (volume, seconds) in [
            (json!({"configMap": {"name": "c"}}), 10),
            (json!({"projected": {"sources": [token(3607), {"configMap": {}}]}}), 2885),
            (json!({"projected": {"sources": [token(3600), token(600)]}}), 480),
            (json!({"projected": {"sources": [{"serviceAccountToken": {}}]}}), 2880),
        ] {
            assert_eq!(period(&volume).as_secs(), seconds, "{volume}");
        }
    }

    #[test]
    fn files_of_maps_and_secrets() {
        let map = json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "/w=="}});
        let files = all(Kind::CONFIG_MAP, &map);
        assert_eq!(files.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(files["c"], [255]);
        let items = json!([{"key": "b", "path": "deep/b.txt"}, {"key": "nosuch", "path": "x"}]);
        assert_eq!(chosen(files, &items), Files::from([("deep/b.txt".into(), b"2".to_vec())]));
        assert_eq!(all(Kind::SECRET, &json!({"data": {"p": "aGk="}}))["p"], b"hi");
    }

    #[test]
    fn files_stay_in_their_volume() {
        let directory = std::env::temp_dir().join(format!("podway-volume-{}", std::process::id()));
        for path in ["../x", "/etc/x", "", "a/../../x"] {
            let written = write(&directory, &Files::from([(path.to_owned(), b"1".to_vec())]));
            assert_eq!(written.unwrap_err().kind(), io::ErrorKind::InvalidInput, "{path}");
        }
        for contents in ["1", "2"] {
            let files = Files::from([("a/b".to_owned(), contents.as_bytes().to_vec())]);
            write(&directory, &files).unwrap();
            assert_eq!(std::fs::read_to_string(directory.join("a/b")).unwrap(), contents);
        }
        std::fs::remove_dir_all(directory).unwrap();
    }
}
