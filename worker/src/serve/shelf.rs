//! The models that the worker holds: fetched or read from a volume, verified, and ready to be loaded.
//!
//! # Guarantees
//! A file that is wrong costs its own model and no other. One that was damaged in the cache is fetched again, also when that shows
//! only as it is loaded. What failed is tried again: soon when the store is away, seldom when a file is wrong, and at once when the
//! operator names the models anew.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use framewright_crds::wire::{FileOrder, FileSource, ModelOrder, ModelState};
use framewright_queue::Event;
use tokio::sync::{Notify, mpsc, watch};
use tracing::{info, warn};

use super::GRANT_WAIT;
use super::backoff::{Backoff, random};
use crate::engine::Weights;
use crate::fetch::{Remedy, Store, StoreError};
use crate::sentence::sentence;
use crate::weights::cache::{Cache, CacheError, Held};
use crate::weights::verify::Sha256;
use crate::weights::{check_upscaler, upscaler_file};

const RETRY: Backoff = Backoff {
    first: Duration::from_secs(1),
    most: Duration::from_secs(60),
};
/// A wrong file on a volume may be put right by hand; to see that takes reading all of it.
const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// A missing one may be on its way.
const LOOK_SOON: Duration = Duration::from_secs(10);

/// The verified models, by digest. Clones show the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Shelf {
    ready: Arc<Mutex<BTreeMap<String, Weights>>>,
    doubted: Arc<Notify>,
}

impl Shelf {
    /// The model that has this digest, if it is there.
    #[must_use]
    pub(super) fn find(&self, digest: &str) -> Option<Weights> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.get(digest).cloned()
    }

    /// Takes back a model that could not be loaded: its file is looked at again, and fetched if it must be.
    pub(super) fn doubt(&self, digest: &str) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.remove(digest);
        self.doubted.notify_one();
    }

    fn put(&self, digest: &str, weights: Weights) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.insert(digest.to_owned(), weights);
    }

    fn keep_only(&self, orders: &[ModelOrder]) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.retain(|digest, _| orders.iter().any(|order| order.digest == *digest));
    }
}

/// Fills a [`Shelf`] with the models that are ordered.
pub(super) struct Stocker {
    /// Where uploaded files are.
    pub(super) store: Store,
    /// Where verified files are kept.
    pub(super) cache: Arc<Cache>,
    /// The newest orders.
    pub(super) orders: watch::Receiver<Vec<ModelOrder>>,
    /// Where the models' states are told.
    pub(super) events: mpsc::Sender<Event>,
    /// What to fill.
    pub(super) shelf: Shelf,
}

/// Why a model is not ready.
enum Missing {
    AwaitingUpload,
    GrantsExpired,
    /// Trouble that passes.
    Away(String),
    /// A file on a volume that is not there, or not yet.
    Unreadable(String),
    Wrong(String),
}

impl Missing {
    fn of(file: &FileOrder, error: &CacheError) -> Missing {
        Missing::Wrong(format!("file {}: {}", file.path, sentence(error)))
    }
}

impl Stocker {
    /// Works until nobody gives orders any more.
    pub(super) async fn work(mut self) {
        let mut failures = 0;
        let mut wait = None;
        loop {
            tokio::select! {
                changed = self.orders.changed() => if changed.is_err() { return },
                () = self.shelf.doubted.notified() => {}
                () = passed(wait) => {}
            }
            // Whatever it was, the newest orders are worked through once more.
            let orders = self.orders.borrow_and_update().clone();
            self.shelf.keep_only(&orders);
            wait = self.stock(&orders, &mut failures).await;
        }
    }

    /// One pass over the models. Says when to try again what is missing; not at all if only new orders help.
    async fn stock(&self, orders: &[ModelOrder], failures: &mut u32) -> Option<Duration> {
        let mut wait: Option<Duration> = None;
        let mut has_failed = false;
        for order in orders {
            if self.shelf.find(&order.digest).is_some() {
                // Another model of the same files may have been the one that made it ready.
                self.tell(order, ModelState::Ready).await;
                continue;
            }
            let again = match self.hold(order).await {
                Ok(weights) => {
                    self.shelf.put(&order.digest, weights);
                    self.tell(order, ModelState::Ready).await;
                    continue;
                }
                Err(Missing::AwaitingUpload) => {
                    self.tell(order, ModelState::AwaitingUpload).await;
                    continue;
                }
                Err(Missing::Wrong(message)) => {
                    warn!(model = order.name, "{message}");
                    self.tell(order, ModelState::Failed { message }).await;
                    LOOK_AGAIN
                }
                Err(Missing::Unreadable(message)) => {
                    warn!(model = order.name, "tries again: {message}");
                    self.tell(order, ModelState::Failed { message }).await;
                    LOOK_SOON
                }
                Err(Missing::GrantsExpired) => {
                    let _ = self.events.send(Event::WeightGrantsExpired).await;
                    has_failed = true;
                    GRANT_WAIT.max(RETRY.wait(*failures + 1, random()))
                }
                Err(Missing::Away(message)) => {
                    warn!(model = order.name, "tries again: {message}");
                    let trouble = Some(message);
                    self.tell(order, ModelState::Loading { trouble }).await;
                    has_failed = true;
                    RETRY.wait(*failures + 1, random())
                }
            };
            wait = Some(wait.map_or(again, |wait| wait.min(again)));
        }
        *failures = if has_failed {
            failures.saturating_add(1)
        } else {
            0
        };
        wait
    }

