//! `kubectl framewright`: submits a job with its local files, follows it and fetches the results, through the API server only.
//!
//! # Layout
//! - [`args`]: the command line
//! - [`commands`]: one file for each command
//! - [`output`]: messages and tables

mod args;
mod commands;
mod output;

use std::process::ExitCode;

use clap::Parser as _;
use framewright_client::cluster::{Cluster, ConnectError};
use framewright_client::screen::Screen;

use args::{Args, Command};
use commands::{cancel, digest, follow, get, submit, upload};

/// The result of a command that had no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Well,
    JobFailed,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::new(error).context("cannot start")),
    };
    let code = runtime.block_on(until_done_or_interrupted(args));
    // Do not wait for a thread that reads a file.
    runtime.shutdown_background();
    code
}

async fn until_done_or_interrupted(args: Args) -> ExitCode {
    let screen = Screen::new();
    tokio::select! {
        ended = run(args, &screen) => match ended {
            Ok(Ended::Well) => ExitCode::SUCCESS,
            Ok(Ended::JobFailed) => ExitCode::from(1),
            Err(error) => {
                screen.clear();
                failed(&error)
            }
        },
        _ = tokio::signal::ctrl_c() => {
            screen.clear();
            screen.say_farewell();
            ExitCode::from(130)
        }
    }
}

async fn run(args: Args, screen: &Screen) -> anyhow::Result<Ended> {
    let Args { cluster, command } = args;
    let cluster = || {
        let cluster = Cluster::connect(cluster.into())?;
        if let Some(notice) = &cluster.notice {
            screen.say(notice);
        }
        Ok::<_, ConnectError>(cluster)
    };
    Ok(match command {
        Command::Submit(submit) => submit::run(&cluster()?, screen, submit).await?,
        Command::Get(get) => get::run(&cluster()?, screen, get).await?,
        Command::Upload(upload) => upload::run(&cluster()?, screen, upload).await?,
        Command::Follow(follow) => follow::run(&cluster()?, screen, follow).await?,
        Command::Cancel(cancel) => cancel::run(&cluster()?, screen, cancel).await?,
        Command::Digest(digest) => digest::run(screen, digest).await?,
    })
}

/// Exit code 2 if the command line or a local file is wrong, 1 for all other errors.
fn failed(error: &anyhow::Error) -> ExitCode {
    let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
    eprintln!("error: {}", chain.join(": "));
    ExitCode::from(if is_usage(error) { 2 } else { 1 })
}

fn is_usage(error: &anyhow::Error) -> bool {
    let submit = error.downcast_ref().is_some_and(submit::Error::is_usage);
    let upload = error.downcast_ref().is_some_and(upload::Error::is_usage);
    submit || upload || error.is::<framewright_client::digest::Error>()
}
