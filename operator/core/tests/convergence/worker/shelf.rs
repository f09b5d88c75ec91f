//! A worker's models: fetched, verified, found wrong, and looked at again.

use std::collections::BTreeSet;

use framewright_crds::protocol::{FileSource, ModelConfig};

use super::*;

/// What it was told to hold, and what of that it has.
#[derive(Default)]
pub(crate) struct Shelf {
    orders: Vec<ModelConfig>,
    /// By digest.
    verified: BTreeSet<String>,
    /// What has ever been verified by this process.
    was_verified: BTreeSet<String>,
}

impl Shelf {
    pub(crate) fn is_ready(&self, model: &str) -> bool {
        self.digest(model)
            .is_some_and(|digest| self.verified.contains(digest))
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.orders.iter().all(|order| self.has(&order.digest))
    }

    /// The digest that a model's weights must have.
    pub(crate) fn digest(&self, model: &str) -> Option<&str> {
        let mut orders = self.orders.iter();
        let order = orders.find(|order| order.name == model)?;
        Some(&order.digest)
    }

    pub(super) fn has(&self, digest: &str) -> bool {
        self.verified.contains(digest)
    }

    pub(crate) fn has_ever_had(&self, digest: &str) -> bool {
        self.was_verified.contains(digest)
    }

    fn wants(&self, digest: &str) -> bool {
        self.orders.iter().any(|order| order.digest == digest)
    }
}

impl World {
    pub(super) fn hold(&mut self, pod: &str, models: Vec<ModelConfig>) {
        let shelf = &mut self.worker(pod).shelf;
        shelf.orders = models.clone();
        let wanted = |digest: &String| models.iter().any(|order| order.digest == *digest);
        shelf.verified.retain(wanted);
        // What nobody has uploaded yet is not there to fetch.
        let is_there = |order: &ModelConfig| {
            let mut files = order.files.iter();
            files.all(|file| file.from != FileSource::AwaitingUpload)
        };
        for order in models.into_iter().filter(is_there) {
            self.load_later(pod, (order.name, order.digest), 1, 3000);
        }
    }

    fn load_later(&mut self, pod: &str, model: (String, String), low: Millis, high: Millis) {
        let wait = self.chance.between(low, high);
        let process = self.worker(pod).process;
        let pod = pod.to_owned();
        self.after(
            wait,
            Happening::Loaded {
                pod,
                process,
                model,
            },
        );
    }

    /// A model, by name and digest, is verified, or is not what it should be. It may be wanted no more by now.
    pub(crate) fn loaded(&mut self, pod: &str, process: u64, model: (String, String)) {
        let Some(worker) = self.process(pod, process) else {
            return;
        };
        let (name, digest) = model.clone();
        let is_wanted = worker.shelf.wants(&digest);
        let is_there = worker.shelf.has(&digest);
        let is_spoiled = self.is_stormy() && self.chance.percent(self.weather.spoiled);
        if is_spoiled && !is_there {
            if is_wanted {
                let wait = *self.chance.of(&[10_000, 10_000, 300_000]);
                self.load_later(pod, model, wait, wait);
            }
            return self.not_loaded(pod, name, digest);
        }
        let shelf = &mut self.worker(pod).shelf;
        shelf.was_verified.insert(digest.clone());
        if is_wanted {
            shelf.verified.insert(digest.clone());
        }
        self.tell_state(pod, name, digest, ModelState::Ready);
    }

    fn not_loaded(&mut self, pod: &str, name: String, digest: String) {
        match self.chance.between(0, 3) {
            0 => self.tell(pod, Event::ModelLinksExpired),
            1 => {
                let error = Some("the store does not answer".to_owned());
                self.tell_state(pod, name, digest, ModelState::Loading { error });
            }
            _ => {
                let message = "x.safetensors is cut short".to_owned();
                self.tell_state(pod, name, digest, ModelState::Failed { message });
            }
        }
    }

    fn tell_state(&mut self, pod: &str, name: String, digest: String, state: ModelState) {
        self.note(|| format!("worker {pod}: model {name} {digest} is {state:?}"));
        self.tell(
            pod,
            Event::Model {
                name,
                digest,
                state,
            },
        );
    }

    /// Weights turn out to be damaged: they are looked at again.
    pub(super) fn doubt(&mut self, pod: &str, digest: &str) {
        let shelf = &mut self.worker(pod).shelf;
        shelf.verified.remove(digest);
        let orders = shelf.orders.iter();
        let doubted: Vec<(String, String)> = orders
            .filter(|order| order.digest == digest)
            .map(|order| (order.name.clone(), order.digest.clone()))
            .collect();
        for model in doubted {
            self.load_later(pod, model, 50, 3000);
        }
    }

    /// A model is damaged where it lies, and its worker notices at once.
    pub(crate) fn spoil(&mut self, pod: &str, model: &str) {
        let Some(worker) = self.workers.get_mut(pod) else {
            return;
        };
        let Some(digest) = worker.shelf.digest(model).map(str::to_owned) else {
            return;
        };
        worker.shelf.verified.remove(&digest);
        let wait = *self.chance.of(&[10_000, 300_000]);
        self.load_later(pod, (model.to_owned(), digest.clone()), wait, wait);
        let message = format!("{model}.safetensors is not what it was");
        self.tell_state(
            pod,
            model.to_owned(),
            digest,
            ModelState::Failed { message },
        );
    }
}
