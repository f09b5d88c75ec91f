//! `framewright-e2e`: a real Kubernetes node on this machine, by hand.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use framewright_e2e::{Cluster, Mode, Options, bench, cluster, demo, doctor, images};

/// Starts and stops Kubernetes clusters of one node on this machine, without Docker or a registry.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    order: Order,
}

#[derive(Debug, Subcommand)]
enum Order {
    /// Start a cluster that goes on until it is taken down.
    Up {
        name: String,
        /// Only etcd and the API server
        #[arg(long)]
        control_plane_only: bool,
        /// Archive of images to load; can be repeated
        #[arg(long = "image", value_name = "ARCHIVE")]
        images: Vec<PathBuf>,
    },
    /// End a cluster and remove all that it has made.
    Down {
        #[arg(required_unless_present = "all")]
        name: Option<String>,
        /// Every cluster of this user
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
    /// Build the operator's and the worker's images from the programs in a folder.
    Images {
        #[arg(default_value = "dist")]
        context: PathBuf,
        /// Build the image of workers for NVIDIA GPUs instead
        #[arg(long)]
        cuda: bool,
    },
    /// Run the main job on a cluster of its own, or on the current kubeconfig context.
    Demo {
        /// The folder with the programs
        #[arg(long, default_value = "dist")]
        dist: PathBuf,
        /// Where the results go
        #[arg(long, default_value = "demo-output")]
        output: PathBuf,
        /// The cluster that it starts
        #[arg(long, default_value = demo::CLUSTER, conflicts_with = "existing")]
        cluster: String,
        /// Use the current kubeconfig context, and push the images to this registry; http://… if it has no TLS
        #[arg(long, value_name = "REGISTRY", value_parser = demo::Registry::parse)]
        existing: Option<demo::Registry>,
    },
    /// Measure what the control plane costs, as ratios.
    Bench {
        /// The folder with the programs
        #[arg(long, default_value = "dist")]
        dist: PathBuf,
        /// Jobs that are measured one after the other; half as many are submitted at once
        #[arg(long, default_value_t = bench::JOBS)]
        jobs: usize,
        /// Install PyTorch, if it is not there, to compare the upscaler with it
        #[arg(long)]
        torch: bool,
        /// Measure memory and takeover instead, with this many workers and ten times as many jobs
        #[arg(long, conflicts_with_all = ["jobs", "torch"])]
        workers: Option<usize>,
    },
    /// Print where a cluster's kubeconfig lies.
    Kubeconfig { name: String },
    /// List the clusters of this user.
    List,
    /// Look for what this machine lacks, without changing anything.
    Doctor,
}

#[tokio::main]
async fn main() -> ExitCode {
    match obey(Args::parse().order).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("framewright-e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn obey(order: Order) -> Result<()> {
    match order {
        Order::Up {
            name,
            control_plane_only,
            images,
        } => {
            let mode = if control_plane_only {
                Mode::ControlPlane
            } else {
                Mode::Node
            };
            let cluster = Cluster::start(
                &name,
                Options {
                    mode,
                    images,
                    kept: true,
                },
            )
            .await?;
            println!("{}", cluster.kubeconfig().display());
        }
        Order::Down {
            name: Some(name), ..
        } => cluster::clear(&name).await?,
        Order::Down { name: None, .. } => {
            let mut left = Vec::new();
            for (name, _) in cluster::all()? {
                match cluster::clear(&name).await {
                    Ok(()) => eprintln!("{name} is gone"),
                    Err(error) => left.push(format!("{name}: {error:#}")),
                }
            }
            if !left.is_empty() {
                bail!("not all is gone: {}", left.join("; "));
            }
        }
        Order::Images { context, cuda } => {
            let wanted = if cuda {
                &images::CUDA[..]
            } else {
                &images::CPU[..]
            };
            for image in images::build(&context, wanted).await? {
                println!("{}\t{}", image.name, image.archive.display());
            }
        }
        Order::Demo {
            dist,
            output,
            cluster,
            existing,
        } => {
            let place = match existing {
                Some(registry) => demo::Place::Existing { registry },
                None => demo::Place::Own { cluster },
            };
            let dist = dist.canonicalize()?;
            let output = std::path::absolute(output)?;
            demo::run(place, &dist, &output).await?;
        }
        Order::Bench {
            dist,
            jobs,
            torch,
            workers,
        } => match workers {
            Some(workers) => bench::scale(&dist.canonicalize()?, workers).await?,
            None => bench::run(&dist.canonicalize()?, jobs, torch).await?,
        },
        Order::Kubeconfig { name } => {
            println!("{}", Cluster::attach(&name).await?.kubeconfig().display())
        }
        Order::List => {
            for (name, is_running) in cluster::all()? {
                println!(
                    "{name}\t{}",
                    if is_running {
                        "running"
                    } else {
                        "left by a run that ended"
                    }
                );
            }
        }
        Order::Doctor => report(&doctor::examine())?,
    }
    Ok(())
}

fn report(findings: &[doctor::Finding]) -> Result<()> {
    for finding in findings {
        println!(
            "{:<8} {:<12} {}",
            if finding.is_fine { "ok" } else { "missing" },
            finding.what,
            finding.detail
        );
    }
    let missing = findings.iter().filter(|finding| !finding.is_fine).count();
    if missing > 0 {
        bail!("{missing} of {} are missing", findings.len());
    }
    Ok(())
}
