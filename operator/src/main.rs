//! The operator's program.

use clap::Parser;
use framewright_operator::args::{Cli, Command, LogFormat};
use framewright_operator::{chain, check, run};
use tracing_subscriber::EnvFilter;

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    start_log(cli.log_format);
    // Several libraries could each bring their own.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let outcome: Result<(), Box<dyn std::error::Error>> = runtime.block_on(async {
        match cli.command {
            Command::Run(args) => run::run(*args).await.map_err(Into::into),
            Command::Store(args) => framewright_store::serve(*args).await.map_err(Into::into),
            Command::Check(args) => check::run(&args).await.map_err(Into::into),
        }
    });
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => failed(&*error),
    }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> std::process::ExitCode {
    tracing::error!(error = %chain(error), "cannot go on");
    std::process::ExitCode::FAILURE
}

fn start_log(format: LogFormat) {
    let mut wanted = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_else(|_| "info".to_owned());
    // kube's spans would stand before each line, and say less than the line.
    if !wanted.contains("kube_runtime") {
        wanted.push_str(",kube_runtime::controller=warn");
    }
    let filter = EnvFilter::try_new(&wanted).unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false);
    match format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
}
