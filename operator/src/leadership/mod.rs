//! Who leads: one Lease, held by one replica at a time. Its `leaseTransitions` is the epoch that fences the workers.
//!
//! *Layout*: here is who asks and tells, in `claim` what is decided.
//!
//! The epoch grows with every change of the leader. It is never less than the minutes since 2020, so that a Lease which was deleted,
//! or came back with an old backup, does not begin with an epoch that the workers would refuse. Where it does all the same, since a
//! clock was set back, a worker says so, and the leader takes the lease anew above what the worker has seen.
//!
//! # Guarantees
//! [`Leadership::epoch`] gives an epoch only while this replica's own clock says that its lease has not run out, measured from
//! before the request that renewed it. Clocks of replicas are never compared: a lease counts as run out when it has not changed
//! for its duration by the observer's own clock (as client-go does).

mod claim;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use tokio::sync::watch;

use claim::{Claim, Heard, claim, epoch_of, next_epoch};

/// Durations as client-go has them.
const DURATION: Duration = Duration::from_secs(15);
const RENEW_EVERY: Duration = Duration::from_secs(2);
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// A leader stops this long before another one may begin.
pub const MARGIN: Duration = Duration::from_secs(5);

/// This replica's view of who leads.
#[derive(Clone, Debug)]
pub struct Leadership {
    term: Arc<Mutex<Option<Term>>>,
    changed: watch::Receiver<Option<u64>>,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Clone, Copy, Debug)]
struct Term {
    epoch: u64,
    until: Instant,
    since: Instant,
}

impl Leadership {
    /// The epoch, while this replica leads.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        let term = *self.term.lock().unwrap_or_else(PoisonError::into_inner);
        term.filter(|term| Instant::now() < term.until)
            .map(|term| term.epoch)
    }

    /// A worker has seen this epoch, and takes no orders of a lower one. Whether it is believed: then this replica takes the lease
    /// anew, if it is the one that leads.
    pub fn outranked(&self, pod_uid: &str, epoch: u64) -> bool {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.hear(pod_uid, epoch, (Instant::now(), Timestamp::now()))
    }

    /// One whose term, if any, lasts as long as the test.
    #[cfg(test)]
    pub(crate) fn for_test(epoch: Option<u64>) -> Leadership {
        let term = epoch.map(|epoch| Term {
            epoch,
            until: Instant::now() + Duration::from_secs(3600),
            since: Instant::now(),
        });
        let (_, changed) = watch::channel(epoch);
        let term = Arc::new(Mutex::new(term));
        let heard = Arc::default();
        Leadership {
            term,
            changed,
            heard,
        }
    }

    /// The term ends, or another one begins; nobody is told.
    #[cfg(test)]
    pub(crate) fn set_for_test(&self, epoch: Option<u64>) {
        let other = Leadership::for_test(epoch);
        let term = *other.term.lock().unwrap_or_else(PoisonError::into_inner);
        *self.term.lock().unwrap_or_else(PoisonError::into_inner) = term;
    }

    /// Changes when leadership comes or goes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Option<u64>> {
        self.changed.clone()
    }
}

/// Takes part in the election.
pub struct Candidate {
    leases: Api<Lease>,
    name: String,
    identity: String,
    term: Arc<Mutex<Option<Term>>>,
    change: watch::Sender<Option<u64>>,
    /// The lease as it was last seen to change, and when that was by this clock.
    seen: Option<(Lease, Instant)>,
    /// The highest epoch in which this process has seen the lease.
    highest: u64,
    heard: Arc<Mutex<Heard>>,
}

/// Why a try to lead failed.
#[derive(Debug, thiserror::Error)]
pub enum ElectionError {
    #[error("cannot read the lease")]
    Read(#[source] Box<kube::Error>),
    #[error("cannot write the lease")]
    Write(#[source] Box<kube::Error>),
    #[error("the API server did not answer about the lease in time")]
    Late,
}

impl Candidate {
    /// `identity` must be unique to this process.
    #[must_use]
    pub fn new(leases: Api<Lease>, name: String, identity: String) -> (Candidate, Leadership) {
        let (change, changed) = watch::channel(None);
        let term = Arc::new(Mutex::new(None));
        let heard = Arc::default();
        let leadership = Leadership {
            term: Arc::clone(&term),
            changed,
            heard: Arc::clone(&heard),
        };
        (
            Candidate {
                leases,
                name,
                identity,
                term,
                change,
                seen: None,
                highest: 0,
                heard,
            },
            leadership,
        )
    }

    /// Takes part until the future `shutdown` ends; then hands the lease back, so that the standby need not wait.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        loop {
            match tokio::time::timeout(REQUEST_LIMIT, self.try_lead())
                .await
                .unwrap_or(Err(ElectionError::Late))
            {
                Ok(()) => {}
                Err(error) => tracing::warn!(error = %crate::chain(&error), "leader election"),
            }
            self.announce();
            tokio::select! {
                () = tokio::time::sleep(RENEW_EVERY) => {}
                () = &mut shutdown => break,
            }
        }
        let leads = self.set_term(None).is_some();
        self.announce();
        if leads
            && let Err(error) = tokio::time::timeout(REQUEST_LIMIT, self.release())
                .await
                .unwrap_or(Err(ElectionError::Late))
        {
            tracing::warn!(error = %crate::chain(&error), "cannot hand the lease back");
        }
    }

