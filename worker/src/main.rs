//! `framewright-worker`: reads the arguments and hands over.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use framewright_worker::args::{Arguments, Command};
use framewright_worker::{agent, local, threads};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    match obey(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line: the pool's condition tells the last one.
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn obey(arguments: Arguments) -> anyhow::Result<()> {
    let is_run = matches!(arguments.command, Command::Run(_));
    logs(&arguments, is_run);
    threads::start(arguments.threads)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let done = runtime.block_on(async {
        match arguments.command {
            Command::Serve(args) => agent::serve(*args).await.map_err(anyhow::Error::from),
            Command::Run(args) => local::run(args).await.map_err(anyhow::Error::from),
        }
    });
    // Not to wait for work that nobody wants any more.
    runtime.shutdown_background();
    done
}

fn logs(arguments: &Arguments, is_run: bool) {
    // `run` prints what it does itself.
    let default = if is_run { "warn" } else { "info" };
    let level = arguments.log.as_deref().unwrap_or(default);
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new(default));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    if arguments.log_format == "json" {
        logs.json().init();
    } else {
        logs.init();
    }
}
