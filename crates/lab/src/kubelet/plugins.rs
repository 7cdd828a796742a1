//! Network plug-ins, run as container runtimes run them: one process for each call.

use super::Error;
use serde_json::{Map, Value, json};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::watch;

/// The plug-in that this very binary is.
const OWN: &str = "podway";
const INTERFACE: &str = "eth0";

/// A network configuration list (CNI 1.1, "Section 1").
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NetworkList {
    name: String,
    version: String,
    plugins: Vec<Map<String, Value>>,
    /// Where plug-ins other than our own are.
    path: Vec<PathBuf>,
}

/// The list that holds now; none until the agent has written one.
pub(super) type Network = watch::Receiver<Option<Arc<NetworkList>>>;

/// The pod that a call is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attachment<'a> {
    pub(super) container: &'a str,
    pub(super) netns: &'a Path,
    pub(super) namespace: &'a str,
    pub(super) pod: &'a str,
    pub(super) uid: &'a str,
}

impl NetworkList {
    /// The lexically first list of a directory, as runtimes choose it; none where there is none yet.
    pub(super) fn find(directory: &Path, path: &[PathBuf]) -> Result<Option<NetworkList>, Error> {
        let entries = std::fs::read_dir(directory).map_err(Error::file("read", directory))?;
        let is_list =
            |file: &PathBuf| file.extension().is_some_and(|it| it == "conflist" || it == "conf");
        let files = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_list);
        let Some(file) = files.min() else { return Ok(None) };
        let bytes = std::fs::read(&file).map_err(Error::file("read", &file))?;
        let parsed = serde_json::from_slice(&bytes);
        let value = parsed.map_err(|source| Error::Unreadable { path: file.clone(), source })?;
        let list = NetworkList::parse(value, path.to_vec());
        list.map(Some).map_err(|field| Error::NetworkList { path: file, field })
    }

    /// A configuration of a single plug-in counts as a list of one. `Err`: the field that is missing.
    fn parse(value: Value, path: Vec<PathBuf>) -> Result<NetworkList, &'static str> {
        let text = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
        let name = text("name").ok_or("name")?;
        let version = text("cniVersion").unwrap_or_else(|| "0.2.0".to_owned());
        let plugins = match value.get("plugins") {
            Some(Value::Array(plugins)) => plugins.clone(),
            Some(_) => return Err("plugins"),
            None => vec![value.clone()],
        };
        let object = |plugin| match plugin {
            Value::Object(plugin) if plugin.get("type").is_some_and(Value::is_string) => Ok(plugin),
            _ => Err("plugins[].type"),
        };
        let plugins = plugins.into_iter().map(object).collect::<Result<Vec<_>, _>>()?;
        if plugins.is_empty() {
            return Err("plugins");
        }
        Ok(NetworkList { name, version, plugins, path })
    }

    /// ADD by each plug-in in order; the last one's result. After a failure everything is deleted again.
    pub(super) async fn add(&self, pod: Attachment<'_>) -> Result<Value, Error> {
        let mut result = None;
        for plugin in &self.plugins {
            match self.call(plugin, "ADD", Some(pod), result.as_ref(), None).await {
                Ok(made) => result = Some(made),
                Err(error) => {
                    // The error that matters is the one at hand.
                    self.del(pod, result.as_ref()).await.ok();
                    return Err(error);
                }
            }
        }
        Ok(result.unwrap_or_default())
    }

    /// DEL by each plug-in, last first.
    pub(super) async fn del(
        &self,
        pod: Attachment<'_>,
        result: Option<&Value>,
    ) -> Result<(), Error> {
        for plugin in self.plugins.iter().rev() {
            self.call(plugin, "DEL", Some(pod), result, None).await?;
        }
        Ok(())
    }

    /// CHECK by each plug-in; those that are too old for it count as content.
    pub(super) async fn check(&self, pod: Attachment<'_>, result: &Value) -> Result<(), Error> {
        if matches!(self.version.as_str(), "0.1.0" | "0.2.0" | "0.3.0" | "0.3.1") {
            return Ok(());
        }
        for plugin in &self.plugins {
            self.call(plugin, "CHECK", Some(pod), Some(result), None).await?;
        }
        Ok(())
    }

    /// GC: only attachments of these containers are alive.
    pub(super) async fn gc(&self, alive: &[String]) -> Result<(), Error> {
        if self.version != "1.1.0" {
            return Ok(());
        }
        let attachment = |id: &String| json!({"containerID": id, "ifname": INTERFACE});
        let valid: Value = alive.iter().map(attachment).collect();
        for plugin in &self.plugins {
            self.call(plugin, "GC", None, None, Some(&valid)).await?;
        }
        Ok(())
    }

    async fn call(
        &self,
        plugin: &Map<String, Value>,
        verb: &'static str,
        pod: Option<Attachment<'_>>,
        previous: Option<&Value>,
        valid: Option<&Value>,
    ) -> Result<Value, Error> {
        let name = plugin.get("type").and_then(Value::as_str).unwrap_or_default();
        let program = self.program(name)?;
        let failed = |operation| Error::file(operation, &program);
        let mut command = Command::new(&program);
        command.arg0(name).env("CNI_COMMAND", verb).env("CNI_PATH", join(&self.path));
        if let Some(pod) = pod {
            command.envs(variables(pod));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(failed("start"))?;
        if let Some(mut stdin) = child.stdin.take() {
            let input = self.input(plugin, previous, valid).to_string();
            // A plug-in that does not read its input tells by its exit what is wrong.
            stdin.write_all(input.as_bytes()).await.ok();
        }
        let output = child.wait_with_output().await.map_err(failed("run"))?;
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if output.status.success() {
            return Ok(printed);
        }
        Err(refusal(name, verb, &printed))
    }

    fn program(&self, name: &str) -> Result<PathBuf, Error> {
        if name == OWN {
            return Ok(PathBuf::from("/proc/self/exe"));
        }
        // A name with a slash could lead out of the directories.
        let files = self.path.iter().filter(|_| !name.contains('/')).map(|path| path.join(name));
        let missing = || Error::NoPlugin { plugin: name.to_owned(), path: self.path.clone() };
        files.into_iter().find(|file| file.is_file()).ok_or_else(missing)
    }

    fn input(
        &self,
        plugin: &Map<String, Value>,
        previous: Option<&Value>,
        valid: Option<&Value>,
    ) -> Value {
        let mut input = plugin.clone();
        input.insert("name".into(), self.name.clone().into());
        input.insert("cniVersion".into(), self.version.clone().into());
        if let Some(previous) = previous {
            input.insert("prevResult".into(), previous.clone());
        }
        if let Some(valid) = valid {
            input.insert("cni.dev/valid-attachments".into(), valid.clone());
        }
        input.into()
    }
}

