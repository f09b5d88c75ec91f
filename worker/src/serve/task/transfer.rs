//! A task's way from and to the store: how long it tries, and when it asks for other grants.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use framewright_crds::aijob::Cause;
use framewright_crds::wire::{OutputFile, UPLOAD_LIMIT_SECONDS};
use framewright_queue::News;
use tracing::warn;

use super::tried::Tried;
use super::{Ending, Notice, Task, failed};
use crate::fetch::{Remedy, StoreError};
use crate::pipelines::Input;
use crate::sentence::sentence;
use crate::serve::GRANT_WAIT;
use crate::serve::backoff::{Backoff, random};

/// How long an upload is tried for.
const UPLOAD_BOUND: Duration = Duration::from_secs(UPLOAD_LIMIT_SECONDS - 60);
const RETRY: Backoff = Backoff {
    first: Duration::from_millis(500),
    most: Duration::from_secs(15),
};
impl Task {
    pub(super) async fn fetch(&mut self, folder: &Path) -> Result<Vec<Input>, Ending> {
        self.check_room()?;
        let mut inputs = Vec::new();
        for index in 0..self.order.inputs.len() {
            let path = folder.join(format!("input-{index}"));
            self.fetch_one(index, &path).await?;
            let name = self.order.inputs[index].name.clone();
            inputs.push(Input { name, path });
        }
        Ok(inputs)
    }

    fn check_room(&self) -> Result<(), Ending> {
        let limit = self.tools.scratch.bytes_per_task();
        let bytes: u64 = self
            .order
            .inputs
            .iter()
            .map(|input| u64::try_from(input.bytes).unwrap_or(0))
            .sum();
        if bytes >= limit {
            return Err(Ending::Failed {
                cause: Cause::ScratchFull,
                message: format!(
                    "the inputs have {bytes} bytes, and a task may use {limit} bytes of scratch space; raise the pool's scratch.sizeLimit"
                ),
            });
        }
        Ok(())
    }

    /// Tries for as long as the operator lets it: the job's preRunningDeadlineSeconds end it.
    async fn fetch_one(&mut self, index: usize, path: &Path) -> Result<(), Ending> {
        let mut failures = 0;
        loop {
            let input = self.order.inputs[index].clone();
            let bytes = u64::try_from(input.bytes).unwrap_or(0);
            let got = self.tools.store.get(&input.url, &input.sha256, bytes, path);
            let Err(error) = got.await else {
                if failures > 0 {
                    self.tell(News::StoreTrouble(None)).await;
                }
                return Ok(());
            };
            failures += 1;
            let message = format!("input {}: {}", input.name, sentence(&error));
            let remedy = error.remedy();
            if failures == 1 {
                warn!("tries again: {message}");
            }
            match remedy {
                Remedy::MakeRoom => return Err(failed(Cause::ScratchFull, message)),
                Remedy::GiveUp => return Err(failed(given_up(&error), message)),
                Remedy::Renew => {
                    // Grants end; that new ones are refused is the store's trouble.
                    if failures > 1 {
                        self.tell(News::StoreTrouble(Some(message))).await;
                    }
                    self.tell(News::GrantsExpired).await;
                    self.notice_within(GRANT_WAIT).await;
                }
                Remedy::Wait => {
                    self.tell(News::StoreTrouble(Some(message))).await;
                    self.notice_within(RETRY.wait(failures, random())).await;
                }
            }
        }
    }

    pub(super) async fn upload(&mut self, output: &OutputFile, path: &Path) -> Result<(), Ending> {
        let mut tried = Tried::since(Instant::now());
        let mut failures = 0;
        loop {
            while let Ok(notice) = self.notices.try_recv() {
                self.take(notice);
            }
            // A grant is asked for before each try: asking costs little, and a late try finds no expired one.
            self.tell(News::Computed(output.clone())).await;
            let error = match self.grant(&output.sha256).await {
                Some(url) => match self.tools.store.put(&url, output, path).await {
                    Ok(()) => return Ok(()),
                    Err(error) => Some(error),
                },
                None => None,
            };
            let message = error.as_ref().map_or_else(
                || "the operator gives no grant for the upload".to_owned(),
                |error| sentence(error),
            );
            if let Some(error) = &error
                && error.remedy() == Remedy::GiveUp
            {
                return Err(failed(given_up(error), message));
            }
            let has_operator = self.tools.has_operator.load(Ordering::Relaxed);
            if tried.until(Instant::now(), has_operator) > UPLOAD_BOUND {
                return Err(failed(Cause::StoreUnavailable, message));
            }
            failures += 1;
            if failures == 1 || failures % 20 == 0 {
                warn!("the output is computed and its upload will be tried again: {message}");
            }
            if error.is_some() {
                let trouble = format!("the output is computed and waits for the store: {message}");
                self.tell(News::StoreTrouble(Some(trouble))).await;
                tokio::time::sleep(RETRY.wait(failures, random())).await;
            }
        }
    }

    async fn grant(&mut self, wanted: &str) -> Option<String> {
        let deadline = tokio::time::Instant::now() + GRANT_WAIT;
        loop {
            match tokio::time::timeout_at(deadline, self.notices.recv()).await {
                Ok(Some(Notice::Granted { sha256, url })) if sha256 == wanted => return Some(url),
                Ok(Some(notice)) => self.take(notice),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// Waits so long, or until a notice comes.
    async fn notice_within(&mut self, time: Duration) {
        if let Ok(Some(notice)) = tokio::time::timeout(time, self.notices.recv()).await {
            self.take(notice);
        }
    }

    fn take(&mut self, notice: Notice) {
        match notice {
            Notice::Renewed(order) => self.order = *order,
            // For an output that is not waited for any more.
            Notice::Granted { .. } => {}
        }
    }
}

fn given_up(error: &StoreError) -> Cause {
    match error {
        StoreError::Refused { .. } => Cause::StoreUnavailable,
        StoreError::Trust { .. }
        | StoreError::Client { .. }
        | StoreError::Unreachable { .. }
        | StoreError::Stalled(_)
        | StoreError::NoAnswer(_)
        | StoreError::Size { .. }
        | StoreError::Digest { .. }
        | StoreError::Full { .. }
        | StoreError::Write { .. }
        | StoreError::Read { .. } => Cause::Internal,
    }
}
