//! The models that the worker holds: fetched or read from a volume, verified, and ready to be loaded.
//!
//! # Guarantees
//! A file that is wrong costs its own model and no other. What failed is tried again: soon when the store is away, seldom when
//! a file is wrong, and at once when the operator names the models anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use framewright_crds::wire::{FileOrder, FileSource, ModelOrder, ModelState};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use super::backoff::{Backoff, random};
use super::task::Weights;
use crate::fetch::{Remedy, Store};
use crate::queue::Event;
use crate::sentence::sentence;
use crate::weights::{Cache, check_upscaler};

const RETRY: Backoff = Backoff {
    first: Duration::from_secs(1),
    most: Duration::from_secs(60),
};
/// How long new grants are waited for before they are asked for again.
const GRANT_WAIT: Duration = Duration::from_secs(15);
/// A file on a volume may be put right by hand.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// The verified models, by digest. Clones show the same.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    ready: Arc<Mutex<BTreeMap<String, PathBuf>>>,
}

impl Shelf {
    /// The model that has this digest, if it is there.
    #[must_use]
    pub fn find(&self, digest: &str) -> Option<Weights> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.get(digest).map(|path| Weights {
            digest: digest.to_owned(),
            path: path.clone(),
        })
    }

    fn put(&self, digest: &str, path: PathBuf) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.insert(digest.to_owned(), path);
    }

    fn keep_only(&self, orders: &[ModelOrder]) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.retain(|digest, _| orders.iter().any(|order| order.digest == *digest));
    }
}

/// Fills a [`Shelf`] with the models that are ordered.
pub struct Stocker {
    /// Where uploaded files are.
    pub store: Store,
    /// Where verified files are kept.
    pub cache: Cache,
    /// The newest orders.
    pub orders: watch::Receiver<Vec<ModelOrder>>,
    /// Where the models' states are told.
    pub events: mpsc::Sender<Event>,
    /// What to fill.
    pub shelf: Shelf,
}

/// Why a model is not ready.
enum Missing {
    AwaitingUpload,
    GrantsExpired,
    /// Trouble that passes.
    Away(String),
    Wrong(String),
}

impl Stocker {
    /// Works until nobody gives orders any more.
    pub async fn work(mut self) {
        let mut failures = 0;
        while self.orders.changed().await.is_ok() {
            loop {
                let orders = self.orders.borrow_and_update().clone();
                self.shelf.keep_only(&orders);
                let Some(wait) = self.stock(&orders, &mut failures).await else {
                    break;
                };
                // Either way the newest orders are worked through once more.
                let again = Instant::now() + wait;
                tokio::select! {
                    changed = self.orders.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep_until(again) => {}
                }
            }
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
                Ok(path) => {
                    self.shelf.put(&order.digest, path);
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
                Err(Missing::GrantsExpired) => {
                    let _ = self.events.send(Event::WeightGrantsExpired).await;
                    has_failed = true;
                    GRANT_WAIT.max(RETRY.wait(*failures + 1, random()))
                }
                Err(Missing::Away(message)) => {
                    warn!(model = order.name, "tries again: {message}");
                    has_failed = true;
                    RETRY.wait(*failures + 1, random())
                }
            };
            wait = Some(wait.map_or(again, |wait| wait.min(again)));
        }
        *failures = if has_failed { failures.saturating_add(1) } else { 0 };
        wait
    }

    async fn hold(&self, order: &ModelOrder) -> Result<PathBuf, Missing> {
        let [file] = order.files.as_slice() else {
            return Err(Missing::Wrong(format!(
                "an upscaling model has exactly one file, and {} are listed; correct spec.models[].files",
                order.files.len()
            )));
        };
        if file.from == FileSource::AwaitingUpload {
            return Err(Missing::AwaitingUpload);
        }
        let is_new = self.find(file).await?.is_none();
        if is_new {
            self.tell(order, ModelState::Loading).await;
            self.bring(file).await?;
        }
        let path = self.find(file).await?.ok_or_else(|| {
            Missing::Wrong(format!("file {}: it is gone from the cache again; enlarge weightsCache.sizeLimit", file.path))
        })?;
        let network = on_a_thread({
            let path = path.clone();
            move || check_upscaler(&path)
        })
        .await?
        .map_err(|error| Missing::Wrong(format!("file {}: {}", file.path, sentence(&error))))?;
        info!(model = order.name, %network, is_new, "weights are verified");
        Ok(path)
    }

    async fn find(&self, file: &FileOrder) -> Result<Option<PathBuf>, Missing> {
        let (cache, sha256) = (self.cache.clone(), file.sha256.clone());
        on_a_thread(move || cache.find(&sha256)).await?.map_err(|error| {
            Missing::Wrong(format!("file {}: {}", file.path, sentence(&error)))
        })
    }

    /// Brings the file into the cache, verified.
    async fn bring(&self, file: &FileOrder) -> Result<(), Missing> {
        match &file.from {
            FileSource::Url(url) => self.download(file, url).await,
            FileSource::File(path) => self.copy(file, Path::new(path)).await,
            FileSource::AwaitingUpload => Err(Missing::AwaitingUpload),
        }
    }

    async fn download(&self, file: &FileOrder, url: &str) -> Result<(), Missing> {
        let partial = self.cache.partial(&file.sha256);
        let bytes = u64::try_from(file.bytes).unwrap_or(0);
        let got = self.store.get(url, &file.sha256, bytes, &partial).await;
        got.map_err(|error| {
            let message = format!("file {}: {}", file.path, sentence(&error));
            match error.remedy() {
                Remedy::Renew => Missing::GrantsExpired,
                Remedy::Wait => Missing::Away(message),
                Remedy::MakeRoom | Remedy::GiveUp => Missing::Wrong(message),
            }
        })?;
        let (cache, sha256) = (self.cache.clone(), file.sha256.clone());
        on_a_thread(move || cache.adopt(&sha256, &partial))
            .await?
            .map_err(|error| Missing::Wrong(format!("file {}: {}", file.path, sentence(&error))))
    }

    async fn copy(&self, file: &FileOrder, path: &Path) -> Result<(), Missing> {
        let (cache, path) = (self.cache.clone(), path.to_path_buf());
        let (sha256, bytes) = (file.sha256.clone(), u64::try_from(file.bytes).unwrap_or(0));
        on_a_thread(move || cache.copy(&sha256, bytes, &path))
            .await?
            .map_err(|error| Missing::Wrong(format!("file {}: {}", file.path, sentence(&error))))
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

async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Missing> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Missing::Away(format!("the worker has a defect: {error}")))
}
