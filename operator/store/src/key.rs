//! What an artifact is called in the store: namespace, kind and UID of the object that owns it, its role, and its SHA-256.
//!
//! Every part is checked here, once, so that no key can leave its folder.

use std::fmt;

use framewright_crds::names::{ArtifactRole, OwnerKind, is_sha256};

const KINDS: [OwnerKind; 2] = [OwnerKind::AIJobs, OwnerKind::ModelPools];

/// The object whose artifacts live and die with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    namespace: String,
    kind: OwnerKind,
    uid: String,
}

/// One artifact of one owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ArtifactKey {
    owner: Owner,
    role: ArtifactRole,
    sha256: String,
}

/// A text that cannot be part of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    #[error("namespace {0:?} is not 1 to 63 of a-z, 0-9 and '-'")]
    Namespace(String),
    #[error("kind {0:?} is neither aijobs nor modelpools")]
    Kind(String),
    #[error("uid {0:?} is not 1 to 63 of a-z, 0-9 and '-'")]
    Uid(String),
    #[error("role {0:?} is not one of input, output, checkpoint, preview, model")]
    Role(String),
    #[error("sha256 {0:?} is not 64 of 0-9 and a-f")]
    Sha256(String),
    #[error("{0:?} is not namespace/kind/uid/role/sha256")]
    Shape(String),
}

impl Owner {
    /// # Errors
    /// `BadKey` when the namespace is no DNS label, or the UID has other characters than a-z, 0-9 and '-'.
    pub fn new(namespace: &str, kind: OwnerKind, uid: &str) -> Result<Owner, BadKey> {
        if !is_label(namespace) {
            return Err(BadKey::Namespace(shortened(namespace)));
        }
        if !is_label(uid) {
            return Err(BadKey::Uid(shortened(uid)));
        }
        Ok(Owner {
            namespace: namespace.to_owned(),
            kind,
            uid: uid.to_owned(),
        })
    }

    /// Reads `namespace/kind/uid`.
    ///
    /// # Errors
    /// `BadKey` that names the part that is wrong.
    pub fn parse(text: &str) -> Result<Owner, BadKey> {
        let parts: Vec<&str> = text.split('/').collect();
        let [namespace, kind, uid] = parts.as_slice() else {
            return Err(BadKey::Shape(shortened(text)));
        };
        Owner::new(namespace, parse_kind(kind)?, uid)
    }

    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    #[must_use]
    pub fn kind(&self) -> OwnerKind {
        self.kind
    }

    #[must_use]
    pub fn uid(&self) -> &str {
        &self.uid
    }
}

impl ArtifactKey {
    /// # Errors
    /// `BadKey` when `sha256` is not 64 lower-case hexadecimal characters.
    pub fn new(owner: Owner, role: ArtifactRole, sha256: &str) -> Result<ArtifactKey, BadKey> {
        if !is_sha256(sha256) {
            return Err(BadKey::Sha256(shortened(sha256)));
        }
        Ok(ArtifactKey {
            owner,
            role,
            sha256: sha256.to_owned(),
        })
    }

    /// Reads `namespace/kind/uid/role/sha256`.
    ///
    /// # Errors
    /// `BadKey` that names the part that is wrong.
    pub fn parse(text: &str) -> Result<ArtifactKey, BadKey> {
        let parts: Vec<&str> = text.split('/').collect();
        let [namespace, kind, uid, role, sha256] = parts.as_slice() else {
            return Err(BadKey::Shape(shortened(text)));
        };
        let owner = Owner::new(namespace, parse_kind(kind)?, uid)?;
        ArtifactKey::new(owner, parse_role(role)?, sha256)
    }

    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    #[must_use]
    pub fn role(&self) -> ArtifactRole {
        self.role
    }

    /// The folder that the file lies in.
    #[must_use]
    pub fn folder(&self) -> String {
        format!("{}/{}", self.owner, self.role)
    }

    /// 64 lower-case hexadecimal characters.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Owner {
            namespace,
            kind,
            uid,
        } = self;
        write!(out, "{namespace}/{}/{uid}", kind.as_str())
    }
}

impl fmt::Display for ArtifactKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ArtifactKey {
            owner,
            role,
            sha256,
        } = self;
        write!(out, "{owner}/{role}/{sha256}")
    }
}

fn parse_kind(text: &str) -> Result<OwnerKind, BadKey> {
    KINDS
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| BadKey::Kind(shortened(text)))
}

/// Reads `namespace/kind/uid`, or `namespace/kind/uid/role` of one role alone.
pub(crate) fn parse_owner_and_role(text: &str) -> Result<(Owner, Option<ArtifactRole>), BadKey> {
    match text.rsplit_once('/') {
        Some((owner, role)) if owner.matches('/').count() == 2 => {
            Ok((Owner::parse(owner)?, Some(parse_role(role)?)))
        }
        Some(_) | None => Ok((Owner::parse(text)?, None)),
    }
}

fn parse_role(text: &str) -> Result<ArtifactRole, BadKey> {
    ArtifactRole::ALL
        .into_iter()
        .find(|role| role.as_str() == text)
        .ok_or_else(|| BadKey::Role(shortened(text)))
}

pub(crate) fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Enough of a stranger's text to recognise it in a message.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn a_key_survives_its_text_form() {
        for role in ArtifactRole::ALL {
            let text = format!("studio/aijobs/1f2e-77/{role}/{SHA}");
            let key = ArtifactKey::parse(&text).expect("a good key");
            assert_eq!(key.owner().kind(), OwnerKind::AIJobs);
            assert_eq!(key.role(), role);
            assert_eq!(key.to_string(), text);
        }
    }

    #[test]
    fn a_key_cannot_leave_its_folder() {
        for text in [
            String::new(),
            SHA.to_owned(),
            format!("studio/aijobs/1f2e/{SHA}"),
            format!("../aijobs/1f2e/input/{SHA}"),
            format!("studio/pods/1f2e/input/{SHA}"),
            format!("studio/aijobs/../input/{SHA}"),
            format!("studio/aijobs/1f2e/../{SHA}"),
            format!("studio/aijobs/1f2e/secret/{SHA}"),
            format!("studio/aijobs/1f2e/input/../{SHA}"),
            format!("studio/aijobs//input/{SHA}"),
            format!("studio/aijobs/1f2e//{SHA}"),
            format!("/studio/aijobs/1f2e/input/{SHA}"),
            format!("studio/aijobs/1f2e/input/{SHA}/"),
            format!("studio/aijobs/1f2e/input/{}", SHA.to_uppercase()),
            format!("studio/aijobs/1f2e/input/{}", &SHA[1..]),
            format!("studio/aijobs/1f2e/input/{SHA}#1"),
            format!("{}/aijobs/1f2e/input/{SHA}", "a".repeat(64)),
        ] {
            assert!(ArtifactKey::parse(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(
            Owner::parse("Studio/aijobs/1"),
            Err(BadKey::Namespace("Studio".into()))
        );
        assert_eq!(
            Owner::parse("studio/pods/1"),
            Err(BadKey::Kind("pods".into()))
        );
        assert_eq!(
            Owner::parse("studio/aijobs/a.b"),
            Err(BadKey::Uid("a.b".into()))
        );
        assert_eq!(
            ArtifactKey::parse(&format!("studio/aijobs/1/result/{SHA}")),
            Err(BadKey::Role("result".into()))
        );
    }
}
