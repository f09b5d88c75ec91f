//! How another program is run, and what is said when it fails.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Standard output of a program that must succeed within the deadline.
///
/// # Errors
/// With the command line, how it ended and, as the root cause, the end of what it said.
pub(crate) async fn output(command: &mut Command, deadline: Duration) -> Result<String> {
    output_with_input(command, "", deadline).await
}

/// As [`output`], with text for its standard input.
pub(crate) async fn output_with_input(
    command: &mut Command,
    input: &str,
    deadline: Duration,
) -> Result<String> {
    let line = written(command);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("start {line}"))?;
    let mut stdin = child.stdin.take();
    let ended = tokio::time::timeout(deadline, async {
        if let Some(stdin) = stdin.as_mut() {
            // A program that does not read its input may have closed it.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        drop(stdin);
        child.wait_with_output().await
    })
    .await
    .with_context(|| format!("{line} did not end within {} s", deadline.as_secs()))?
    .with_context(|| format!("wait for {line}"))?;
    if !ended.status.success() {
        let said = last(&String::from_utf8_lossy(&ended.stderr)).to_owned();
        return Err(anyhow!(said).context(format!("{line}: {}", ended.status)));
    }
    Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
}

/// The command line, short enough for a message.
fn written(command: &Command) -> String {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ");
    if line.chars().count() > 300 {
        line.chars().take(300).chain(['…']).collect()
    } else {
        line
    }
}

fn last(said: &str) -> &str {
    let said = said.trim_end();
    let from = said.len().saturating_sub(2000);
    said.get(from..).unwrap_or(said)
}