fn variables(pod: Attachment<'_>) -> [(&'static str, String); 4] {
    let Attachment { container, netns, namespace, pod, uid } = pod;
    let arguments = format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={pod};\
         K8S_POD_INFRA_CONTAINER_ID={container};K8S_POD_UID={uid}"
    );
    [
        ("CNI_CONTAINERID", container.to_owned()),
        ("CNI_NETNS", netns.display().to_string()),
        ("CNI_IFNAME", INTERFACE.to_owned()),
        ("CNI_ARGS", arguments),
    ]
}

fn join(path: &[PathBuf]) -> String {
    let directories: Vec<_> = path.iter().map(|it| it.display().to_string()).collect();
    directories.join(":")
}

fn refusal(plugin: &str, verb: &'static str, printed: &Value) -> Error {
    let text = |field: &str| printed.get(field).and_then(Value::as_str).unwrap_or_default();
    let message = match (text("msg"), text("details")) {
        ("", _) => "failed without a word".to_owned(),
        (message, "") => message.to_owned(),
        (message, details) => format!("{message}: {details}"),
    };
    let code = printed.get("code").and_then(Value::as_u64).unwrap_or_default();
    Error::Plugin { plugin: plugin.to_owned(), verb, code, message }
}

/// The addresses that a result gives to the pod.
pub(super) fn addresses(result: &Value) -> Vec<IpAddr> {
    let ips = result.get("ips").and_then(Value::as_array);
    let address = |ip: &Value| ip.get("address")?.as_str()?.split('/').next()?.parse().ok();
    ips.into_iter().flatten().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_runtimes_read_them() {
        let rows = [
            (json!({"name": "a", "plugins": [{"type": "x"}]}), Ok(1)),
            (json!({"name": "a", "plugins": [{"type": "x"}, {"type": "y"}]}), Ok(2)),
            (json!({"name": "a", "type": "x"}), Ok(1)),
            (json!({"name": "a", "plugins": []}), Err("plugins")),
            (json!({"name": "a", "plugins": [{}]}), Err("plugins[].type")),
            (json!({"name": "a"}), Err("plugins[].type")),
            (json!({"type": "x"}), Err("name")),
            (json!([]), Err("name")),
        ];
        for (value, expected) in rows {
            let parsed = NetworkList::parse(value.clone(), vec![]);
            assert_eq!(parsed.map(|list| list.plugins.len()), expected, "{value}");
        }
    }

    #[test]
    fn a_plug_in_gets_its_part_of_the_list() {
        let list =
            json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "x", "mtu": 9}]});
        let list = NetworkList::parse(list, vec![]).unwrap();
        let input = list.input(&list.plugins[0], Some(&json!({"ips": []})), None);
        let expected = json!({
            "cniVersion": "1.0.0", "name": "n", "type": "x", "mtu": 9, "prevResult": {"ips": []},
        });
        assert_eq!(input, expected);
    }
}
