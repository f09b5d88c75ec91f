//! Which uploads have arrived: asked of the store, and remembered once the answer is yes, until there is a reason to doubt it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use framewright_crds::aijob::UploadStatus;
use jiff::Timestamp;

use framewright_core::links::Place;
use framewright_store::client::{StoreClient, StoreError};

/// What is known of the uploads of each owner, by UID.
#[derive(Debug, Default)]
pub struct Received {
    owners: Mutex<HashMap<String, Owner>>,
    /// Why the store did not answer the last question, if so.
    trouble: Mutex<Option<String>>,
    /// Held by the one that asks a store which did not answer.
    probe: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct Owner {
    there: BTreeSet<String>,
    /// Not there, whatever a status says that was written before.
    missing: BTreeSet<String>,
    asked: Option<Timestamp>,
    trouble: Option<String>,
}

/// What is in the store of what a status waits for.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub received: BTreeSet<String>,
    /// Why the store could not be asked, if so.
    pub trouble: Option<String>,
}

/// Why a yes of the store may no longer be true: it may have lost the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    None,
    /// A worker does not get a file.
    Worker,
    /// Somebody asks for new links, which happens once.
    Person,
}

impl Doubt {
    /// The stronger of both.
    #[must_use]
    pub fn of(is_missed: bool, is_asked: bool) -> Doubt {
        match (is_missed, is_asked) {
            (_, true) => Doubt::Person,
            (true, false) => Doubt::Worker,
            (false, false) => Doubt::None,
        }
    }
}

impl Received {
    /// What has arrived of these, which an object made at `created` names; a no of the store is believed for half the time after
    /// which the object is looked at again. A yes is believed unless somebody doubts it.
    pub async fn ask(
        &self,
        store: &StoreClient,
        place: &Place<'_>,
        (uploads, doubt): (&[UploadStatus], Doubt),
        (created, now): (Timestamp, Timestamp),
    ) -> Answer {
        let mut owner = self.known(place.uid);
        owner.there.extend(
            uploads
                .iter()
                .filter(|upload| upload.received && !owner.missing.contains(&upload.sha256))
                .map(|upload| upload.sha256.clone()),
        );
        let awaited: Vec<&str> = uploads
            .iter()
            .map(|upload| upload.sha256.as_str())
            .filter(|sha256| doubt != Doubt::None || !owner.there.contains(*sha256))
            .collect();
        let believed = framewright_core::uploads::ask_every(now.duration_since(created)) / 2;
        // A clock that was set back makes no answer last longer.
        let is_due = doubt == Doubt::Person
            || owner
                .asked
                .is_none_or(|asked| now < asked || now.duration_since(asked) >= believed);
        if is_due && !awaited.is_empty() {
            owner.asked = Some(now);
            owner.trouble = self.find(store, place, &awaited, &mut owner).await;
        }
        let answer = Answer {
            received: owner.there.clone(),
            trouble: owner.trouble.clone(),
        };
        self.lock().insert(place.uid.to_owned(), owner);
        answer
    }

    /// Notes which are in the store; why it could not be asked, if so. While it does not answer, one asks for all: a store that
    /// hangs must not hold up every job.
    async fn find(
        &self,
        store: &StoreClient,
        place: &Place<'_>,
        awaited: &[&str],
        owner: &mut Owner,
    ) -> Option<String> {
        let trouble = self.trouble();
        let _only_one = match &trouble {
            Some(_) => match self.probe.try_lock() {
                Ok(only_one) => Some(only_one),
                Err(_) => return trouble,
            },
            None => None,
        };
        let mut trouble = None;
        for sha256 in awaited {
            match stat(store, place, sha256).await {
                Ok(true) => {
                    owner.there.insert((*sha256).to_owned());
                    owner.missing.remove(*sha256);
                }
                Ok(false) => {
                    owner.there.remove(*sha256);
                    owner.missing.insert((*sha256).to_owned());
                }
                Err(error) => {
                    trouble = Some(crate::chain(&error).to_string());
                    break;
                }
            }
        }
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&trouble);
        trouble
    }

    fn trouble(&self) -> Option<String> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What is known to have arrived, without asking.
    #[must_use]
    pub fn of(&self, uid: &str) -> BTreeSet<String> {
        self.known(uid).there
    }

    /// Forgets owners that are gone.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.lock().retain(|uid, _| is_there(uid));
    }

    fn known(&self, uid: &str) -> Owner {
        self.lock().get(uid).cloned().unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Owner>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn stat(store: &StoreClient, place: &Place<'_>, sha256: &str) -> Result<bool, StoreError> {
    match crate::links::key(place, sha256) {
        Ok(key) => Ok(store.stat(&key).await?.is_some()),
        Err(_) => Ok(false),
    }
}
