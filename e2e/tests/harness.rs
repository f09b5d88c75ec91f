//! What the harness promises: fast starts, clusters that never meet, and nothing left behind.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use framewright_e2e::cluster::{all, clear};
use framewright_e2e::images::pack;
use framewright_e2e::tools::{Part, Tools};
use framewright_e2e::{Cluster, Component, Mode, Options, eventually, with_namespace};

const PATIENCE: Duration = Duration::from_secs(60);

fn control_plane() -> Options {
    Options {
        mode: Mode::ControlPlane,
        ..Options::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_is_up_in_15_seconds_and_keeps_a_ledger() -> Result<()> {
    Tools::install(&[Part::ControlPlane]).await?;
    let started = Instant::now();
    let cluster = Cluster::start("fw-harness-api", control_plane()).await?;
    let took = started.elapsed();
    ensure!(took < Duration::from_secs(15), "it took {took:?}");
    let namespace = with_namespace(&cluster, "ledger", async |namespace: &str| {
        cluster
            .kubectl(&["--namespace", namespace, "create", "configmap", "proof"])
            .await?;
        Ok(namespace.to_owned())
    })
    .await?;
    let ledger = fs::read_to_string(cluster.audit_log())?;
    let entry = ledger
        .lines()
        .find(|line| line.contains("configmaps") && line.contains(&namespace));
    entry.context("the audit log does not know of the configmap")?;
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_on_the_node_and_finds_services_by_name() -> Result<()> {
    let tools = Tools::install(&[Part::Node]).await?;
    let image = pack::program(tools.path("kubectl")?, "framewright.local/kubectl:1").await?;
    let cluster = Cluster::start(
        "fw-harness-node",
        Options {
            images: vec![image],
            ..Options::default()
        },
    )
    .await?;
    with_namespace(&cluster, "pod", async |namespace: &str| {
        let pod = POD.replace("ARGUMENTS", r#"["version"]"#);
        cluster
            .kubectl_with_input(&["--namespace", namespace, "apply", "-f", "-"], &pod)
            .await?;
        cluster
            .kubectl(&[
                "--namespace",
                namespace,
                "wait",
                "--for=jsonpath={.status.phase}=Succeeded",
                "pod/probe",
                "--timeout=60s",
            ])
            .await?;
        let said = cluster
            .kubectl(&["--namespace", namespace, "logs", "probe"])
            .await?;
        ensure!(said.contains("Server Version"), "it said {said}");
        Ok(())
    })
    .await?;
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_gets_a_folder_that_a_pod_without_root_can_write_to_twice_over() -> Result<()> {
    let tools = Tools::install(&[Part::Node]).await?;
    let image = pack::program(tools.path("kubectl")?, "framewright.local/kubectl:1").await?;
    let cluster = Cluster::start(
        "fw-harness-claim",
        Options {
            images: vec![image],
            ..Options::default()
        },
    )
    .await?;
    // More claims than there are volumes: those of the first round must come back.
    for _ in 0..2 {
        with_namespace(&cluster, "claim", async |namespace: &str| {
            for number in 0..6 {
                let pod = POD
                    .replace("ARGUMENTS", r#"["--kubeconfig=/data/config", "config", "set-cluster", "proof", "--server=https://a"]"#)
                    .replace("emptyDir: {}", &format!("persistentVolumeClaim: {{claimName: claim-{number}}}"))
                    .replace("name: probe", &format!("name: probe-{number}"));
                let claim = CLAIM.replace("name: claim", &format!("name: claim-{number}"));
                cluster.kubectl_with_input(&["--namespace", namespace, "apply", "-f", "-"], &format!("{claim}---{pod}")).await?;
            }
            cluster.kubectl(&["--namespace", namespace, "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod", "--all", "--timeout=90s"]).await.map(drop)
        })
        .await?;
    }
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn gpus_are_offered_as_many_as_are_asked_for_and_the_number_can_change() -> Result<()> {
    let cluster = Cluster::start("fw-harness-gpu", Options::default()).await?;
    for count in [2, 1] {
        cluster.offer_gpus(count).await?;
    }
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_component_can_be_started_again() -> Result<()> {
    let cluster = Cluster::start("fw-harness-kill", control_plane()).await?;
    cluster.kill(Component::ApiServer).await?;
    ensure!(
        cluster.kubectl(&["get", "--raw", "/readyz"]).await.is_err(),
        "the killed API server answers"
    );
    cluster.restart(Component::ApiServer).await?;
    eventually(PATIENCE, "the API server answers again", async || {
        cluster.kubectl(&["get", "--raw", "/readyz"]).await
    })
    .await?;
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_leaves_nothing() -> Result<()> {
    let name = "fw-harness-rest";
    Tools::install(&[Part::Node]).await?;
    clear(name).await?;
    let before = traces(name)?;
    let cluster = Cluster::start(name, Options::default()).await?;
    let running = traces(name)?;
    for kind in ["folder", "process", "link", "cgroup"] {
        let is_seen = |trace: &String| trace.starts_with(kind);
        ensure!(
            running.difference(&before).any(is_seen),
            "a running cluster has a {kind}"
        );
    }
    let inhabitants = inhabitants(name)?;
    let is_pods = |process: &Process| process.line.starts_with("/coredns");
    ensure!(
        inhabitants.iter().any(is_pods),
        "no pod runs among {inhabitants:#?}"
    );
    cluster.stop().await?;
    same(&before, &traces(name)?)?;
    let was_there = |process: &Process| {
        let mut before = inhabitants.iter();
        before.any(|other| (other.id, other.started) == (process.id, process.started))
    };
    let left: Vec<Process> = processes()?.filter(was_there).collect();
    ensure!(left.is_empty(), "{left:#?} are left");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_live_side_by_side() -> Result<()> {
    let (one, two) = tokio::try_join!(
        Cluster::start("fw-harness-one", Options::default()),
        Cluster::start("fw-harness-two", Options::default())
    )?;
    ensure!(one.node_address() != two.node_address());
    one.kubectl(&["create", "namespace", "only-in-one"]).await?;
    ensure!(
        two.kubectl(&["get", "namespace", "only-in-one"])
            .await
            .is_err(),
        "the second cluster sees what is in the first"
    );
    one.stop().await?;
    two.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "node/node1",
        "--timeout=20s",
    ])
    .await?;
    two.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_was_killed_at_any_moment_is_cleared_by_the_next() -> Result<()> {
    let name = "fw-harness-killed";
    Tools::install(&[Part::Node]).await?;
    clear(name).await?;
    let before = traces(name)?;
    for milliseconds in [20, 150, 500, 1500, 3000, 5000] {
        let mut starter = up(&[name])?;
        // The claim is about the moment, so the moment is what is waited for.
        let _ = eventually::<(), _, _>(
            Duration::from_millis(milliseconds),
            "the moment",
            async || Err("not yet"),
        )
        .await;
        starter.kill()?;
        starter.wait()?;
    }
    let cluster = Cluster::start(name, control_plane()).await?;
    cluster.kubectl(&["get", "namespaces"]).await?;
    cluster.stop().await?;
    same(&before, &traces(name)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_cluster_outlives_its_starter_and_a_second_user_is_told_of_the_first() -> Result<()>
{
    let name = "fw-harness-kept";
    let mut starter = up(&[name, "--control-plane-only"])?;
    ensure!(starter.wait()?.success());
    ensure!(all()?.contains(&(name.to_owned(), true)));
    let cluster = Cluster::attach(name).await?;
    cluster.kubectl(&["get", "namespaces"]).await?;
    cluster.stop().await?;

    let held = Cluster::start(name, control_plane()).await?;
    let error = format!("{:#}", clear(name).await.unwrap_err());
    ensure!(error.contains(&std::process::id().to_string()), "{error}");
    held.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_kubebuilder_assets_is_used_and_what_is_missing_there_is_named() -> Result<()>
{
    let name = "fw-harness-assets";
    let tools = Tools::install(&[Part::ControlPlane]).await?;
    let assets = tempfile::tempdir()?;
    let start = || {
        Command::new(env!("CARGO_BIN_EXE_framewright-e2e"))
            .args(["up", name, "--control-plane-only"])
            .env("KUBEBUILDER_ASSETS", assets.path())
            .output()
    };
    for program in ["etcd", "kube-apiserver", "kubectl"] {
        let refused = start()?;
        let said = String::from_utf8(refused.stderr)?;
        let folder = assets.path().display();
        let sentence = format!("KUBEBUILDER_ASSETS is set to {folder}, which has no {program}");
        ensure!(
            !refused.status.success() && said.contains(&sentence),
            "{said}"
        );
        symlink(tools.path(program)?, assets.path().join(program))?;
    }
    let started = start()?;
    ensure!(
        started.status.success(),
        "{}",
        String::from_utf8_lossy(&started.stderr)
    );
    for program in ["etcd", "kube-apiserver"] {
        let path = assets.path().join(program).display().to_string();
        ensure!(
            command_lines()?
                .iter()
                .filter(|line| line.starts_with(&path))
                .count()
                == 1,
            "{path}"
        );
    }
    clear(name).await
}

/// A starter of its own process, so that it can be killed.
fn up(arguments: &[&str]) -> Result<std::process::Child> {
    Command::new(env!("CARGO_BIN_EXE_framewright-e2e"))
        .arg("up")
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start framewright-e2e")
}

/// What a cluster could leave on this machine, a line each. Of other clusters there is little in it, since they come and go.
fn traces(name: &str) -> Result<BTreeSet<String>> {
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

fn same(before: &BTreeSet<String>, after: &BTreeSet<String>) -> Result<()> {
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
fn inhabitants(name: &str) -> Result<Vec<Process>> {
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
struct Process {
    id: u32,
    /// In ticks since the machine's; tells apart two processes of one number.
    started: u64,
    parent: u32,
    line: String,
}

/// All that have not ended: what only waits for its parent to hear of its end is nothing any more.
fn processes() -> Result<impl Iterator<Item = Process>> {
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

fn command_lines() -> Result<Vec<String>> {
    Ok(processes()?.map(|process| process.line).collect())
}

fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("start {program}"))?;
    Ok(String::from_utf8(output.stdout)?)
}

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: probe}
spec:
  restartPolicy: Never
  securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: probe
    image: framewright.local/kubectl:1
    imagePullPolicy: Never
    args: ARGUMENTS
    # The server by its name instead of its address.
    env: [{name: KUBERNETES_SERVICE_HOST, value: kubernetes.default.svc.cluster.local}]
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {}}]
"#;

const CLAIM: &str = r"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: claim}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";
