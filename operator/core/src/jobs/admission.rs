//! Whether a job may start, and whether a task that is prepared may compute: where payment and quota are decided about.

use framewright_crds::AIJob;
use framewright_crds::names::TaskId;

/// Decides what may start. Pure: it is asked at each decision, and the same question has the same answer until an event changes it.
pub trait Gate {
    /// Whether work on a job may start.
    fn may_start(&self, job: &AIJob) -> Admission;

    /// Whether a task, whose whole step takes so many units, may compute.
    fn may_proceed(&self, task: &TaskId, units: u64) -> bool;
}

/// Whether a job may start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    #[default]
    Admitted,
    /// It waits for something: a reason of its conditions, and a sentence.
    Waits { reason: String, message: String },
}

/// Everything may start: nothing is paid for, and there is no quota.
#[derive(Debug)]
pub struct AdmitAll;

impl Gate for AdmitAll {
    fn may_start(&self, _: &AIJob) -> Admission {
        Admission::Admitted
    }

    fn may_proceed(&self, _: &TaskId, _: u64) -> bool {
        true
    }
}
