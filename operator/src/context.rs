//! What the parts of the running operator share.

use std::sync::Arc;

use framewright_core::names::ObjectName;
use framewright_core::pools::template::Settings;
use framewright_store::client::StoreClient;
use framewright_store::watch::FileWatchHandle;
use kube::Client;
use tokio::sync::{Notify, mpsc, watch};

use crate::args::RunArgs;
use crate::event_loop::Input;
use crate::event_publisher::Publisher;
use crate::leadership::Leadership;
use crate::metrics::Metrics;

/// Shared by all parts.
pub struct Context {
    pub client: Client,
    pub args: RunArgs,
    pub leadership: Leadership,
    pub store: StoreClient,
    pub files: FileWatchHandle,
    pub metrics: Arc<Metrics>,
    pub publisher: Publisher,
    /// The way into the event loop.
    pub inputs: mpsc::Sender<Input>,
    /// The epoch in which the engine takes workers' sessions.
    pub serving: watch::Receiver<Option<u64>>,
    /// An object was deleted: its artifacts may go.
    pub deleted: Notify,
}

impl Context {
    /// Puts something into the event loop. It fails only when the operator is ending.
    pub async fn send(&self, input: Input) {
        let _ = self.inputs.send(input).await;
    }
}

/// What worker pods are made from, besides the pool.
#[must_use]
pub fn template_settings(args: &RunArgs, authority: &str) -> Settings {
    Settings {
        image: args.worker_image.clone(),
        image_cuda: args
            .worker_image_cuda
            .clone()
            .unwrap_or_else(|| args.worker_image.clone()),
        image_pull_policy: args.worker_image_pull_policy.clone(),
        operator: args.stream_address(),
        authority: authority.to_owned(),
        log: args.worker_log.clone(),
        fixed_user: args.worker_fixed_user,
    }
}

/// An object's name, as kube's types have it.
#[must_use]
pub fn name_of<K: kube::Resource>(object: &K) -> ObjectName {
    ObjectName::of(object.meta())
}
