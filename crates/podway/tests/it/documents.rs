//! What the pages on Services and explanations say one can type works as it stands there.

use crate::labs::{Done, Lab, PODWAY, example};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PAGES: [(&str, &str); 3] = [
    ("service-proxy.md", include_str!("../../../../docs/service-proxy.md")),
    ("explain.md", include_str!("../../../../docs/explain.md")),
    ("agent.md", include_str!("../../../../docs/agent.md")),
];

/// Programs of a real node, with names that are to be filled in: of these the arguments must be right.
const ON_A_NODE: [&str; 3] = ["podway agent ", "podway edge ", "podway clean "];

/// The blocks of a page in this language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    let inside = page.split(fence.as_str()).skip(1);
    inside.map(|rest| rest.split("```").next().unwrap_or_default().trim()).collect()
}

/// What is typed in a dialogue.
fn commands(dialogue: &str) -> String {
    let typed: Vec<_> = dialogue.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    typed.join("\n")
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Types a block of a page, all lines of which must succeed.
fn typed(lab: &Lab, script: &str) -> Done {
    let programs = Path::new(PODWAY).parent().unwrap().display().to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
    let kubeconfig = std::env::temp_dir().join(format!("{}-kubeconfig", lab.name));
    std::fs::write(&kubeconfig, lab.run("lab kubeconfig").stdout).unwrap();
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", script]).current_dir(repository()).stdin(Stdio::null());
    shell.env("PATH", path).env("PODWAY_LAB", &lab.name).env("KUBECONFIG", &kubeconfig);
    let done = Done::of(&shell.output().unwrap());
    std::fs::remove_file(&kubeconfig).unwrap();
    done
}

fn is_installed(program: &str) -> bool {
    let found = Command::new("which").arg(program).stdout(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

/// What is run for a block; `None`: it needs a program that is not here.
fn script(block: &str) -> Option<String> {
    if block.contains("kubectl ") && !is_installed("kubectl") {
        return None;
    }
    let line = |line: &str| {
        let on_a_node = ON_A_NODE.iter().any(|it| line.starts_with(it));
        if on_a_node { format!("{line} --help >/dev/null\n") } else { format!("{line}\n") }
    };
    Some(block.lines().map(line).collect())
}

#[test]
fn what_the_pages_say_can_be_typed() {
    let lab = Lab::up(&[&example("kubeadm-ha")], &["--agent-arg=--connection-accounting"]);
    let mut failed = Vec::new();
    let mut number = 0;
    for (page, text) in PAGES {
        let dialogues = blocks(text, "console");
        let dialogues: Vec<String> = dialogues.iter().map(|dialogue| commands(dialogue)).collect();
        let all = blocks(text, "sh").into_iter().chain(dialogues.iter().map(String::as_str));
        for block in all {
            let Some(script) = script(block) else { continue };
            number += 1;
            let done = typed(&lab, &script);
            if done.code != 0 {
                failed.push(format!("{page}:\n{block}\n{done:#?}"));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    assert!(number >= 10, "{number} blocks are not all");
}