    pub(crate) async fn try_lead(&mut self) -> Result<(), ElectionError> {
        let asked = Instant::now();
        let found = self
            .leases
            .get_opt(&self.name)
            .await
            .map_err(|error| ElectionError::Read(Box::new(error)))?;
        let Some(lease) = found else {
            let epoch = next_epoch(self.known(), Timestamp::now());
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.spec(epoch)),
            };
            let made = self.leases.create(&PostParams::default(), &lease).await;
            return self.written(made, epoch, asked);
        };
        if self
            .seen
            .as_ref()
            .is_none_or(|(old, _)| old.metadata.resource_version != lease.metadata.resource_version)
        {
            self.seen = Some((lease.clone(), asked));
        }
        let old = lease.spec.clone().unwrap_or_default();
        self.highest = self.highest.max(epoch_of(&old));
        let unchanged = self
            .seen
            .as_ref()
            .map_or(Duration::ZERO, |(_, since)| asked.duration_since(*since));
        let term = self.current().map(|term| term.epoch);
        let epochs = (term, self.known());
        let claim = claim(&old, &self.identity, epochs, unchanged, Timestamp::now());
        let (epoch, acquired) = match claim {
            Claim::Wait => {
                self.set_term(None);
                return Ok(());
            }
            Claim::Renew { epoch } => (epoch, old.acquire_time),
            Claim::Take { epoch } => (epoch, None),
        };
        let mut spec = self.spec(epoch);
        spec.acquire_time = acquired.or(spec.acquire_time);
        let lease = Lease {
            metadata: lease.metadata,
            spec: Some(spec),
        };
        let put = self
            .leases
            .replace(&self.name, &PostParams::default(), &lease)
            .await;
        self.written(put, epoch, asked)
    }

    /// A conflict means that somebody else was faster.
    fn written(
        &mut self,
        written: kube::Result<Lease>,
        epoch: u64,
        asked: Instant,
    ) -> Result<(), ElectionError> {
        match written {
            Ok(lease) => {
                self.seen = Some((lease, asked));
                self.highest = self.highest.max(epoch);
                let now = Instant::now();
                let old = self.current();
                let since = led_since(old, epoch, now);
                self.set_term(Some(Term {
                    epoch,
                    until: asked + DURATION - MARGIN,
                    since: since.unwrap_or(now),
                }));
                if old.is_some() && since.is_none() {
                    // It ran out, and who saw that meanwhile is to look again, though the epoch may be the same.
                    self.change.send_modify(|epoch| *epoch = None);
                }
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                self.set_term(None);
                Ok(())
            }
            Err(error) => Err(ElectionError::Write(Box::new(error))),
        }
    }

    async fn release(&self) -> Result<(), ElectionError> {
        let Some((lease, _)) = &self.seen else {
            return Ok(());
        };
        let mut lease = lease.clone();
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
        }
        let put = self
            .leases
            .replace(&self.name, &PostParams::default(), &lease)
            .await;
        put.map(|_| ())
            .map_err(|error| ElectionError::Write(Box::new(error)))
    }

    fn spec(&self, epoch: u64) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(MicroTime(Timestamp::now())),
            renew_time: Some(MicroTime(Timestamp::now())),
            lease_transitions: i32::try_from(epoch).ok(),
            ..LeaseSpec::default()
        }
    }

    /// The highest epoch that this process knows of.
    fn known(&self) -> u64 {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        self.highest.max(heard.epoch)
    }

    fn current(&self) -> Option<Term> {
        *self.term.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_term(&self, term: Option<Term>) -> Option<Term> {
        std::mem::replace(
            &mut self.term.lock().unwrap_or_else(PoisonError::into_inner),
            term,
        )
    }

    fn announce(&self) {
        let term = *self.term.lock().unwrap_or_else(PoisonError::into_inner);
        let epoch = term
            .filter(|term| Instant::now() < term.until)
            .map(|term| term.epoch);
        self.change
            .send_if_modified(|old| std::mem::replace(old, epoch) != epoch);
    }
}

/// Since when this process has led without a gap, at the moment at which it renews its lease in `epoch`. Workers whose streams a gap
/// has closed need their time to come back.
fn led_since(term: Option<Term>, epoch: u64, now: Instant) -> Option<Instant> {
    term.filter(|term| term.epoch == epoch && now < term.until)
        .map(|term| term.since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_that_has_run_out_gives_no_epoch() {
        let leadership = Leadership::for_test(Some(7));
        assert_eq!(leadership.epoch(), Some(7));
        if let Some(term) = &mut *leadership.term.lock().expect("nobody panics with it") {
            term.until = Instant::now();
        }
        assert_eq!(leadership.epoch(), None);
    }

    #[test]
    fn a_leader_whose_term_ran_out_leads_anew_though_its_lease_is_still_its_own() {
        let begun = Instant::now();
        let until = begun + Duration::from_secs(10);
        let term = Some(Term {
            epoch: 7,
            until,
            since: begun,
        });
        assert_eq!(led_since(term, 7, begun), Some(begun));
        assert_eq!(led_since(term, 7, until), None);
        assert_eq!(led_since(term, 8, begun), None);
        assert_eq!(led_since(None, 7, begun), None);
    }
}
