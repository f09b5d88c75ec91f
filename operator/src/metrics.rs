//! The operator's metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use framewright_core::jobs::transitions::Transition;
use framewright_core::names::PoolName;
use framewright_core::workers::sessions::Connected;
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// All metrics.
pub struct Metrics {
    registry: Registry,
    request_failures: Counter,
    decide_seconds: Histogram,
    status_writes: Counter,
    finished: Family<Reason, Counter>,
    streams_refused: Counter,
    leads: Gauge,
    pending_steps: Family<Pool, Gauge>,
    connected_workers: Family<Pool, Gauge>,
    worker_slots: Family<Pool, Gauge>,
    worker_tasks: Family<Pool, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pool {
    namespace: String,
    pool: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: String,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("framewright"),
            request_failures: Counter::default(),
            decide_seconds: Histogram::new([0.0001, 0.0005, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0]),
            status_writes: Counter::default(),
            finished: Family::default(),
            streams_refused: Counter::default(),
            leads: Gauge::default(),
            pending_steps: Family::default(),
            connected_workers: Family::default(),
            worker_slots: Family::default(),
            worker_tasks: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "request_failures",
            "Requests to the API server that failed and are tried again",
            metrics.request_failures.clone(),
        );
        registry.register(
            "decide_seconds",
            "How long the engine takes to decide about events",
            metrics.decide_seconds.clone(),
        );
        registry.register(
            "job_status_writes",
            "Writes of AIJob statuses",
            metrics.status_writes.clone(),
        );
        registry.register(
            "jobs_finished",
            "Finished AIJobs, by the reason of their Succeeded condition",
            metrics.finished.clone(),
        );
        registry.register(
            "streams_refused",
            "Connections without a valid token",
            metrics.streams_refused.clone(),
        );
        registry.register(
            "pending_steps",
            "Steps that could run now but wait for a worker, by pool; a step that may run in several pools counts in each",
            metrics.pending_steps.clone(),
        );
        registry.register(
            "connected_workers",
            "Workers that are connected to this replica, by pool",
            metrics.connected_workers.clone(),
        );
        registry.register(
            "worker_slots",
            "Number of tasks that the connected workers can run at a time, by pool",
            metrics.worker_slots.clone(),
        );
        registry.register(
            "worker_tasks",
            "Tasks that the connected workers have, by pool",
            metrics.worker_tasks.clone(),
        );
        registry.register("leads", "1 while this replica leads", metrics.leads.clone());
        metrics
    }
}

impl Metrics {
    /// The engine has decided.
    pub fn decided(&self, took: Duration) {
        self.decide_seconds.observe(took.as_secs_f64());
    }

    /// A request to the API server did not come to a good end.
    pub fn request_failed(&self) {
        self.request_failures.inc();
    }

    /// A job's status was written.
    pub fn job_written(&self) {
        self.status_writes.inc();
    }

    /// A job's durable status has changed.
    pub fn job_changed(&self, transition: &Transition) {
        if let Transition::Finished { reason } = transition {
            let reason = reason.clone();
            self.finished.get_or_create(&Reason { reason }).inc();
        }
    }

    /// Somebody without a good token dialled in.
    pub fn stream_refused(&self) {
        self.streams_refused.inc();
    }

    /// What the pools have, and how many steps wait for a worker in each.
    pub fn pools(
        &self,
        connected: &BTreeMap<PoolName, Connected>,
        demand: &BTreeMap<PoolName, usize>,
    ) {
        self.pending_steps.clear();
        for (pool, count) in demand {
            set(&self.pending_steps, pool, *count);
        }
        let has = [
            &self.connected_workers,
            &self.worker_slots,
            &self.worker_tasks,
        ];
        for family in has {
            family.clear();
        }
        for (pool, connected) in connected {
            set(&self.connected_workers, pool, connected.workers);
            set(&self.worker_slots, pool, connected.slots);
            set(&self.worker_tasks, pool, connected.tasks);
        }
    }

    /// Leadership came or went.
    pub fn leads(&self, leads: bool) {
        self.leads.set(i64::from(leads));
    }

    /// All of them, in the OpenMetrics text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn set(family: &Family<Pool, Gauge>, pool: &PoolName, count: impl TryInto<i64>) {
    let labels = Pool {
        namespace: pool.namespace.clone(),
        pool: pool.name.clone(),
    };
    family
        .get_or_create(&labels)
        .set(count.try_into().unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_manual_promises_is_there() {
        let metrics = Metrics::default();
        metrics.decided(Duration::from_millis(3));
        metrics.request_failed();
        metrics.stream_refused();
        metrics.leads(true);
        let pool = PoolName::new("fleet", "x2");
        let connected = Connected {
            workers: 2,
            slots: 4,
            tasks: 3,
        };
        metrics.pools(
            &BTreeMap::from([(pool.clone(), connected)]),
            &BTreeMap::from([(pool, 7)]),
        );
        metrics.job_written();
        metrics.job_written();
        metrics.job_changed(&Transition::Finished {
            reason: "Succeeded".to_owned(),
        });
        let text = metrics.text();
        for line in [
            "framewright_leads 1",
            "framewright_pending_steps{namespace=\"fleet\",pool=\"x2\"} 7",
            "framewright_connected_workers{namespace=\"fleet\",pool=\"x2\"} 2",
            "framewright_worker_slots{namespace=\"fleet\",pool=\"x2\"} 4",
            "framewright_worker_tasks{namespace=\"fleet\",pool=\"x2\"} 3",
            "framewright_jobs_finished_total{reason=\"Succeeded\"} 1",
            "framewright_request_failures_total 1",
            "framewright_decide_seconds_count 1",
            "framewright_job_status_writes_total 2",
            "framewright_streams_refused_total 1",
        ] {
            assert!(text.lines().any(|said| said == line), "{line}: {text}");
        }
        let manual = include_str!("../../docs/operations.md");
        let promised = manual.lines().filter_map(|line| {
            let name = line.strip_prefix("| `framewright_")?;
            name.split(['`', '{']).next()
        });
        let own =
            promised.filter(|name| !name.starts_with("store_") && !name.starts_with("worker_"));
        let own: Vec<&str> = own.collect();
        assert_eq!(own.len(), 8, "{own:?}");
        for name in own {
            assert!(text.contains(&format!("framewright_{name}")), "{name}");
        }
    }
}
