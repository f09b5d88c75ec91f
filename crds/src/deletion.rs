//! What keeps an object that somebody has deleted. No I/O, no clock.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The garbage collector's own finalizers: with the one it deletes what the object owns, with the other it gives that up.
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// The finalizers that keep an object which is being deleted, besides the garbage collector's; none if it is not being deleted, or
/// goes by itself, or leaves behind what it owns.
#[must_use]
pub fn kept_by(object: &ObjectMeta) -> Vec<String> {
    let finalizers = object.finalizers.as_deref().unwrap_or_default();
    if object.deletion_timestamp.is_none() || finalizers.iter().any(|name| name == ORPHAN) {
        return Vec::new();
    }
    let foreign = finalizers.iter().filter(|name| *name != FOREGROUND);
    foreign.cloned().collect()
}

/// Whether the object is being deleted and nothing foreign keeps it.
#[must_use]
pub fn goes_by_itself(object: &ObjectMeta) -> bool {
    object.deletion_timestamp.is_some() && kept_by(object).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    #[test]
    fn only_a_deleted_object_with_foreign_finalizers_is_kept() {
        let kept = |is_deleted: bool, finalizers: &[&str]| {
            let finalizers = finalizers.iter().map(|name| (*name).to_owned());
            kept_by(&ObjectMeta {
                deletion_timestamp: is_deleted.then_some(Time(Timestamp::UNIX_EPOCH)),
                finalizers: Some(finalizers.collect()),
                ..ObjectMeta::default()
            })
        };
        assert_eq!(kept(true, &[FOREGROUND, "x/y"]), ["x/y"]);
        for (is_deleted, finalizers) in [
            (false, &["x/y"][..]),
            (true, &[]),
            (true, &[FOREGROUND]),
            (true, &[ORPHAN, "x/y"]),
        ] {
            assert!(kept(is_deleted, finalizers).is_empty(), "{finalizers:?}");
        }
    }
}
