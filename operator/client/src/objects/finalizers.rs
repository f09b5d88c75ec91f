//! The finalizers that keep a deleted job.

use framewright_crds::AIJob;
use framewright_crds::deletion;

/// The finalizers that keep a job which is being deleted, as a comma-separated list. None if nothing keeps it.
#[must_use]
pub fn kept_by(job: &AIJob) -> Option<String> {
    let finalizers = deletion::kept_by(&job.metadata);
    (!finalizers.is_empty()).then(|| finalizers.join(", "))
}
