//! What a client waits for, what it was told, and what it has not taken yet. Everything here is bounded by the number of wishes.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::{KEYS_PER_MESSAGE, WatchRequest};
use crate::key::ArtifactKey;

/// What the store says, or why it says nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FileEvent {
    /// The file is there.
    Present { key: ArtifactKey, bytes: u64 },
    /// The file is not there, or not any more.
    Missing { key: ArtifactKey },
    /// The store cannot be asked. `error` is a sentence with its causes. The wishes are kept.
    Away { error: String },
    /// The stream is open, for the first time or again, and all wishes are on their way to the store.
    Back,
}

/// Says what is waited for. Cheap to clone; never blocks and never waits.
#[derive(Clone, Debug)]
pub struct FileWatchHandle {
    shared: Arc<Shared>,
}

/// What the store says, in order. When this is dropped, the stream is closed.
#[derive(Debug)]
pub struct FileEvents {
    shared: Arc<Shared>,
    _stream: AbortOnDropHandle<()>,
}

/// Between the handles, the stream and whoever takes the events.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    has_unsent: Notify,
    has_event: Notify,
}

#[derive(Debug, Default)]
struct State {
    wishes: HashMap<ArtifactKey, Told>,
    is_open: bool,
    unsent_watch: BTreeSet<ArtifactKey>,
    unsent_unwatch: BTreeSet<ArtifactKey>,
    /// Away or Back, not taken yet.
    connection: Option<FileEvent>,
    /// Why the store is away, as was told last.
    away: Option<String>,
    /// Keys whose newest answer is not taken yet, in the order in which the first of them came.
    changed: VecDeque<ArtifactKey>,
    newest: HashMap<ArtifactKey, Option<u64>>,
}

/// What was told of one wish since it was made or repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Present(u64),
    Missing,
}

impl FileWatchHandle {
    pub(super) fn new(shared: Arc<Shared>) -> FileWatchHandle {
        FileWatchHandle { shared }
    }

    /// Waits for a file: its state is told as soon as the store has said it, and then each time that it changes. To call this again
    /// asks the store again, and the answer is told even if nothing has changed.
    pub fn watch(&self, key: ArtifactKey) {
        let mut state = self.shared.lock();
        state.unsent_unwatch.remove(&key);
        if state.is_open {
            state.unsent_watch.insert(key.clone());
        }
        state.wishes.insert(key, Told::Nothing);
        drop(state);
        self.shared.has_unsent.notify_one();
    }

    /// No longer waits for a file: nothing more is told of it.
    pub fn unwatch(&self, key: &ArtifactKey) {
        let mut state = self.shared.lock();
        if state.wishes.remove(key).is_none() {
            return;
        }
        state.newest.remove(key);
        state.unsent_watch.remove(key);
        if state.is_open {
            state.unsent_unwatch.insert(key.clone());
        }
        if state.changed.len() > 2 * state.newest.len() + KEYS_PER_MESSAGE {
            let State {
                changed, newest, ..
            } = &mut *state;
            changed.retain(|key| newest.contains_key(key));
        }
        drop(state);
        self.shared.has_unsent.notify_one();
    }

    /// How many files are waited for.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.lock().wishes.len()
    }
}

impl FileEvents {
    pub(super) fn new(shared: Arc<Shared>, stream: AbortOnDropHandle<()>) -> FileEvents {
        FileEvents {
            shared,
            _stream: stream,
        }
    }

    /// The next event. Nothing is lost when this is given up, as in `select!`.
    pub async fn recv(&mut self) -> FileEvent {
        loop {
            if let Some(event) = self.try_recv() {
                return event;
            }
            self.shared.has_event.notified().await;
        }
    }

    /// The next event, if one waits. Of several answers about one file that wait, the newest is told.
    pub fn try_recv(&mut self) -> Option<FileEvent> {
        let mut state = self.shared.lock();
        if let Some(event) = state.connection.take() {
            return Some(event);
        }
        loop {
            let key = state.changed.pop_front()?;
            match state.newest.remove(&key) {
                Some(Some(bytes)) => return Some(FileEvent::Present { key, bytes }),
                Some(None) => return Some(FileEvent::Missing { key }),
                // It was told with an earlier place in the queue, or nobody waits for it any more.
                None => {}
            }
        }
    }
}

impl Shared {
    /// The stream is open: all wishes are sent.
    pub(super) fn opened(&self) {
        let mut state = self.lock();
        state.is_open = true;
        state.away = None;
        state.connection = Some(FileEvent::Back);
        drop(state);
        self.repeat();
        self.has_event.notify_one();
    }

    pub(super) fn closed(&self) {
        let mut state = self.lock();
        state.is_open = false;
        state.unsent_watch.clear();
        state.unsent_unwatch.clear();
    }

    /// Tells why the store is away, once for each reason.
    pub(super) fn is_away(&self, error: String) {
        let mut state = self.lock();
        if state.away.as_ref() == Some(&error) {
            return;
        }
        state.away = Some(error.clone());
        state.connection = Some(FileEvent::Away { error });
        drop(state);
        self.has_event.notify_one();
    }

    /// Has all wishes sent again.
    pub(super) fn repeat(&self) {
        let mut state = self.lock();
        let State {
            wishes,
            unsent_watch,
            ..
        } = &mut *state;
        unsent_watch.extend(wishes.keys().cloned());
        drop(state);
        self.has_unsent.notify_one();
    }

    /// The next message to the store, once there is one.
    pub(super) async fn next_request(&self) -> WatchRequest {
        loop {
            if let Some(request) = self.take_request() {
                return request;
            }
            self.has_unsent.notified().await;
        }
    }

    fn take_request(&self) -> Option<WatchRequest> {
        let mut state = self.lock();
        let watch = take_some(&mut state.unsent_watch);
        let unwatch = take_some(&mut state.unsent_unwatch);
        (!watch.is_empty() || !unwatch.is_empty()).then_some(WatchRequest { watch, unwatch })
    }

    /// Takes in what the store says of a file. What was told already is not told again.
    pub(super) fn answered(&self, key: ArtifactKey, bytes: Option<u64>) {
        let mut state = self.lock();
        let Some(told) = state.wishes.get_mut(&key) else {
            return;
        };
        let now = bytes.map_or(Told::Missing, Told::Present);
        if std::mem::replace(told, now) == now {
            return;
        }
        if state.newest.insert(key.clone(), bytes).is_none() {
            state.changed.push_back(key);
        }
        drop(state);
        self.has_event.notify_one();
    }

    /// No change of the state stops half-way, so a poisoned lock still holds a true one.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take_some(keys: &mut BTreeSet<ArtifactKey>) -> Vec<String> {
    std::iter::from_fn(|| keys.pop_first())
        .take(KEYS_PER_MESSAGE)
        .map(|key| key.to_string())
        .collect()
}
