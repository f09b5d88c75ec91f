//! Whether the worker of an attempt is still there.

use framewright_crds::aijob::{Attempt, Cause};
use jiff::Timestamp;

use crate::jobs::snapshot::{Ended, Presence};

/// Decides it from its stream, its pod (whether it is there, and whether it is being deleted), and the end of its process. The
/// stream's word comes first: a pod that answers is alive.
#[must_use]
pub fn presence(
    open: &Attempt,
    stream: Option<Presence>,
    (has_pod, is_leaving): (bool, bool),
    ended: Option<&Ended>,
    leads_since: Timestamp,
) -> Presence {
    let has_ended = ended.is_some() || !has_pod;
    // A node that is drained, a pool that shrinks, a person: that is no failure of the worker's. Memory that ran out is.
    if stream != Some(Presence::Connected)
        && is_leaving
        && has_ended
        && ended.is_none_or(|ended| ended.cause == Cause::WorkerLost)
    {
        return Presence::Gone(Ended {
            cause: Cause::WorkerDrained,
            message: format!(
                "worker pod {} was deleted before it had finished",
                open.worker.name
            ),
        });
    }
    match (stream, ended) {
        (Some(Presence::Connected), _) => Presence::Connected,
        (_, Some(ended)) => Presence::Gone(ended.clone()),
        (Some(away), None) if has_pod => away,
        (None, None) if has_pod => Presence::Away { since: leads_since },
        (_, None) => Presence::Gone(Ended {
            cause: Cause::WorkerLost,
            message: format!("worker pod {} is gone", open.worker.name),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use framewright_crds::aijob::AttemptWorker;

    fn cause(is_there: bool, is_leaving: bool, ended: Option<Cause>) -> Option<Cause> {
        let worker = AttemptWorker::pod("fleet", "w", "u");
        let open = Attempt::bound(1, worker, Timestamp::UNIX_EPOCH);
        let ended = ended.map(|cause| Ended {
            cause,
            message: String::new(),
        });
        let pod = (is_there, is_leaving);
        match presence(&open, None, pod, ended.as_ref(), Timestamp::UNIX_EPOCH) {
            Presence::Gone(Ended { cause, .. }) => Some(cause),
            Presence::Connected | Presence::Away { .. } => None,
        }
    }

    #[test]
    fn a_worker_whose_pod_was_deleted_is_not_blamed_unless_its_memory_ran_out() {
        let lost = Some(Cause::WorkerLost);
        let drained = Some(Cause::WorkerDrained);
        assert_eq!(cause(false, false, None), lost);
        assert_eq!(cause(false, true, None), drained);
        assert_eq!(cause(true, false, lost), lost);
        assert_eq!(cause(true, true, lost), drained);
        let memory = Some(Cause::OutOfMemory);
        assert_eq!(cause(true, true, memory), memory);
        assert_eq!(cause(true, true, None), None);
    }
}
