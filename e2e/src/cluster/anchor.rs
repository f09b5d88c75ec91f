//! The first process of a cluster: everything lives in its namespaces, and ends with it.
//!
//! It is found by an argument of its own rather than by a number in a file, so that a recycled
//! process id is never killed, and so that a start that was killed halfway leaves nothing unknown.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::process::Command;

use super::folder::Folder;
use crate::command;
use crate::eventually;

/// The namespaces of a running cluster.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Anchor {
    pid: i32,
}

/// How long a cluster lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// Until it is stopped.
    Kept,
    /// Until its starter ends, in whatever way.
    Tied,
}

impl Anchor {
    /// Starts the first process. A tied cluster ends when the child's standard input is closed.
    pub(crate) fn start(folder: &Folder, lifetime: Lifetime) -> Result<(Anchor, Child)> {
        let log = fs::File::create(folder.log("anchor"))
            .context("create the log of the first process")?;
        let mut child = std::process::Command::new("unshare")
            .args([
                "--mount",
                "--net",
                "--pid",
                "--ipc",
                "--uts",
                "--propagation",
                "private",
                "--mount-proc",
            ])
            .args([
                "--fork",
                "--kill-child",
                "setsid",
                "bash",
                "-c",
                include_str!("anchor.sh"),
            ])
            .arg(folder.marker())
            .arg(&folder.path)
            .arg(if lifetime == Lifetime::Tied {
                "tied"
            } else {
                "kept"
            })
            .stdin(if lifetime == Lifetime::Tied {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("start unshare")?;
        let stdout = child
            .stdout
            .take()
            .context("the first process has no output")?;
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .context("read from the first process")?;
        if line.trim() != "ready" {
            let said = fs::read_to_string(folder.log("anchor")).unwrap_or_default();
            bail!(
                "the namespaces of {} could not be set up: {}",
                folder.name,
                said.trim()
            );
        }
        let anchor = Anchor::find(folder)?.context("the first process is not there")?;
        Ok((anchor, child))
    }

    /// The first process of a running cluster.
    pub(crate) fn find(folder: &Folder) -> Result<Option<Anchor>> {
        let marker = folder.marker();
        let first = processes()?.find(|&pid| {
            has_argument(pid, &marker) && namespaced_id(pid).is_some_and(|id| id == 1)
        });
        Ok(first.map(|pid| Anchor { pid }))
    }

    pub(crate) fn pid(self) -> i32 {
        self.pid
    }

    /// A command that will run inside.
    pub(crate) fn command(self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &self.pid.to_string(),
            "--mount",
            "--net",
            "--pid",
            "--ipc",
            "--uts",
            "--",
        ]);
        command.arg(program.as_ref());
        command
    }

    /// Starts a program inside that goes on by itself.
    pub(crate) async fn spawn(
        self,
        program: &Path,
        arguments: &[String],
        log: &Path,
    ) -> Result<()> {
        let mut command = self.command("setsid");
        command
            .args([
                "--fork",
                "bash",
                "-c",
                r#"exec "$@" >>"$0" 2>&1 </dev/null"#,
            ])
            .arg(log)
            .arg(program)
            .args(arguments);
        command::output(&mut command, Duration::from_secs(10))
            .await
            .map(drop)
    }

    /// Kills the programs of a name that run inside, outside of containers. Gives their number.
    pub(crate) fn kill_program(self, program: &str) -> Result<usize> {
        let handles = self.programs(program)?;
        for handle in &handles {
            pidfd_send_signal(handle, Signal::KILL).with_context(|| format!("kill {program}"))?;
        }
        Ok(handles.len())
    }

    /// How many programs of a name run inside, outside of containers.
    pub(crate) fn count(self, program: &str) -> Result<usize> {
        Ok(self.programs(program)?.len())
    }

    fn programs(self, program: &str) -> Result<Vec<OwnedFd>> {
        let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid"));
        let inside = namespace(self.pid).context("the cluster does not run")?;
        Ok(processes()?
            .filter_map(|pid| Some((pid, handle(pid)?)))
            .filter(|(pid, _)| namespace(*pid).is_ok_and(|namespace| namespace == inside))
            .filter(|(pid, _)| runs(*pid, program))
            .map(|(_, handle)| handle)
            .collect())
    }
}

/// Kills the cluster's first process, whoever started it, and waits until all of the cluster has ended.
///
/// # Errors
/// If it is still there after 20 s.
pub(crate) async fn kill(folder: &Folder) -> Result<()> {
    let marker = folder.marker();
    let mut anchors = processes()?
        .filter(|&pid| has_argument(pid, &marker))
        .peekable();
    if anchors.peek().is_none() {
        return Ok(());
    }
    for pid in anchors {
        let Some(handle) = handle(pid) else { continue };
        // The handle is of whoever has the number now; only then is it certain who that is.
        if has_argument(pid, &marker) {
            pidfd_send_signal(&handle, Signal::KILL).context("kill the first process")?;
        }
    }
    eventually(
        Duration::from_secs(20),
        "the cluster's processes are gone",
        async || match processes()?.find(|&pid| has_argument(pid, &marker)) {
            Some(pid) => bail!("process {pid} is still there"),
            None => Ok(()),
        },
    )
    .await
}

fn processes() -> Result<impl Iterator<Item = i32>> {
    let entries = fs::read_dir("/proc").context("list /proc")?;
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok()))
}

fn handle(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// False for a process that has ended and waits to be reaped: it has no arguments any more.
fn has_argument(pid: i32, argument: &str) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|&byte| byte == 0)
        .any(|word| word == argument.as_bytes())
}

fn runs(pid: i32, program: &str) -> bool {
    fs::read_link(format!("/proc/{pid}/exe"))
        .is_ok_and(|path| path.file_name().is_some_and(|name| name == program))
}

/// Its id in the innermost PID namespace.
fn namespaced_id(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let ids = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    let ids: Vec<&str> = ids.split_whitespace().collect();
    if ids.len() < 2 {
        None
    } else {
        ids.last()?.parse().ok()
    }
}
