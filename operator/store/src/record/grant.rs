//! What a signed link to a record says. Written and signed as links to artifacts are, with another path, purpose and key.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{RecordFolder, RecordKey};
use crate::grants::{Fields, Refused, SigningKeys, encoded, open, seal};

/// Where links to records begin, after scheme, host and port.
pub const RECORDS_PATH: &str = "/v1/records";
/// Keeps these signatures apart from any other use of the same key.
const PURPOSE: &[u8] = b"framewright store record grant 1\n";

/// A permission and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordGrant {
    pub verb: RecordVerb,
    /// Counted in whole seconds; from this second on, the grant is void.
    pub expires: Timestamp,
}

/// What a grant allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordVerb {
    /// PUT of exactly these bytes under a name that has none yet.
    Append {
        key: RecordKey,
        bytes: u64,
        sha256: String,
    },
    /// GET. Name and media type are for the browser.
    Read {
        key: RecordKey,
        file_name: String,
        media_type: String,
    },
    /// GET of the names in a folder that come after this one, in order.
    List { folder: RecordFolder, after: String },
}

impl RecordVerb {
    /// As it stands in a link.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            RecordVerb::Append { .. } => "append",
            RecordVerb::Read { .. } => "read",
            RecordVerb::List { .. } => "names",
        }
    }
}

/// The link that carries `grant`. `base` is scheme, host, port and prefix.
#[must_use]
pub fn sign(base: &str, grant: &RecordGrant, keys: &SigningKeys) -> String {
    let RecordGrant { verb, expires } = grant;
    let path = match verb {
        RecordVerb::Append { key, .. } | RecordVerb::Read { key, .. } => key.to_string(),
        RecordVerb::List { folder, .. } => folder.to_string(),
    };
    let mut target = format!(
        "{RECORDS_PATH}/{path}?verb={}&expires={}",
        verb.name(),
        expires.as_second()
    );
    // Writing to a String cannot fail.
    let _ = match verb {
        RecordVerb::Append {
            key: _,
            bytes,
            sha256,
        } => write!(target, "&bytes={bytes}&sha256={}", encoded(sha256)),
        RecordVerb::Read {
            key: _,
            file_name,
            media_type,
        } => write!(
            target,
            "&type={}&name={}",
            encoded(media_type),
            encoded(file_name)
        ),
        RecordVerb::List { folder: _, after } => write!(target, "&after={}", encoded(after)),
    };
    seal(base, &target, PURPOSE, keys)
}

/// The grant that a request carries. `target` is path and query as they came.
///
/// # Errors
/// `Refused`: signature first, then the end.
pub fn verify(target: &str, keys: &SigningKeys, now: Timestamp) -> Result<RecordGrant, Refused> {
    let unsigned = open(target, PURPOSE, keys)?;
    let grant = parse(unsigned).map_err(|what| Refused::NotUnderstood { what })?;
    if now.as_second() >= grant.expires.as_second() {
        return Err(Refused::Expired {
            expires: grant.expires,
        });
    }
    Ok(grant)
}

/// Reads what `sign` wrote. The error completes "the link is signed, but …".
fn parse(target: &str) -> Result<RecordGrant, String> {
    let (path, query) = target.split_once('?').ok_or("has no query")?;
    let path = path
        .strip_prefix(RECORDS_PATH)
        .and_then(|path| path.strip_prefix('/'))
        .ok_or_else(|| format!("its path does not begin with {RECORDS_PATH}/"))?;
    let mut fields = Fields::parse(query)?;
    let key = || RecordKey::parse(path).map_err(|bad| bad.to_string());
    let expires = Timestamp::from_second(fields.number("expires")?)
        .map_err(|_| "expires is no time in seconds".to_owned())?;
    let verb = match fields.take("verb")?.as_str() {
        "append" => RecordVerb::Append {
            key: key()?,
            bytes: fields.number("bytes")?,
            sha256: fields.take("sha256")?,
        },
        "read" => RecordVerb::Read {
            key: key()?,
            file_name: fields.take("name")?,
            media_type: fields.take("type")?,
        },
        "names" => RecordVerb::List {
            folder: RecordFolder::parse(path).map_err(|bad| bad.to_string())?,
            after: fields.take("after")?,
        },
        other => return Err(format!("its verb {other:?} is unknown")),
    };
    fields.finish()?;
    Ok(RecordGrant { verb, expires })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grants;

    fn keys() -> SigningKeys {
        SigningKeys::parse(&SigningKeys::file([1; 32])).expect("good keys")
    }

    fn verbs() -> [RecordVerb; 3] {
        let key = RecordKey::parse("ledger/receipts/1f2e").expect("a good key");
        [
            RecordVerb::Append {
                key: key.clone(),
                bytes: 12,
                sha256: "ab".repeat(32),
            },
            RecordVerb::List {
                folder: key.folder().clone(),
                after: String::new(),
            },
            RecordVerb::Read {
                key,
                file_name: "receipt of trailer.json".into(),
                media_type: "application/json".into(),
            },
        ]
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a second in range")
    }

    #[test]
    fn every_verb_survives_its_link_until_its_end() {
        for verb in verbs() {
            let grant = RecordGrant {
                verb,
                expires: at(1000),
            };
            let link = sign("https://store:8443/", &grant, &keys());
            let target = link.strip_prefix("https://store:8443").expect("the base");
            assert_eq!(verify(target, &keys(), at(999)), Ok(grant), "{link}");
            let ended = Refused::Expired { expires: at(1000) };
            assert_eq!(verify(target, &keys(), at(1000)), Err(ended));
        }
    }

    #[test]
    fn with_one_key_a_link_to_a_record_opens_no_artifact() {
        for verb in verbs() {
            let expires = at(1000);
            let link = sign("", &RecordGrant { verb, expires }, &keys());
            for target in [
                link.clone(),
                link.replace(RECORDS_PATH, grants::ARTIFACTS_PATH),
            ] {
                let refused = grants::verify(&target, &keys(), at(0));
                assert_eq!(refused, Err(Refused::WrongSignature), "{target}");
            }
        }
    }
}
