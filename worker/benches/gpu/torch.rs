//! What PyTorch does with the same network, on the same device, in the same run.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use candle_core::Device;
use serde::Deserialize;

use crate::Setting;
use crate::networks::Network;

/// What pytorch.py says; nothing where there is no torch.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Theirs {
    eager: Option<f64>,
    compiled: Option<f64>,
    eager_error: Option<String>,
    compiled_error: Option<String>,
}

impl Theirs {
    /// Both rates, and how many times ours is the better of them.
    pub(crate) fn columns(&self, ours: f64) -> String {
        let rate = |rate: Option<f64>| rate.map_or("-".to_owned(), |rate| format!("{rate:.2}"));
        let best = self.eager.unwrap_or(0.0).max(self.compiled.unwrap_or(0.0));
        let ahead = if best > 0.0 {
            format!("{:.2}", ours / best)
        } else {
            "-".to_owned()
        };
        let errors: String = [&self.eager_error, &self.compiled_error]
            .into_iter()
            .flatten()
            .map(|error| format!("  ({error})"))
            .collect();
        format!(
            "{:>10}{:>10}{ahead:>10}{errors}",
            rate(self.eager),
            rate(self.compiled)
        )
    }
}

pub(crate) fn measure(
    network: &Network,
    setting: &Setting,
    width: usize,
    height: usize,
) -> Result<Theirs> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/gpu/pytorch.py");
    let numbers = [network.scale, network.blocks, width, height].map(|number| number.to_string());
    let mut command = Command::new("python3");
    command.arg(&script).arg(network.name).args(numbers);
    if matches!(setting.device, Device::Cpu) {
        command.arg("cpu");
    }
    // PyTorch brings CUDA libraries of its own.
    let Ok(output) = command.env_remove("LD_LIBRARY_PATH").output() else {
        return Ok(Theirs::default());
    };
    match output.status.code() {
        Some(0) => serde_json::from_slice(&output.stdout).context("read what pytorch.py says"),
        Some(3) => Ok(Theirs::default()),
        _ => bail!("pytorch.py: {}", String::from_utf8_lossy(&output.stderr)),
    }
}
