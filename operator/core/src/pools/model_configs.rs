//! What a worker is told of its pool's models.

use framewright_crds::modelpool::{Model, ModelFile};
use framewright_crds::names;
use framewright_crds::protocol::{FileConfig, FileSource, ModelConfig};
use ring::digest;

use crate::pools::snapshot::Snapshot;
use crate::pools::template::file_on_volume;

/// The pool's models, with links to what was uploaded that `sign` makes of digests.
#[must_use]
pub fn configs(snapshot: &Snapshot, sign: &dyn Fn(&str) -> FileSource) -> Vec<ModelConfig> {
    snapshot
        .spec
        .models
        .iter()
        .map(|model| config(model, snapshot, sign))
        .collect()
}

fn config(model: &Model, snapshot: &Snapshot, sign: &dyn Fn(&str) -> FileSource) -> ModelConfig {
    let from = |file: &ModelFile| match &model.source.volume {
        Some(volume) => FileSource::File(file_on_volume(volume, &file.path)),
        None if snapshot.received.contains(file.sha256()) => sign(file.sha256()),
        None => FileSource::AwaitingUpload,
    };
    let files = model.files.iter().map(|file| FileConfig {
        path: file.path.clone(),
        digest: file.digest.clone(),
        bytes: file.bytes,
        from: from(file),
    });
    ModelConfig {
        name: model.name.clone(),
        digest: model_digest(&model.files),
        files: files.collect(),
    }
}

/// One digest for all of a model's files: of the sorted lines that sha256sum prints for them.
#[must_use]
pub fn model_digest(files: &[ModelFile]) -> String {
    let lines = files.iter();
    let mut lines: Vec<String> = lines
        .map(|file| format!("{}  {}\n", file.sha256(), file.path))
        .collect();
    lines.sort();
    let digest = digest::digest(&digest::SHA256, lines.concat().as_bytes());
    names::digest(&hex::encode(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_digest_is_what_sha256sum_gives() {
        let file = |path: &str, digit: &str| ModelFile {
            path: path.to_owned(),
            digest: names::digest(&digit.repeat(64)),
            bytes: 1,
        };
        let files = [file("unet/a.safetensors", "b"), file("config.json", "a")];
        // printf '%s  config.json\n%s  unet/a.safetensors\n' aaa… bbb… | sha256sum
        assert_eq!(
            model_digest(&files),
            "sha256:9ff0def3a2e2d159280e770d282588ebefc6e400422119ec31f7cd6b1ff89734"
        );
    }
}
