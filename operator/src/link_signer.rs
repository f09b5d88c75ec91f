//! Signs links for statuses and workers, with the operator's key.

use framewright_core::links::{Place, Signer};
use framewright_crds::aijob::OutputStatus;
use framewright_crds::names::{ArtifactRole, bare};
use framewright_crds::protocol::OutputFile;
use jiff::Timestamp;

use framewright_store::grants::{Grant, SigningKeys, Verb, sign};
use framewright_store::key::{ArtifactKey, BadKey, Owner};

/// Signs links with the operator's key.
#[derive(Clone, Debug)]
pub struct LinkSigner {
    keys: SigningKeys,
    /// The store as workers reach it.
    inside: String,
    /// The store as people reach it; the same, if the chart sets no other.
    outside: String,
}

impl LinkSigner {
    #[must_use]
    pub fn new(keys: SigningKeys, inside: String, outside: Option<String>) -> LinkSigner {
        let outside = outside.unwrap_or_else(|| inside.clone());
        LinkSigner {
            keys,
            inside,
            outside,
        }
    }
}

/// The key of an artifact.
///
/// # Errors
/// `BadKey` when the names cannot be part of a key.
pub fn key(place: &Place<'_>, role: ArtifactRole, sha256: &str) -> Result<ArtifactKey, BadKey> {
    let owner = Owner::new(place.namespace, place.kind, place.uid)?;
    ArtifactKey::new(owner, role, sha256)
}

impl Signer for LinkSigner {
    fn upload(&self, at: &Place<'_>, sha256: &str, bytes: i64, expires: Timestamp) -> String {
        let role = ArtifactRole::of_uploads(at.kind);
        let link = key(at, role, sha256).map(|key| {
            let media_type = "application/octet-stream".to_owned();
            let verb = Verb::Put {
                key,
                bytes: u64::try_from(bytes).unwrap_or(0),
                media_type,
            };
            sign(&self.outside, &Grant { verb, expires }, &self.keys)
        });
        // The API admits none but good digests, and the API server makes the rest of a key.
        link.unwrap_or_default()
    }

    fn download(
        &self,
        at: &Place<'_>,
        artifact: &OutputStatus,
        file_name: &str,
        expires: Timestamp,
    ) -> String {
        let link = key(at, ArtifactRole::Output, artifact.sha256()).map(|key| {
            let verb = Verb::Get {
                key,
                file_name: file_name.to_owned(),
                media_type: artifact.media_type.clone(),
            };
            sign(&self.outside, &Grant { verb, expires }, &self.keys)
        });
        link.unwrap_or_default()
    }

    fn worker_get(
        &self,
        at: &Place<'_>,
        (role, sha256): (ArtifactRole, &str),
        expires: Timestamp,
    ) -> Option<String> {
        let verb = Verb::Get {
            key: key(at, role, sha256).ok()?,
            file_name: sha256.to_owned(),
            media_type: "application/octet-stream".to_owned(),
        };
        Some(sign(&self.inside, &Grant { verb, expires }, &self.keys))
    }

    fn worker_put(
        &self,
        at: &Place<'_>,
        output: &OutputFile,
        expires: Timestamp,
    ) -> Option<String> {
        let verb = Verb::Put {
            key: key(at, ArtifactRole::Output, bare(&output.digest)).ok()?,
            bytes: u64::try_from(output.bytes).unwrap_or(0),
            media_type: output.media_type.clone(),
        };
        Some(sign(&self.inside, &Grant { verb, expires }, &self.keys))
    }
}
