//! `framewright-worker`: reads the arguments and hands over.

use clap::Parser;
use framewright_worker::args::{Arguments, Command};
use framewright_worker::{run, serve};
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    logs(&arguments);
    if let Some(threads) = arguments.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let done = runtime.block_on(async {
        match arguments.command {
            Command::Serve(args) => serve::serve(*args).await.map_err(anyhow::Error::from),
            Command::Run(args) => run::run(args).await.map_err(anyhow::Error::from),
        }
    });
    // Not to wait for work that nobody wants any more.
    runtime.shutdown_background();
    done
}

fn logs(arguments: &Arguments) {
    let filter = EnvFilter::try_new(&arguments.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(std::io::stderr);
    if arguments.log_format == "json" {
        logs.json().init();
    } else {
        logs.init();
    }
}
