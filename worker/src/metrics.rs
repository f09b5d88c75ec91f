//! What the worker counts, for Prometheus.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

type Labels = [(&'static str, &'static str); 1];
type Seconds = Counter<f64, AtomicU64>;

/// The counters. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    tasks: Family<Labels, Counter>,
    stages: Family<Labels, Seconds>,
    frames: Counter,
    connected: Gauge,
    gpu: Arc<Mutex<Gpu>>,
    xids: Family<[(&'static str, u64); 1], Counter>,
}

/// What a GPU does, as far as its driver tells.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gpu {
    /// By all processes.
    pub memory_used_bytes: Option<f64>,
    /// Of the GPU, or of the part that the worker has.
    pub memory_total_bytes: Option<f64>,
    /// The share of time in which a kernel ran, from 0 to 1.
    pub busy_ratio: Option<f64>,
    /// Of the chip.
    pub temperature_celsius: Option<f64>,
    /// Of the whole board.
    pub power_watts: Option<f64>,
}

/// A stage of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Getting inputs.
    Fetch,
    /// On the device, with decoding and encoding: how long the device was taken.
    Compute,
    /// Sending the outputs, with waiting for links and for the store.
    Upload,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Stage::Fetch => "fetch",
            Stage::Compute => "compute",
            Stage::Upload => "upload",
        }
    }
}

impl Metrics {
    /// Counts a task that is over; `outcome` is `Succeeded` or the name of a cause.
    pub fn task_over(&self, outcome: &'static str) {
        self.tasks.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Counts the time since `start` for this stage, and gives it back.
    pub fn stage_over(&self, stage: Stage, start: Instant) -> Duration {
        let time = start.elapsed();
        let stage = [("stage", stage.name())];
        self.stages.get_or_create(&stage).inc_by(time.as_secs_f64());
        time
    }

    /// Counts frames that were computed.
    pub fn frames(&self, frames: u64) {
        self.frames.inc_by(frames);
    }

    /// Whether there is a stream to an operator.
    pub fn connected(&self, is_connected: bool) {
        self.connected.set(i64::from(is_connected));
    }

    /// What the GPU does now.
    pub fn gpu(&self, gpu: Gpu) {
        *self.gpu.lock().unwrap_or_else(PoisonError::into_inner) = gpu;
    }

    /// Counts a critical error that the GPU's driver reports, by its number.
    pub fn xid(&self, xid: u64) {
        self.xids.get_or_create(&[("xid", xid)]).inc();
    }

    /// All of them, in the text format.
    #[must_use]
    pub fn text(&self) -> String {
        let Metrics {
            tasks,
            stages,
            frames,
            connected,
            gpu,
            xids,
        } = self.clone();
        let mut registry = Registry::with_prefix("framewright_worker");
        registry.register("tasks", "Tasks that are over, by outcome", tasks);
        registry.register_with_unit(
            "stage",
            "Time spent in each stage of tasks; compute is the time that the device was busy",
            Unit::Seconds,
            stages,
        );
        registry.register("frames", "Frames computed", frames);
        registry.register(
            "connected",
            "Whether there is a stream to an operator",
            connected,
        );
        let gpu = *gpu.lock().unwrap_or_else(PoisonError::into_inner);
        register_gpu(&mut registry, gpu);
        registry.register(
            "gpu_xid_errors",
            "Critical errors of the GPU that its driver has reported, by number",
            xids,
        );
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

/// What is not known is not there.
fn register_gpu(registry: &mut Registry, gpu: Gpu) {
    let Gpu {
        memory_used_bytes,
        memory_total_bytes,
        busy_ratio,
        temperature_celsius,
        power_watts,
    } = gpu;
    for (name, help, unit, value) in [
        (
            "gpu_memory_used",
            "The GPU's memory that is in use, by all processes",
            Unit::Bytes,
            memory_used_bytes,
        ),
        (
            "gpu_memory_total",
            "The GPU's memory",
            Unit::Bytes,
            memory_total_bytes,
        ),
        (
            "gpu_busy",
            "Share of time in which the GPU computed",
            Unit::Ratios,
            busy_ratio,
        ),
        (
            "gpu_temperature",
            "Temperature of the GPU",
            Unit::Celsius,
            temperature_celsius,
        ),
        (
            "gpu_power",
            "Power that the GPU draws",
            Unit::Other("watts".to_owned()),
            power_watts,
        ),
    ] {
        if let Some(value) = value {
            registry.register_with_unit(name, help, unit, ConstGauge::new(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_gpu_only_what_is_known_is_in_the_text() {
        let metrics = Metrics::default();
        assert!(!metrics.text().contains("gpu_power"), "{}", metrics.text());
        metrics.gpu(Gpu {
            memory_used_bytes: Some(2.0),
            power_watts: Some(71.5),
            ..Gpu::default()
        });
        metrics.xid(79);
        let text = metrics.text();
        for line in [
            "framewright_worker_gpu_memory_used_bytes 2.0",
            "framewright_worker_gpu_power_watts 71.5",
            "framewright_worker_gpu_xid_errors_total{xid=\"79\"} 1",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!text.contains("gpu_temperature"), "{text}");
    }

    #[test]
    fn what_was_counted_is_in_the_text() {
        let metrics = Metrics::default();
        metrics.task_over("InvalidInput");
        metrics.stage_over(Stage::Compute, Instant::now());
        metrics.frames(3);
        let text = metrics.text();
        assert!(
            text.contains("framewright_worker_tasks_total{outcome=\"InvalidInput\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("framewright_worker_stage_seconds_total{stage=\"compute\"}"),
            "{text}"
        );
        assert!(text.contains("framewright_worker_frames_total 3"), "{text}");
    }
}
