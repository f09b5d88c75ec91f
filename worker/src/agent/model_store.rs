//! The models that the worker holds: fetched or read from a volume, verified, and ready to be loaded.
//!
//! # Guarantees
//! A wrong file fails its own model and no other. One that was damaged in the cache is fetched again, also when that shows
//! only as it is loaded. What failed is tried again: soon when the store is away, seldom when a file is wrong, and at once when the
//! operator sends another Configure.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use framewright_crds::names::bare;
use framewright_crds::protocol::{FileConfig, FileSource, ModelConfig, ModelState};
use framewright_queue::Event;
use tokio::sync::{Notify, mpsc, watch};
use tracing::{info, warn};

use super::LINK_WAIT;
use super::backoff::{Backoff, random};
use crate::engine::Weights;
use crate::error_chain::error_chain;
use crate::fetch::{Remedy, Store, StoreError};
use crate::models::cache::{Cache, CacheError, Held};
use crate::models::verify::{Sha256, verify};
use crate::models::{WeightFile, WeightsError, check_network, network_file};
use crate::networks::NetworkLayout;

const RETRY: Backoff = Backoff {
    first: Duration::from_secs(1),
    most: Duration::from_secs(60),
};
/// A wrong file on a volume may be corrected by hand; to notice that takes reading all of it.
const RETRY_WRONG: Duration = Duration::from_secs(300);
/// A missing one may be on its way.
const RETRY_MISSING: Duration = Duration::from_secs(10);

/// A model whose files are on this worker and verified.
#[derive(Clone, Debug)]
pub(super) struct StoredModel {
    /// The file that holds the network.
    pub(super) network: Weights,
    /// Which network that is.
    pub(super) layout: NetworkLayout,
    /// Keeps the model's other files in the cache.
    _others: Vec<Arc<Held>>,
}

/// The verified models, by digest. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct ModelStore {
    ready: Arc<Mutex<BTreeMap<String, StoredModel>>>,
    doubted: Arc<Notify>,
}

impl ModelStore {
    /// The model that has this digest, if it is there.
    #[must_use]
    pub(super) fn find(&self, digest: &str) -> Option<StoredModel> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.get(digest).cloned()
    }

    /// The digests of the models whose network is in the file with this digest.
    #[must_use]
    pub(super) fn digests_of(&self, network: Sha256) -> Vec<String> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let models = ready
            .iter()
            .filter(|(_, model)| model.network.sha256 == network);
        models.map(|(digest, _)| digest.clone()).collect()
    }

    /// Takes back a model that could not be loaded: its files are verified again, and fetched if they must be.
    pub(super) fn doubt(&self, digest: &str) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.remove(digest);
        self.doubted.notify_one();
    }

    fn put(&self, digest: &str, model: StoredModel) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.insert(digest.to_owned(), model);
    }

    fn keep_only(&self, models: &[ModelConfig]) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.retain(|digest, _| models.iter().any(|model| model.digest == *digest));
    }
}

/// Fills a [`ModelStore`] with the models of the newest Configure.
pub(super) struct ModelFetcher {
    /// Where uploaded files are.
    pub(super) store: Store,
    /// Where verified files are kept.
    pub(super) cache: Arc<Cache>,
    /// The newest models.
    pub(super) wanted: watch::Receiver<Vec<ModelConfig>>,
    /// Where the models' states are published.
    pub(super) events: mpsc::Sender<Event>,
    /// What to fill.
    pub(super) models: ModelStore,
}

/// Why a model is not ready.
enum Missing {
    AwaitingUpload,
    LinksExpired,
    /// An error that passes.
    Away(String),
    /// A file on a volume that is not there, or not yet.
    Unreadable(String),
    Wrong(String),
}

impl Missing {
    fn of(file: &FileConfig, error: &CacheError) -> Missing {
        Missing::Wrong(format!("file {}: {}", file.path, error_chain(error)))
    }
}