    async fn hold(&self, order: &ModelOrder) -> Result<Weights, Missing> {
        let file =
            upscaler_file(&order.files).map_err(|error| Missing::Wrong(error.to_string()))?;
        let sha256: Sha256 = file
            .sha256
            .parse()
            .map_err(|error| Missing::Wrong(format!("file {}: {error}", file.path)))?;
        let of = |path, held| Weights {
            name: file.path.clone(),
            path,
            sha256,
            held,
        };
        let of_held = |held: Held| of(held.path().to_path_buf(), Some(Arc::new(held)));
        let url = match &file.from {
            FileSource::AwaitingUpload => return Err(Missing::AwaitingUpload),
            FileSource::File(path) => {
                return checked(order, of(PathBuf::from(path), None)).await;
            }
            FileSource::Url(url) => url,
        };
        if let Some(held) = self.cached(file, sha256).await? {
            let weights = of_held(held);
            let missing = match checked(order, weights.clone()).await {
                Ok(weights) => return Ok(weights),
                Err(missing) => missing,
            };
            if !self.was_damaged(file, weights).await? {
                return Err(missing);
            }
            warn!(
                model = order.name,
                "fetches again what was damaged in the cache: {}", file.path
            );
        }
        self.tell(order, ModelState::Loading { trouble: None })
            .await;
        let held = self.download(file, sha256, url).await?;
        checked(order, of_held(held)).await
    }

    /// Whether a cached file was damaged since it was verified; it is gone then.
    async fn was_damaged(&self, file: &FileOrder, weights: Weights) -> Result<bool, Missing> {
        let cache = Arc::clone(&self.cache);
        on_a_thread(move || match &weights.held {
            Some(held) => cache.discard_if_damaged(held, weights.sha256),
            None => Ok(false),
        })
        .await?
        .map_err(|error| Missing::of(file, &error))
    }

    async fn cached(&self, file: &FileOrder, sha256: Sha256) -> Result<Option<Held>, Missing> {
        let cache = Arc::clone(&self.cache);
        on_a_thread(move || cache.get(sha256))
            .await?
            .map_err(|error| Missing::of(file, &error))
    }

    /// Gets the file into the cache, verified while it comes.
    async fn download(&self, file: &FileOrder, sha256: Sha256, url: &str) -> Result<Held, Missing> {
        let bytes = u64::try_from(file.bytes).unwrap_or(0);
        let cache = Arc::clone(&self.cache);
        let incoming = on_a_thread(move || cache.receive(sha256, bytes))
            .await?
            .map_err(|error| Missing::of(file, &error))?;
        let got = self.store.get(url, &file.sha256, bytes, incoming.path());
        got.await.map_err(|error| {
            let message = format!("file {}: {}", file.path, sentence(&error));
            // The store verifies what it takes in, so this will not change.
            if matches!(error, StoreError::Digest { .. } | StoreError::Size { .. }) {
                return Missing::Wrong(message);
            }
            match error.remedy() {
                Remedy::Renew => Missing::GrantsExpired,
                Remedy::Wait => Missing::Away(message),
                Remedy::MakeRoom | Remedy::GiveUp => Missing::Wrong(message),
            }
        })?;
        on_a_thread(move || incoming.finish())
            .await?
            .map_err(|error| Missing::of(file, &error))
    }

    async fn tell(&self, order: &ModelOrder, state: ModelState) {
        let ModelOrder { name, digest, .. } = order.clone();
        let event = Event::Model {
            name,
            digest,
            state,
        };
        let _ = self.events.send(event).await;
    }
}

/// The same weights, if they are what they should be.
async fn checked(order: &ModelOrder, weights: Weights) -> Result<Weights, Missing> {
    let network = on_a_thread({
        let weights = weights.clone();
        move || check_upscaler(weights.file())
    })
    .await?
    .map_err(|error| {
        let message = sentence(&error);
        match &weights.held {
            _ if error.blames_the_file() => Missing::Wrong(message),
            Some(_) => Missing::Away(message),
            None => Missing::Unreadable(message),
        }
    })?;
    info!(model = order.name, %network, "weights are verified");
    Ok(weights)
}

/// Never, if there is nothing to wait for.
async fn passed(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Missing> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Missing::Away(format!("the worker has a defect: {error}")))
}
