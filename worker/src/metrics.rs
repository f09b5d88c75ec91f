//! What the worker counts, for Prometheus.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
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
}

/// A stage of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Getting inputs.
    Fetch,
    /// On the device, with decoding and encoding: how long the device was taken.
    Compute,
    /// Sending the output, with waiting for the grant and for the store.
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

    /// All of them, in the text format.
    #[must_use]
    pub fn text(&self) -> String {
        let Metrics {
            tasks,
            stages,
            frames,
            connected,
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
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
