//! What a worker is told of its pool's models.

use framewright_crds::modelpool::{Model, ModelFile};
use framewright_crds::wire::{FileOrder, FileSource, ModelOrder};
use ring::digest;

use crate::pools::seen::Observed;
use crate::pools::template::file_on_volume;

/// The pool's models, with links to what was uploaded that `sign` makes of digests.
#[must_use]
pub fn orders(seen: &Observed, sign: &dyn Fn(&str) -> FileSource) -> Vec<ModelOrder> {
    seen.spec
        .models
        .iter()
        .map(|model| order(model, seen, sign))
        .collect()
}

fn order(model: &Model, seen: &Observed, sign: &dyn Fn(&str) -> FileSource) -> ModelOrder {
    let from = |file: &ModelFile| match &model.source.volume {
        Some(volume) => FileSource::File(file_on_volume(volume, &file.path)),
        None if seen.received.contains(&file.sha256) => sign(&file.sha256),
        None => FileSource::AwaitingUpload,
    };
    let files = model.files.iter().map(|file| FileOrder {
        path: file.path.clone(),
        sha256: file.sha256.clone(),
        bytes: file.bytes,
        from: from(file),
    });
    ModelOrder {
        name: model.name.clone(),
        digest: weights_digest(&model.files),
        files: files.collect(),
    }
}

/// One digest for all of a model's files.
#[must_use]
pub fn weights_digest(files: &[ModelFile]) -> String {
    let mut files: Vec<&ModelFile> = files.iter().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let lines: String = files
        .iter()
        .map(|file| format!("{} {}\n", file.path, file.sha256))
        .collect();
    hex::encode(digest::digest(&digest::SHA256, lines.as_bytes()))
}