/// Verifies a file. Of one that holds a network, it says which.
type Check = fn(WeightFile<'_>) -> Result<Option<NetworkLayout>, WeightsError>;

fn check_for_network(file: WeightFile<'_>) -> Result<Option<NetworkLayout>, WeightsError> {
    check_network(file).map(Some)
}

fn check_digest(file: WeightFile<'_>) -> Result<Option<NetworkLayout>, WeightsError> {
    verify(file.name, file.path, file.sha256)?;
    Ok(None)
}

/// A verified file, and its network if it was checked for one.
type Checked = (Weights, Option<NetworkLayout>);

impl ModelFetcher {
    /// Works until the event loop is gone.
    pub(super) async fn work(mut self) {
        let mut failures = 0;
        let mut wait = None;
        loop {
            tokio::select! {
                changed = self.wanted.changed() => if changed.is_err() { return },
                () = self.models.doubted.notified() => {}
                () = passed(wait) => {}
            }
            // Whatever it was, the newest models are worked through once more.
            let wanted = self.wanted.borrow_and_update().clone();
            self.models.keep_only(&wanted);
            wait = self.fetch_all(&wanted, &mut failures).await;
        }
    }

    /// One pass over the models. Returns when to try again what is missing; none if only another Configure helps.
    async fn fetch_all(&self, wanted: &[ModelConfig], failures: &mut u32) -> Option<Duration> {
        let mut wait: Option<Duration> = None;
        let mut has_failed = false;
        for model in wanted {
            if self.models.find(&model.digest).is_some() {
                // Another model of the same files may have been the one that made it ready.
                self.publish(model, ModelState::Ready).await;
                continue;
            }
            let again = match self.fetch(model).await {
                Ok(stored) => {
                    self.models.put(&model.digest, stored);
                    self.publish(model, ModelState::Ready).await;
                    continue;
                }
                Err(Missing::AwaitingUpload) => {
                    self.publish(model, ModelState::AwaitingUpload).await;
                    continue;
                }
                Err(Missing::Wrong(message)) => {
                    warn!(model = model.name, "{message}");
                    self.publish(model, ModelState::Failed { message }).await;
                    RETRY_WRONG
                }
                Err(Missing::Unreadable(message)) => {
                    warn!(model = model.name, "tries again: {message}");
                    self.publish(model, ModelState::Failed { message }).await;
                    RETRY_MISSING
                }
                Err(Missing::LinksExpired) => {
                    let _ = self.events.send(Event::ModelLinksExpired).await;
                    has_failed = true;
                    LINK_WAIT.max(RETRY.wait(*failures + 1, random()))
                }
                Err(Missing::Away(message)) => {
                    warn!(model = model.name, "tries again: {message}");
                    let error = Some(message);
                    self.publish(model, ModelState::Loading { error }).await;
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

    async fn fetch(&self, model: &ModelConfig) -> Result<StoredModel, Missing> {
        let with_network = network_file(&model.files, |file| &file.path)
            .map_err(|error| Missing::Wrong(error.to_string()))?;
        let is_awaited = |file: &FileConfig| file.from == FileSource::AwaitingUpload;
        if model.files.iter().any(is_awaited) {
            return Err(Missing::AwaitingUpload);
        }
        let (network, layout) = self
            .fetch_file(model, with_network, check_for_network)
            .await?;
        let layout = layout
            .ok_or_else(|| Missing::Wrong(format!("file {} was not checked", with_network.path)))?;
        let mut others = Vec::new();
        for file in &model.files {
            if file.path != with_network.path {
                let (text, _) = self.fetch_file(model, file, check_digest).await?;
                others.extend(text.held);
            }
        }
        Ok(StoredModel {
            network,
            layout,
            _others: others,
        })
    }

    async fn fetch_file(
        &self,
        model: &ModelConfig,
        file: &FileConfig,
        check: Check,
    ) -> Result<Checked, Missing> {
        let sha256: Sha256 = bare(&file.digest)
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
                return checked(model, of(PathBuf::from(path), None), check).await;
            }
            FileSource::Url(url) => url,
        };
        if let Some(held) = self.cached(file, sha256).await? {
            let cached = of_held(held);
            let missing = match checked(model, cached.clone(), check).await {
                Ok(checked) => return Ok(checked),
                Err(missing) => missing,
            };
            if !self.was_damaged(file, cached).await? {
                return Err(missing);
            }
            warn!(
                model = model.name,
                "fetches again what was damaged in the cache: {}", file.path
            );
        }
        self.publish(model, ModelState::Loading { error: None })
            .await;
        let held = self.download(file, sha256, url).await?;
        checked(model, of_held(held), check).await
    }

    /// Whether a cached file was damaged since it was verified; it is gone then.
    async fn was_damaged(&self, file: &FileConfig, weights: Weights) -> Result<bool, Missing> {
        let cache = Arc::clone(&self.cache);
        on_a_thread(move || match &weights.held {
            Some(held) => cache.discard_if_damaged(held, weights.sha256),
            None => Ok(false),
        })
        .await?
        .map_err(|error| Missing::of(file, &error))
    }

    async fn cached(&self, file: &FileConfig, sha256: Sha256) -> Result<Option<Held>, Missing> {
        let cache = Arc::clone(&self.cache);
        on_a_thread(move || cache.get(sha256))
            .await?
            .map_err(|error| Missing::of(file, &error))
    }

    /// Gets the file into the cache, verified while it comes.
    async fn download(
        &self,
        file: &FileConfig,
        sha256: Sha256,
        url: &str,
    ) -> Result<Held, Missing> {
        let bytes = u64::try_from(file.bytes).unwrap_or(0);
        let cache = Arc::clone(&self.cache);
        let incoming = on_a_thread(move || cache.receive(sha256, bytes))
            .await?
            .map_err(|error| Missing::of(file, &error))?;
        let got = self
            .store
            .get(url, bare(&file.digest), bytes, incoming.path());
        got.await.map_err(|error| {
            let message = format!("file {}: {}", file.path, error_chain(&error));
            // The store verifies what it takes in, so this will not change.
            if matches!(error, StoreError::Digest { .. } | StoreError::Size { .. }) {
                return Missing::Wrong(message);
            }
            match error.remedy() {
                Remedy::Renew => Missing::LinksExpired,
                Remedy::Wait => Missing::Away(message),
                Remedy::MakeRoom | Remedy::GiveUp => Missing::Wrong(message),
            }
        })?;
        // The store's client compares the digest of what comes with the one that it asked for.
        on_a_thread(move || incoming.finish_with(sha256))
            .await?
            .map_err(|error| Missing::of(file, &error))
    }

    async fn publish(&self, model: &ModelConfig, state: ModelState) {
        let ModelConfig { name, digest, .. } = model.clone();
        let event = Event::Model {
            name,
            digest,
            state,
        };
        let _ = self.events.send(event).await;
    }
}

/// The same file, if it is what it should be.
async fn checked(model: &ModelConfig, weights: Weights, check: Check) -> Result<Checked, Missing> {
    let network = on_a_thread({
        let weights = weights.clone();
        move || check(weights.file())
    })
    .await?
    .map_err(|error| {
        let message = error_chain(&error);
        match &weights.held {
            _ if error.blames_the_file() => Missing::Wrong(message),
            Some(_) => Missing::Away(message),
            None => Missing::Unreadable(message),
        }
    })?;
    if let Some(network) = &network {
        info!(model = model.name, %network, "weights are verified");
    }
    Ok((weights, network))
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
