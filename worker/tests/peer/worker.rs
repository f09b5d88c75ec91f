//! The worker, as a process.

use std::path::PathBuf;
use std::process::{Child, Command};

use super::eventually;

/// A worker's process; dropping it kills it.
pub(crate) struct Worker {
    pub(super) process: Child,
    pub(super) log: PathBuf,
}

impl Worker {
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for the end of the process and gives its exit code.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        eventually("the worker ends", || self.process.try_wait().unwrap())
            .await
            .code()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Kills one of its ffmpegs, as the system does when memory runs out.
    pub(crate) async fn kill_ffmpeg(&self) {
        let worker = self.process.id().to_string();
        let is_its_own = |stat: String| {
            let state_and_parent = stat.split_once("(ffmpeg) ").map(|(_, rest)| rest);
            state_and_parent.and_then(|rest| rest.split(' ').nth(1)) == Some(worker.as_str())
        };
        let found = eventually("an ffmpeg works", || {
            let processes = std::fs::read_dir("/proc").unwrap().flatten();
            let mut own = processes.filter(|process| {
                std::fs::read_to_string(process.path().join("stat")).is_ok_and(&is_its_own)
            });
            own.next()
        });
        let killed = Command::new("kill")
            .arg("-KILL")
            .arg(found.await.file_name())
            .status();
        assert!(killed.unwrap().success());
    }

    /// How many threads compute.
    pub(crate) fn computing_threads(&self) -> usize {
        let threads = format!("/proc/{}/task", self.process.id());
        let names = std::fs::read_dir(threads).unwrap().flatten();
        names
            .filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok())
            .filter(|name| name.starts_with("compute-"))
            .count()
    }

    /// Asks the health port.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let port = eventually("the worker logs its port", || {
            let log = self.log();
            let (_, rest) = log.split_once("health and metrics on port ")?;
            rest.split_once('\n').map(|(port, _)| port.to_owned())
        })
        .await;
        let url = format!("http://127.0.0.1:{port}{path}");
        let answer = client.get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("the worker's log:\n{}", self.log());
        }
    }
}
