//! How is one child program run, so that it never outlives us and never keeps us waiting?

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::error::MediaError;

/// What is kept of standard error: the end, where the reason stands.
const LAST_WORDS: usize = 16 << 10;

/// Between the end of a child's standard error and its exit nothing but cleaning up happens.
const EXIT_POLL: Duration = Duration::from_millis(2);

/// A running child. Dropping it kills it and waits until it is gone.
#[derive(Debug)]
pub(super) struct Process {
    name: &'static str,
    child: Child,
    last_words: Receiver<Vec<u8>>,
    is_killed: bool,
}

/// How a child ended.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) status: ExitStatus,
    /// Whether it was us who ended it.
    pub(super) is_by_us: bool,
    /// The end of what it wrote to standard error.
    pub(super) said: String,
}

/// What a child that answers one question wrote, at most the limit and one byte.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) bytes: Vec<u8>,
    pub(super) ending: Ending,
}

impl Process {
    /// Starts `program` with nothing of our environment but the paths that it needs to start
    /// (ffmpeg takes orders from others, such as FFREPORT), and in a process group of its own, so
    /// that a Ctrl-C is ours to handle.
    pub(super) fn start(
        name: &'static str,
        program: &Path,
        arguments: &[OsString],
        stdin: Stdio,
        stdout: Stdio,
    ) -> Result<Process, MediaError> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::piped());
        command.env_clear().env("LC_ALL", "C");
        for variable in ["PATH", "LD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(variable) {
                command.env(variable, value);
            }
        }
        set_process_group(&mut command);
        let mut child = command
            .spawn()
            .map_err(|source| not_started(program, source))?;
        let stderr = child.stderr.take();
        let (sender, last_words) = mpsc::sync_channel(1);
        let process = Process {
            name,
            child,
            last_words,
            is_killed: false,
        };
        in_thread(name, move || {
            let _ = sender.send(stderr.map(tail).unwrap_or_default());
        })?;
        Ok(process)
    }

    pub(super) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    pub(super) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits for the end of a child whose pipes nobody holds up any more.
    pub(super) fn end(&mut self, timeout: Duration) -> Result<Ending, MediaError> {
        let started = Instant::now();
        let said = match self.last_words.recv_timeout(timeout) {
            Ok(said) => said,
            Err(RecvTimeoutError::Disconnected) => Vec::new(),
            Err(RecvTimeoutError::Timeout) => return Err(self.stalled(timeout)),
        };
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    return Ok(Ending {
                        status,
                        is_by_us: self.is_killed,
                        said: String::from_utf8_lossy(&said).into_owned(),
                    });
                }
                Ok(None) if started.elapsed() < timeout => thread::sleep(EXIT_POLL),
                Ok(None) => return Err(self.stalled(timeout)),
                Err(source) => {
                    return Err(MediaError::Wait {
                        program: self.name,
                        source,
                    });
                }
            }
        }
    }

    /// Reads all that the child writes to standard output, until it ends.
    pub(super) fn answer(&mut self, limit: u64, timeout: Duration) -> Result<Answer, MediaError> {
        let stdout = self.take_stdout();
        let (sender, receiver) = mpsc::sync_channel(1);
        in_thread(self.name, move || {
            let mut bytes = Vec::new();
            // What could not be read shows in the exit status and in the answer itself.
            let _ =
                stdout.map(|stdout| stdout.take(limit.saturating_add(1)).read_to_end(&mut bytes));
            let _ = sender.send(bytes);
        })?;
        let bytes = receiver
            .recv_timeout(timeout)
            .map_err(|_| self.stalled(timeout))?;
        Ok(Answer {
            bytes,
            ending: self.end(timeout)?,
        })
    }

    /// Kills the child and says that it had stalled.
    pub(super) fn stalled(&mut self, waited: Duration) -> MediaError {
        self.kill();
        MediaError::Stalled {
            program: self.name,
            waited,
        }
    }

    /// Ends the child now. To kill one that is gone already is no error.
    pub(super) fn kill(&mut self) {
        self.is_killed = true;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a thread that ends with the child whose pipe it serves.
pub(super) fn in_thread(
    name: &'static str,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), MediaError> {
    let started = thread::Builder::new()
        .name(format!("{name} pipe"))
        .spawn(work);
    started.map(drop).map_err(|source| MediaError::Spawn {
        program: name.into(),
        source,
    })
}

/// Removes a file that was not finished; devices and the like are left alone.
pub(super) fn discard(path: &Path) {
    let is_ours = fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
    if is_ours && let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "an unfinished file stays behind");
    }
}

#[cfg(unix)]
fn set_process_group(command: &mut Command) {
    std::os::unix::process::CommandExt::process_group(command, 0);
}

#[cfg(not(unix))]
fn set_process_group(_command: &mut Command) {}

fn not_started(program: &Path, source: io::Error) -> MediaError {
    use io::ErrorKind::{InvalidInput, NotFound, PermissionDenied};
    let program = program.into();
    if matches!(source.kind(), NotFound | PermissionDenied | InvalidInput) {
        return MediaError::NoProgram { program, source };
    }
    MediaError::Spawn { program, source }
}

fn tail(mut stream: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        kept.extend_from_slice(&chunk[..read]);
        let surplus = kept.len().saturating_sub(LAST_WORDS);
        kept.drain(..surplus);
    }
    kept
}
