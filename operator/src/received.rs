//! Which uploads have arrived: the store tells, and what it has told is believed until there is a reason to doubt it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use framewright_crds::aijob::UploadStatus;
use framewright_crds::names::OwnerKind;

use crate::context::{Context, Wake};
use framewright_core::links::Place;
use framewright_store::key::ArtifactKey;
use framewright_store::watch::{FileEvent, FileEvents, FileWatchHandle};

/// What is known of the uploads of each owner, by UID.
#[derive(Debug)]
pub struct Received {
    store: FileWatchHandle,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    owners: HashMap<String, Owner>,
    /// Why the store cannot be asked, if so.
    trouble: Option<String>,
}

#[derive(Debug)]
struct Owner {
    object: Object,
    there: BTreeSet<String>,
    /// Not there, whatever a status says that was written before.
    missing: BTreeSet<String>,
    /// Files that the store tells of.
    watched: BTreeSet<String>,
    doubt: Doubt,
}

/// A job or pool whose files have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub kind: OwnerKind,
    pub namespace: String,
    pub name: String,
}

/// What is in the store of what a status waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub received: BTreeSet<String>,
    /// Why the store cannot be asked, if so.
    pub trouble: Option<String>,
}

/// Why a yes of the store may no longer be true: it may have lost the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    #[must_use]
    pub fn new(store: FileWatchHandle) -> Received {
        Received {
            store,
            state: Mutex::default(),
        }
    }

    /// What has arrived of these, as far as the store has told. It is asked to tell of those that have not, and, while there is a
    /// doubt, of all; a new doubt asks again. Its answers come as [`FileEvent`]s.
    pub fn look(
        &self,
        place: &Place<'_>,
        name: &str,
        (uploads, doubt): (&[UploadStatus], Doubt),
    ) -> Answer {
        let mut state = self.lock();
        let trouble = state.trouble.clone();
        let owner = state
            .owners
            .entry(place.uid.to_owned())
            .or_insert_with(|| Owner::new(place, name));
        owner.there.extend(
            uploads
                .iter()
                .filter(|upload| upload.received && !owner.missing.contains(&upload.sha256))
                .map(|upload| upload.sha256.clone()),
        );
        let awaited: BTreeSet<String> = uploads
            .iter()
            .map(|upload| &upload.sha256)
            .filter(|sha256| doubt != Doubt::None || !owner.there.contains(*sha256))
            .cloned()
            .collect();
        let asks_again = doubt > owner.doubt;
        owner.doubt = doubt;
        for sha256 in owner.watched.difference(&awaited) {
            self.unwatch(place, sha256);
        }
        for sha256 in &awaited {
            if !asks_again && owner.watched.contains(sha256) {
                continue;
            }
            // The API admits none but good digests, and the API server makes the rest of a key.
            if let Ok(key) = crate::links::key(place, sha256) {
                self.store.watch(key);
            }
        }
        owner.watched = awaited;
        Answer {
            received: owner.there.clone(),
            trouble,
        }
    }

    /// Takes in what the store says; whom it concerns.
    pub fn note(&self, event: FileEvent) -> Vec<Object> {
        let mut state = self.lock();
        match event {
            FileEvent::Present { key, bytes: _ } => state.learn(&key, true),
            FileEvent::Missing { key } => state.learn(&key, false),
            FileEvent::Away { error } => {
                tracing::warn!(error, "the store does not tell which files are there");
                state.trouble = Some(error);
                state.waiting()
            }
            FileEvent::Back => {
                tracing::info!("the store tells which files are there");
                match state.trouble.take() {
                    Some(_) => state.waiting(),
                    None => Vec::new(),
                }
            }
        }
    }

    /// What is known to have arrived.
    #[must_use]
    pub fn of(&self, uid: &str) -> BTreeSet<String> {
        let state = self.lock();
        let owner = state.owners.get(uid);
        owner.map(|owner| owner.there.clone()).unwrap_or_default()
    }

    /// Forgets owners that are gone.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.lock().owners.retain(|uid, owner| {
            let is_there = is_there(uid);
            if !is_there {
                self.forget_files(uid, owner);
            }
            is_there
        });
    }

    /// Forgets an owner that waits for nothing any more.
    pub fn forget(&self, uid: &str) {
        if let Some(owner) = self.lock().owners.remove(uid) {
            self.forget_files(uid, &owner);
        }
    }

    fn forget_files(&self, uid: &str, owner: &Owner) {
        let place = Place {
            namespace: &owner.object.namespace,
            kind: owner.object.kind,
            uid,
        };
        for sha256 in &owner.watched {
            self.unwatch(&place, sha256);
        }
    }

    fn unwatch(&self, place: &Place<'_>, sha256: &str) {
        if let Ok(key) = crate::links::key(place, sha256) {
            self.store.unwatch(&key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whom it concerns that a file is there or not; nobody, if that was known.
    fn learn(&mut self, key: &ArtifactKey, is_there: bool) -> Vec<Object> {
        let Some(owner) = self.owners.get_mut(key.owner().uid()) else {
            return Vec::new();
        };
        let sha256 = key.sha256();
        let is_new = if is_there {
            owner.missing.remove(sha256);
            owner.there.insert(sha256.to_owned())
        } else {
            owner.missing.insert(sha256.to_owned());
            owner.there.remove(sha256)
        };
        if is_new {
            vec![owner.object.clone()]
        } else {
            Vec::new()
        }
    }

    /// Those who wait for a file.
    fn waiting(&self) -> Vec<Object> {
        let owners = self.owners.values();
        owners
            .filter(|owner| !owner.watched.is_empty())
            .map(|owner| owner.object.clone())
            .collect()
    }
}

impl Owner {
    fn new(place: &Place<'_>, name: &str) -> Owner {
        Owner {
            object: Object {
                kind: place.kind,
                namespace: place.namespace.to_owned(),
                name: name.to_owned(),
            },
            there: BTreeSet::new(),
            missing: BTreeSet::new(),
            watched: BTreeSet::new(),
            doubt: Doubt::None,
        }
    }
}

/// Takes in what the store says, for ever, and has the objects looked at that it concerns.
pub async fn follow(context: Arc<Context>, mut events: FileEvents) {
    loop {
        let event = events.recv().await;
        for object in context.received.note(event) {
            wake(&context.wake, &object);
        }
    }
}

fn wake(wake: &Wake, object: &Object) {
    let Object {
        kind,
        namespace,
        name,
    } = object;
    match kind {
        OwnerKind::AIJobs => {
            wake.scheduler.notify_one();
            wake.job(namespace, name);
        }
        OwnerKind::ModelPools => wake.pool(namespace, name),
    }
}
