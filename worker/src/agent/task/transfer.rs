//! A task's transfers from and to the store: how long it tries, and when it asks for other links.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use framewright_crds::aijob::Cause;
use framewright_crds::names::bare;
use framewright_crds::protocol::{OutputFile, UPLOAD_LIMIT_SECONDS};
use framewright_queue::TaskEvent;
use tracing::warn;

use super::tried::Tried;
use super::{Ending, Notice, Task, failed};
use crate::agent::LINK_WAIT;
use crate::agent::backoff::{Backoff, random};
use crate::error_chain::error_chain;
use crate::fetch::{Remedy, StoreError};
use crate::pipelines::{Input, Output};

/// How long the uploads of a task are tried for.
const UPLOAD_BOUND: Duration = Duration::from_secs(UPLOAD_LIMIT_SECONDS - 60);
const RETRY: Backoff = Backoff {
    first: Duration::from_millis(500),
    most: Duration::from_secs(15),
};
impl Task {
    pub(super) async fn fetch(&mut self, folder: &Path) -> Result<Vec<Input>, Ending> {
        self.check_room()?;
        let mut inputs = Vec::new();
        for index in 0..self.run.inputs.len() {
            let path = folder.join(format!("input-{index}"));
            self.fetch_one(index, &path).await?;
            let name = self.run.inputs[index].name.clone();
            inputs.push(Input { name, path });
        }
        Ok(inputs)
    }

    fn check_room(&self) -> Result<(), Ending> {
        let limit = self.tools.scratch.bytes_per_task();
        let bytes: u64 = self
            .run
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

    /// Tries for as long as the operator lets it: the job's startDeadlineSeconds end it.
    async fn fetch_one(&mut self, index: usize, path: &Path) -> Result<(), Ending> {
        let mut failures = 0;
        loop {
            let input = self.run.inputs[index].clone();
            let bytes = u64::try_from(input.bytes).unwrap_or(0);
            let got = self
                .tools
                .store
                .get(&input.url, bare(&input.digest), bytes, path);
            let Err(error) = got.await else {
                if failures > 0 {
                    self.publish(TaskEvent::StoreError(None)).await;
                }
                return Ok(());
            };
            failures += 1;
            let message = format!("input {}: {}", input.name, error_chain(&error));
            let remedy = error.remedy();
            if failures == 1 {
                warn!("tries again: {message}");
            }
            match remedy {
                Remedy::MakeRoom => return Err(failed(Cause::ScratchFull, message)),
                Remedy::GiveUp => return Err(failed(given_up(&error), message)),
                Remedy::Renew => {
                    // Links expire; that new ones are refused is an error of the store.
                    if failures > 1 {
                        self.publish(TaskEvent::StoreError(Some(message))).await;
                    }
                    self.publish(TaskEvent::LinksExpired).await;
                    self.notice_within(LINK_WAIT).await;
                }
                Remedy::Wait => {
                    self.publish(TaskEvent::StoreError(Some(message))).await;
                    self.notice_within(RETRY.wait(failures, random())).await;
                }
            }
        }
    }

    /// Uploads all outputs, one after the other; `files` are their files, in the same order.
    pub(super) async fn upload(
        &mut self,
        outputs: &[OutputFile],
        files: &[Output],
    ) -> Result<(), Ending> {
        self.publish(TaskEvent::Computed(outputs.to_vec())).await;
        let mut tried = Tried::since(Instant::now());
        for (output, file) in outputs.iter().zip(files) {
            self.upload_one(output, &file.path, &mut tried).await?;
        }
        Ok(())
    }

    async fn upload_one(
        &mut self,
        output: &OutputFile,
        path: &Path,
        tried: &mut Tried,
    ) -> Result<(), Ending> {
        let mut failures = 0;
        loop {
            while let Ok(notice) = self.notices.try_recv() {
                self.take(notice);
            }
            // A link is asked for before each try: asking costs little, and a late try finds no expired one.
            self.publish(TaskEvent::UploadRequested(output.clone()))
                .await;
            let error = match self.link(output).await {
                Some(url) => match self.tools.store.put(&url, output, path).await {
                    Ok(()) => return Ok(()),
                    Err(error) => Some(error),
                },
                None => None,
            };
            let message = error.as_ref().map_or_else(
                || "the operator gives no link for the upload".to_owned(),
                |error| error_chain(error),
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
                let error = format!("the output is computed and waits for the store: {message}");
                self.publish(TaskEvent::StoreError(Some(error))).await;
                tokio::time::sleep(RETRY.wait(failures, random())).await;
            }
        }
    }

    /// The link to upload this output, if one comes in time.
    async fn link(&mut self, output: &OutputFile) -> Option<String> {
        let deadline = tokio::time::Instant::now() + LINK_WAIT;
        loop {
            match tokio::time::timeout_at(deadline, self.notices.recv()).await {
                Ok(Some(Notice::Upload { name, digest, url }))
                    if name == output.name && digest == output.digest =>
                {
                    return Some(url);
                }
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

    pub(super) fn take(&mut self, notice: Notice) {
        match notice {
            // What was begun goes on as it was begun: only the links are new.
            Notice::Renewed(renewed) => {
                for input in &mut self.run.inputs {
                    let mut renewed = renewed.inputs.iter();
                    if let Some(same) = renewed.find(|renewed| {
                        (&renewed.name, &renewed.digest) == (&input.name, &input.digest)
                    }) {
                        input.url.clone_from(&same.url);
                    }
                }
            }
            // For an output that is not being uploaded.
            Notice::Upload { .. } => {}
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
