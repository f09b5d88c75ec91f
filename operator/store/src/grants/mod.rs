//! Who may do what to an artifact, and until when: signed links, made by the operator and read by the store. No I/O and no clock.
//!
//! A grant is a link whose path names the artifact and whose query says what it allows, all of it signed. Scheme, host, port and a
//! prefix that a proxy strips are not covered: the same link works from inside the cluster and through a port-forward.

mod keys;
mod link;

use framewright_crds::names::ArtifactRole;
use jiff::Timestamp;

use crate::key::{ArtifactKey, Owner};

pub use keys::{BadKeys, SigningKeys};
pub(crate) use link::{Fields, encoded, open, seal};
pub use link::{sign, verify};

/// Where every link begins, after scheme, host and port.
pub const ARTIFACTS_PATH: &str = "/v1/artifacts";

/// A permission and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub verb: Verb,
    /// Counted in whole seconds; from this second on, the grant is void.
    pub expires: Timestamp,
}

/// What a grant allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// GET and HEAD, whole or by range. Name and media type are for the browser or player.
    Get {
        key: ArtifactKey,
        file_name: String,
        media_type: String,
    },
    /// PUT of exactly these bytes: the key holds their digest.
    Put {
        key: ArtifactKey,
        bytes: u64,
        media_type: String,
    },
    /// HEAD: is it there, and how large.
    Stat { key: ArtifactKey },
    /// DELETE of everything that an owner has, or has in one role.
    Delete {
        owner: Owner,
        role: Option<ArtifactRole>,
    },
    /// GET of the owners that have anything.
    List,
    /// GET of a WebSocket that tells which files are there. The link must work when the stream opens, and the stream may outlast it.
    Watch,
}

/// Why a link opens nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the link has no signature; use it exactly as it stands in the object's status")]
    NotSigned,
    #[error(
        "the link's signature is wrong; use it exactly as it stands in the object's status, up to the last character of sig="
    )]
    WrongSignature,
    #[error(
        "the link ended at {expires}; for a new one, annotate its object with framewright.dev/renew-links and a new value, such as the time, and read the link from the status again"
    )]
    Expired { expires: Timestamp },
    #[error("the link is signed, but {what}; operator and store are of different versions")]
    NotUnderstood { what: String },
}

impl Verb {
    /// As it stands in a link.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Verb::Get { .. } => "get",
            Verb::Put { .. } => "put",
            Verb::Stat { .. } => "stat",
            Verb::Delete { .. } => "delete",
            Verb::List => "list",
            Verb::Watch => "watch",
        }
    }
}
