//! What an operator does at each look: the product's decisions, between reads that may be stale and writes that may be lost.

mod jobs;
mod pools;
mod sweeps;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use framewright_core::jobs::plan::presence::presence;
use framewright_core::jobs::plan::resolve::{NamespaceLabels, PoolFacts, resolve};
use framewright_core::jobs::plan::{attempt, is_finished, plan};
use framewright_core::jobs::seen::{Observed, Presence, StepSeen};
use framewright_core::names::PoolName;
use framewright_core::pools::pod::{ended_since, leaves_at, pod_seen, pool_of};
use framewright_core::pools::template::{self, Template};
use framewright_core::pools::{facts, plan as pool_plan, seen as pool_seen};
use framewright_core::schedule::gather::{Around, gather, is_live, taken};
use framewright_crds::aijob::{AIJobStatus, Attempt};
use framewright_crds::wire::Order;
use framewright_crds::{AIJob, ModelPool};
use framewright_operator::dispatch::look;
use framewright_operator::jobs::{ROUNDS, act};
use framewright_operator::pools::act as pool_act;
use framewright_operator::writes;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::api::{Millis, Refused, at};
use crate::operator::About;
use crate::world::{Happening, World};

/// A status on its way to the API server.
pub(crate) struct Landing {
    pub operator: usize,
    pub life: u64,
    pub wanted: AIJob,
    pub round: usize,
    pub look_again: Option<jiff::SignedDuration>,
    pub fate: Fate,
    /// What it closes without a reason.
    pub unfounded: Option<String>,
}

/// What a pool's look wants done.
pub(crate) struct PoolWork {
    pub operator: usize,
    pub life: u64,
    pub pool: ModelPool,
    pub template: Rc<Template>,
    pub plan: pool_plan::Plan,
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Lands,
    /// It never arrives.
    Lost,
    /// It arrives, and the answer does not.
    AnswerLost,
}

impl World {
    fn back_off(&mut self, index: usize, about: &About) {
        let wait = self.operators[index].backoff.failed(&format!("{about:?}"));
        let wait = Millis::try_from(wait.as_millis()).expect("a minute at most");
        self.wake(index, about.clone(), wait);
    }

    fn fate(&mut self) -> Fate {
        if !self.is_stormy() || !self.chance.percent(self.weather.lost_write) {
            return Fate::Lands;
        }
        *self.chance.of(&[Fate::Lost, Fate::AnswerLost])
    }

    /// How long a request takes.
    fn latency(&mut self) -> Millis {
        let (usual, slow) = if self.is_stormy() {
            (40, 4000)
        } else {
            (5, 20)
        };
        if self.chance.percent(60) {
            0
        } else if self.chance.percent(90) {
            self.chance.between(1, usual)
        } else {
            self.chance.between(1, slow)
        }
    }
}

/// Labels of the two namespaces that jobs live in.
pub(crate) fn labels() -> NamespaceLabels {
    ["studio", "lab"]
        .map(|name| (name.to_owned(), BTreeMap::new()))
        .into()
}
