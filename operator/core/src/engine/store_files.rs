//! Which files are in the store, as it has said in this term.

use std::collections::{BTreeSet, HashMap};

use framewright_crds::aijob::FileStatus;

use super::interface::{Effect, FileKey};
use crate::links::Place;

/// The files of each owner, by its UID.
#[derive(Debug, Default)]
pub struct Files {
    owners: HashMap<String, Owner>,
    /// Why the store cannot be asked, if so.
    error: Option<String>,
}

#[derive(Debug, Default)]
struct Owner {
    present: BTreeSet<String>,
    /// Not there, whatever a status says that was written before.
    missing: BTreeSet<String>,
    watched: BTreeSet<FileKey>,
    /// The value of the annotation for new links that the store was asked again for.
    asked_for: Option<String>,
}

/// Why what the store said before may no longer be true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doubt {
    /// A worker cannot get a file.
    pub worker: bool,
    /// Somebody asks for new links: the value of the annotation.
    pub renewal: Option<String>,
}

impl Files {
    /// SHA-256 of an owner's files that are in the store, by its word or else by that of the status.
    #[must_use]
    pub fn received(&self, uid: &str, files: &[FileStatus]) -> BTreeSet<String> {
        let owner = self.owners.get(uid);
        let is_missing = |sha256: &str| owner.is_some_and(|owner| owner.missing.contains(sha256));
        let told = files
            .iter()
            .filter(|file| file.is_received() && !is_missing(file.sha256()))
            .map(|file| file.sha256().to_owned());
        let present = owner
            .into_iter()
            .flat_map(|owner| owner.present.iter().cloned());
        told.chain(present).collect()
    }

    /// Why it is not known whether an owner's files have come, if the store cannot be asked.
    #[must_use]
    pub fn error(&self) -> Option<&String> {
        self.error.as_ref()
    }

    /// Watches the files of an owner that are waited for, or all of them while there is a doubt.
    pub fn watch(
        &mut self,
        place: &Place<'_>,
        files: &[FileStatus],
        doubt: Doubt,
        effects: &mut Vec<Effect>,
    ) {
        let received = self.received(place.uid, files);
        let is_asked = doubt.renewal.is_some();
        let wanted: BTreeSet<FileKey> = files
            .iter()
            .filter(|file| doubt.worker || is_asked || !received.contains(file.sha256()))
            .map(|file| FileKey {
                namespace: place.namespace.to_owned(),
                kind: place.kind,
                uid: place.uid.to_owned(),
                sha256: file.sha256().to_owned(),
            })
            .collect();
        if wanted.is_empty() && !self.owners.contains_key(place.uid) {
            return;
        }
        let owner = self.owners.entry(place.uid.to_owned()).or_default();
        let is_asked_again = is_asked && owner.asked_for != doubt.renewal;
        if is_asked_again {
            owner.asked_for = doubt.renewal;
        }
        for key in &wanted {
            if is_asked_again || !owner.watched.contains(key) {
                effects.push(Effect::WatchFile(key.clone()));
            }
        }
        for key in owner.watched.difference(&wanted) {
            effects.push(Effect::UnwatchFile(key.clone()));
        }
        owner.watched = wanted;
    }

    /// The store has said whether a file is there; whether that is new.
    pub fn told(&mut self, key: &FileKey, is_present: bool) -> bool {
        let Some(owner) = self.owners.get_mut(&key.uid) else {
            return false;
        };
        let FileKey { sha256, .. } = key;
        if is_present {
            owner.missing.remove(sha256) | owner.present.insert(sha256.clone())
        } else {
            owner.present.remove(sha256) | owner.missing.insert(sha256.clone())
        }
    }

    /// The store can be asked, or cannot; the UIDs of the owners that wait for a file, if that is new.
    pub fn store(&mut self, error: Option<String>) -> Vec<String> {
        if self.error == error {
            return Vec::new();
        }
        self.error = error;
        let waiting = self
            .owners
            .iter()
            .filter(|(_, owner)| !owner.watched.is_empty());
        waiting.map(|(uid, _)| uid.clone()).collect()
    }

    /// An owner is gone, or over.
    pub fn forget(&mut self, uid: &str, effects: &mut Vec<Effect>) {
        let watched = self.owners.remove(uid).map(|owner| owner.watched);
        effects.extend(watched.into_iter().flatten().map(Effect::UnwatchFile));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use framewright_crds::aijob::FileState;
    use framewright_crds::names::OwnerKind;

    const PLACE: Place<'_> = Place {
        namespace: "studio",
        kind: OwnerKind::AIJobs,
        uid: "u",
    };

    fn upload(is_received: bool) -> FileStatus {
        let state = if is_received {
            FileState::Received
        } else {
            FileState::Awaited
        };
        FileStatus {
            name: "large/video".to_owned(),
            source: "upload".to_owned(),
            state,
            digest: "sha256:a".to_owned(),
            bytes: 1,
            link: None,
            expires_at: None,
            message: None,
        }
    }

    fn key() -> FileKey {
        FileKey {
            namespace: "studio".to_owned(),
            kind: OwnerKind::AIJobs,
            uid: "u".to_owned(),
            sha256: "a".to_owned(),
        }
    }

    fn watch(files: &mut Files, received: bool, doubt: Doubt) -> usize {
        let mut effects = Vec::new();
        files.watch(&PLACE, &[upload(received)], doubt, &mut effects);
        effects.len()
    }

    #[test]
    fn a_file_is_watched_once_until_it_has_come() {
        let mut files = Files::default();
        assert_eq!(watch(&mut files, false, Doubt::default()), 1);
        assert_eq!(watch(&mut files, false, Doubt::default()), 0);
        assert!(files.told(&key(), true));
        assert!(!files.told(&key(), true));
        assert_eq!(files.received("u", &[upload(false)]).len(), 1);
        assert_eq!(watch(&mut files, true, Doubt::default()), 1, "unwatched");
    }

    #[test]
    fn a_file_that_the_store_has_lost_is_waited_for_again_whatever_the_status_says() {
        let mut files = Files::default();
        let doubt = |worker| Doubt {
            worker,
            renewal: None,
        };
        assert_eq!(watch(&mut files, true, doubt(false)), 0);
        assert_eq!(watch(&mut files, true, doubt(true)), 1);
        assert!(files.told(&key(), false));
        assert!(files.received("u", &[upload(true)]).is_empty());
    }

    #[test]
    fn each_renewal_of_links_asks_the_store_once_more() {
        let mut files = Files::default();
        let asked = |value: &str| Doubt {
            worker: false,
            renewal: Some(value.to_owned()),
        };
        assert_eq!(watch(&mut files, true, asked("1")), 1);
        assert_eq!(watch(&mut files, true, asked("1")), 0);
        assert_eq!(watch(&mut files, true, asked("2")), 1);
    }
}
