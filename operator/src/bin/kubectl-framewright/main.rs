//! `kubectl framewright`: submit a job with its local files, watch it, get the results, through nothing but the API server.
//!
//! # Layout
//! - [`args`]: what can be asked for; [`commands`]: one file each
//! - [`documents`]: what the YAML holds, and which local files it means; [`digest`]: how those are named
//! - [`objects`]: what is sent to the API server, and what a status gives back
//! - [`transfers`]: bytes to and from the store, through a port-forward
//! - [`told`]: what a person sees
//! - [`cluster`]: the kubeconfig, and what the API server's errors mean

mod args;
mod cluster;
mod commands;
mod digest;
mod documents;
mod objects;
mod told;
mod transfers;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Command};
use cluster::Cluster;
use commands::{cancel, follow, get, submit, upload};
use told::screen::Screen;

/// How a command ended that met no error.
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
    // A file that is being read must not hold the end back.
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
    let cluster = || Cluster::connect(cluster);
    Ok(match command {
        Command::Submit(submit) => submit::run(&cluster().await?, screen, submit).await?,
        Command::Get(get) => get::run(&cluster().await?, screen, get).await?,
        Command::Upload(upload) => upload::run(&cluster().await?, screen, upload).await?,
        Command::Follow(follow) => follow::run(&cluster().await?, screen, follow).await?,
        Command::Cancel(cancel) => cancel::run(&cluster().await?, screen, cancel).await?,
        Command::Digest(digest) => digest::run(screen, digest).await?,
    })
}

/// 2 when the command or its files were wrong, 1 for everything else.
fn failed(error: &anyhow::Error) -> ExitCode {
    let sentence: Vec<String> = error.chain().map(ToString::to_string).collect();
    eprintln!("error: {}", sentence.join(": "));
    ExitCode::from(if is_usage(error) { 2 } else { 1 })
}

fn is_usage(error: &anyhow::Error) -> bool {
    let submit = error.downcast_ref().is_some_and(submit::Error::is_usage);
    let upload = error.downcast_ref().is_some_and(upload::Error::is_usage);
    submit || upload || error.is::<digest::Error>()
}
