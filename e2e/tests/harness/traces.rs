//! What a cluster could leave on this machine: processes, mounts, networks, rules, cgroups, settings.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use framewright_e2e::cluster::all;

/// What a cluster could leave on this machine, a line each. Of other clusters there is little in it, since they come and go.
pub(crate) fn traces(name: &str) -> Result<BTreeSet<String>> {
    let mut traces = BTreeSet::new();
    let mut add = |kind: &str, lines: &str, is_meant: &dyn Fn(&str) -> bool| {
        let lines = lines.lines().filter(|line| is_meant(line));
        traces.extend(lines.map(|line| format!("{kind}: {line}")));
    };
    let any = |_: &str| true;
    if all()?.iter().any(|(other, _)| other == name) {
        add("folder", name, &any);
    }
    add("process", &command_lines()?.join("\n"), &|line| {
        carries(line, name)
    });
    add("mount", &fs::read_to_string("/proc/mounts")?, &any);
    add("network namespace", &said("ip", &["netns"])?, &any);
    let links = said("ip", &["-oneline", "-details", "link"])?;
    add("link", &links, &|line| carries(line, name));
    for save in ["iptables-save", "ip6tables-save"] {
        let rules = said(save, &[])?;
        // Chains are written with how much has passed them.
        let rules = rules.lines().map(|line| line.split(" [").next());
        let rules: Vec<&str> = rules.flatten().collect();
        add(save, &rules.join("\n"), &|line| !line.starts_with('#'));
    }
    if Command::new("nft").arg("--version").output().is_ok() {
        let rules = said("nft", &["--stateless", "list", "ruleset"])?;
        add("nft", &rules, &|line| !line.starts_with('#'));
    }
    let ours = format!("/framewright-{name}");
    let cgroups = said("find", &["/sys/fs/cgroup", "-type", "d"])?;
    add("cgroup", &cgroups, &|line| {
        let is_systemds = [".slice", ".scope", ".service"]
            .iter()
            .any(|end| line.contains(end));
        line.contains(&ours) || !(line.contains("/framewright-") || is_systemds)
    });
    for folder in ["kernel", "net", "vm"] {
        let settings = settings(&Path::new("/proc/sys").join(folder));
        add("setting", &settings.join("\n"), &|line| {
            !OF_ITSELF.iter().any(|part| line.contains(part))
        });
    }
    Ok(traces)
}

/// What the kernel changes of its own accord, or with what others do.
const OF_ITSELF: [&str; 6] = [
    "/kernel/random/",
    "/kernel/ns_last_pid",
    "/kernel/pty/nr",
    "/kernel/perf_event_max_sample_rate",
    "/netfilter/nf_conntrack_count",
    // Of each link; those of ours are counted as links.
    "/framewright",
];

pub(crate) fn same(before: &BTreeSet<String>, after: &BTreeSet<String>) -> Result<()> {
    let gone: Vec<&String> = before.difference(after).collect();
    let left: Vec<&String> = after.difference(before).collect();
    ensure!(
        gone.is_empty() && left.is_empty(),
        "gone is {gone:#?}, left is {left:#?}"
    );
    Ok(())
}

/// Whether the name of a cluster is a word of this text.
fn carries(text: &str, name: &str) -> bool {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-')
        .any(|word| word == name)
}

/// The values below a folder of /proc/sys, as far as they can be read.
fn settings(path: &Path) -> Vec<String> {
    if let Ok(entries) = fs::read_dir(path) {
        let inside = entries.flatten();
        return inside.flat_map(|entry| settings(&entry.path())).collect();
    }
    let value = fs::read_to_string(path).unwrap_or_default();
    vec![format!(
        "{} = {}",
        path.display(),
        value.trim().replace('\n', " ")
    )]
}

/// The processes of a running cluster: its first one and all that have come of it, pods' too.
pub(crate) fn inhabitants(name: &str) -> Result<Vec<Process>> {
    let (mut ours, mut others): (Vec<Process>, Vec<Process>) =
        processes()?.partition(|process| carries(&process.line, name));
    loop {
        let parents: BTreeSet<u32> = ours.iter().map(|process| process.id).collect();
        let (children, rest): (Vec<Process>, Vec<Process>) = others
            .into_iter()
            .partition(|process| parents.contains(&process.parent));
        if children.is_empty() {
            return Ok(ours);
        }
        ours.extend(children);
        others = rest;
    }
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) id: u32,
    /// In ticks since the machine's; tells apart two processes of one number.
    pub(crate) started: u64,
    parent: u32,
    pub(crate) line: String,
}

/// All that have not ended: what only waits for its parent to hear of its end is nothing any more.
pub(crate) fn processes() -> Result<impl Iterator<Item = Process>> {
    Ok(fs::read_dir("/proc")?.flatten().filter_map(|entry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name before that may hold anything.
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let has_ended = ["Z", "X"].contains(&fields.next()?);
        let parent = fields.next()?.parse().ok()?;
        let started = fields.nth(17)?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let process = Process {
            id,
            started,
            parent,
            line,
        };
        (!has_ended).then_some(process)
    }))
}

pub(crate) fn command_lines() -> Result<Vec<String>> {
    Ok(processes()?.map(|process| process.line).collect())
}

fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("start {program}"))?;
    Ok(String::from_utf8(output.stdout)?)
}
