//! What may a replica do about the lease, and in which epoch? No I/O, no clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::LeaseSpec;

use super::DURATION;

/// A lease counts its transitions in 32 bits.
const HIGHEST_EPOCH: u64 = i32::MAX.unsigned_abs() as u64;
/// How far ahead of the time an epoch is that a worker is believed to have seen, in minutes: a year. What one makes others see by a lie
/// is soon believed, as time goes on.
const BELIEVED_AHEAD: u64 = 365 * 24 * 60;
/// How often one worker is believed: each time costs all workers their streams for a moment.
const BELIEVED_EVERY: Duration = Duration::from_secs(600);

/// 2020-01-01T00:00:00Z, in seconds.
const YEAR_2020: i64 = 1_577_836_800;

/// What workers have said of the highest epoch that they have seen.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) epoch: u64,
    /// By the UIDs of their pods, when they were believed.
    believed: BTreeMap<String, Instant>,
}

impl Heard {
    /// Whether this worker is believed to have seen this epoch; it is remembered then.
    pub(super) fn hear(&mut self, pod_uid: &str, epoch: u64, now: (Instant, Timestamp)) -> bool {
        let (now, time) = now;
        self.believed
            .retain(|_, at| now.duration_since(*at) < BELIEVED_EVERY);
        let is_believed = epoch > self.epoch
            && epoch <= next_epoch(0, time) + BELIEVED_AHEAD
            && !self.believed.contains_key(pod_uid);
        if is_believed {
            self.epoch = epoch;
            self.believed.insert(pod_uid.to_owned(), now);
        }
        is_believed
    }
}

/// What a candidate may do about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Another one leads.
    Wait,
    /// This process leads, and goes on.
    Renew { epoch: u64 },
    /// The lease is free.
    Take { epoch: u64 },
}

/// Decides it. `term` is the epoch in which this process leads, if it does; `known`, the highest that it knows of; `unchanged`, how
/// long it has seen the lease as it is.
pub(super) fn claim(
    lease: &LeaseSpec,
    me: &str,
    (term, known): (Option<u64>, u64),
    unchanged: Duration,
    now: Timestamp,
) -> Claim {
    let holder = lease.holder_identity.as_deref().unwrap_or_default();
    let epoch = epoch_of(lease);
    let is_free = holder.is_empty() || unchanged >= DURATION;
    if holder != me && !is_free {
        return Claim::Wait;
    }
    // A term that this process does not know of is another's, even under the same name.
    if holder == me && term == Some(epoch) && known <= epoch {
        return Claim::Renew { epoch };
    }
    Claim::Take {
        epoch: next_epoch(epoch.max(known), now),
    }
}

pub(super) fn epoch_of(lease: &LeaseSpec) -> u64 {
    u64::try_from(lease.lease_transitions.unwrap_or(0)).unwrap_or(0)
}

pub(super) fn next_epoch(last: u64, now: Timestamp) -> u64 {
    let minutes = (now.as_second() - YEAR_2020) / 60;
    (last + 1)
        .max(u64::try_from(minutes).unwrap_or(0))
        .min(HIGHEST_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(YEAR_2020 + 60 * 1000, 0);

    fn check(holder: &str, transitions: i32, term: Option<u64>, unchanged: u64) -> Claim {
        let lease = LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        };
        claim(&lease, "me", (term, 0), Duration::from_secs(unchanged), NOW)
    }

    #[test]
    fn a_leader_that_workers_have_outlived_takes_its_own_lease_above_what_they_have_seen() {
        let lease = |holder: &str| LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_transitions: Some(2000),
            ..LeaseSpec::default()
        };
        let claim = |holder, known| {
            let epochs = (Some(2000), known);
            super::claim(&lease(holder), "me", epochs, Duration::ZERO, NOW)
        };
        assert_eq!(claim("me", 2000), Claim::Renew { epoch: 2000 });
        assert_eq!(claim("me", 5000), Claim::Take { epoch: 5001 });
        assert_eq!(claim("", 5000), Claim::Take { epoch: 5001 });
        assert_eq!(claim("other", 5000), Claim::Wait);
    }

    #[test]
    fn a_worker_that_lies_of_epochs_is_believed_seldom_and_not_far_and_takes_no_turn_of_others() {
        let begin = Instant::now();
        let mut heard = Heard::default();
        let mut hear = |worker, epoch, after| heard.hear(worker, epoch, (begin + after, NOW));
        let (at_once, later) = (Duration::ZERO, BELIEVED_EVERY);
        assert!(hear("liar", 1001, at_once));
        assert!(!hear("liar", 1002, at_once));
        assert!(hear("honest", 2000, at_once));
        assert!(!hear("another", 2000, at_once));
        assert!(!hear("another", 1001 + BELIEVED_AHEAD, at_once));
        assert!(hear("liar", 1000 + BELIEVED_AHEAD, later));
        assert_eq!(next_epoch(HIGHEST_EPOCH, NOW), HIGHEST_EPOCH);
    }

    #[test]
    fn what_a_lie_has_made_others_see_is_believed_in_a_minute() {
        let now = Instant::now();
        let seen = 1000 + BELIEVED_AHEAD + 1;
        assert!(!Heard::default().hear("honest", seen, (now, NOW)));
        let minute = NOW + jiff::SignedDuration::from_mins(1);
        assert!(Heard::default().hear("honest", seen, (now, minute)));
    }

    #[test]
    fn a_held_lease_is_left_alone_until_it_has_not_changed_for_its_duration() {
        assert_eq!(check("other", 2000, None, 14), Claim::Wait);
        assert_eq!(check("other", 2000, None, 15), Claim::Take { epoch: 2001 });
        assert_eq!(check("", 2000, None, 0), Claim::Take { epoch: 2001 });
    }

    #[test]
    fn only_a_term_that_this_process_knows_of_is_renewed() {
        assert_eq!(
            check("me", 2000, Some(2000), 3),
            Claim::Renew { epoch: 2000 }
        );
        assert_eq!(check("me", 2000, None, 3), Claim::Take { epoch: 2001 });
        assert_eq!(
            check("me", 2001, Some(2000), 3),
            Claim::Take { epoch: 2002 }
        );
    }

    #[test]
    fn a_lease_that_was_deleted_or_came_from_a_backup_begins_above_what_workers_have_seen() {
        assert_eq!(check("", 3, None, 0), Claim::Take { epoch: 1000 });
        assert_eq!(next_epoch(0, NOW), 1000);
        // A clock that is set back takes nothing away.
        assert_eq!(next_epoch(1000, Timestamp::UNIX_EPOCH), 1001);
    }
}
