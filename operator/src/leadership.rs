//! Who leads: one Lease, held by one replica at a time. Its count of transitions is the epoch that fences the workers.
//!
//! # Guarantees
//! [`Leadership::epoch`] gives an epoch only while this replica's own clock says that its lease has not run out, measured from
//! before the request that renewed it. Clocks of replicas are never compared: a lease counts as run out when it has not changed
//! for its duration by the observer's own clock (as client-go does).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use tokio::sync::watch;

/// Durations as client-go has them.
const DURATION: Duration = Duration::from_secs(15);
const RENEW_EVERY: Duration = Duration::from_secs(2);
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// A leader stops this long before another one may begin.
const MARGIN: Duration = Duration::from_secs(5);

/// This replica's view of who leads.
#[derive(Clone, Debug)]
pub struct Leadership {
    term: Arc<Mutex<Option<Term>>>,
    changed: watch::Receiver<Option<u64>>,
}

#[derive(Clone, Copy, Debug)]
struct Term {
    epoch: u64,
    until: Instant,
    since: Timestamp,
}

impl Leadership {
    /// The epoch, while this replica leads.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        let term = *self.term.lock().unwrap_or_else(PoisonError::into_inner);
        term.filter(|term| Instant::now() < term.until)
            .map(|term| term.epoch)
    }

    /// Since when this replica leads.
    #[must_use]
    pub fn since(&self) -> Option<Timestamp> {
        self.term
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .map(|term| term.since)
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
        let leadership = Leadership {
            term: Arc::clone(&term),
            changed,
        };
        (
            Candidate {
                leases,
                name,
                identity,
                term,
                change,
                seen: None,
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

    async fn try_lead(&mut self) -> Result<(), ElectionError> {
        let asked = Instant::now();
        let found = self
            .leases
            .get_opt(&self.name)
            .await
            .map_err(|error| ElectionError::Read(Box::new(error)))?;
        let Some(lease) = found else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.spec(1)),
            };
            let made = self.leases.create(&PostParams::default(), &lease).await;
            return self.written(made, 1, asked);
        };
        if self
            .seen
            .as_ref()
            .is_none_or(|(old, _)| old.metadata.resource_version != lease.metadata.resource_version)
        {
            self.seen = Some((lease.clone(), asked));
        }
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        let epoch = u64::try_from(spec.lease_transitions.unwrap_or(0)).unwrap_or(0);
        let is_free = holder.is_empty()
            || self
                .seen
                .as_ref()
                .is_some_and(|(_, since)| asked.duration_since(*since) >= DURATION);
        if holder != self.identity && !is_free {
            self.set_term(None);
            return Ok(());
        }
        // A term that this process does not know of is another's, even under the same name.
        let is_renewal =
            holder == self.identity && self.current().is_some_and(|term| term.epoch == epoch);
        let epoch = if is_renewal { epoch } else { epoch + 1 };
        let mut spec = self.spec(epoch);
        if is_renewal {
            spec.acquire_time = lease.spec.and_then(|spec| spec.acquire_time);
        }
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
                let since = match self.current() {
                    Some(term) if term.epoch == epoch => term.since,
                    Some(_) | None => Timestamp::now(),
                };
                self.set_term(Some(Term {
                    epoch,
                    until: asked + DURATION - MARGIN,
                    since,
                }));
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
