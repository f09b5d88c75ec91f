//! How a grant is written as a link, and read back.
//!
//! The signature is HMAC-SHA256 over exactly the bytes from `/v1/artifacts` up to the signature itself, which therefore comes last.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{ARTIFACTS_PATH, Grant, Refused, SigningKeys, Verb};
use crate::key::{ArtifactKey, BadKey, parse_owner_and_role};

/// Keeps these signatures apart from any other use of the same key.
const PURPOSE: &[u8] = b"framewright store grant 1\n";
/// What RFC 3986 calls unreserved stays as it is, so that no library on the way writes a link differently.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The link that carries `grant`. `base` is scheme, host, port and prefix, such as `https://framewright-store.framewright.svc:8443`.
#[must_use]
pub fn sign(base: &str, grant: &Grant, keys: &SigningKeys) -> String {
    seal(base, &unsigned_target(grant), PURPOSE, keys)
}

/// Makes a link of path and query. `purpose` keeps its signature apart from any other use of the same key.
pub(crate) fn seal(base: &str, unsigned: &str, purpose: &[u8], keys: &SigningKeys) -> String {
    let signature = keys.sign(&[purpose, unsigned.as_bytes()].concat());
    format!(
        "{}{unsigned}&sig={}",
        base.trim_end_matches('/'),
        URL_SAFE_NO_PAD.encode(signature)
    )
}

/// The path and query that were signed.
///
/// # Errors
/// `Refused` when they were not, for this purpose and with one of these keys.
pub(crate) fn open<'a>(
    target: &'a str,
    purpose: &[u8],
    keys: &SigningKeys,
) -> Result<&'a str, Refused> {
    let (unsigned, signature) = target.rsplit_once("&sig=").ok_or(Refused::NotSigned)?;
    let signature = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| Refused::WrongSignature)?;
    if keys.verify(&[purpose, unsigned.as_bytes()].concat(), &signature) {
        Ok(unsigned)
    } else {
        Err(Refused::WrongSignature)
    }
}

/// The grant that a request carries. `target` is path and query as they came; what it allows is still to be compared with the
/// request's method, and for uploads with the body.
///
/// # Errors
/// `Refused`: signature first, then the end, so that nobody learns anything about a link that was never made.
pub fn verify(target: &str, keys: &SigningKeys, now: Timestamp) -> Result<Grant, Refused> {
    let unsigned = open(target, PURPOSE, keys)?;
    let grant = parse(unsigned).map_err(|what| Refused::NotUnderstood { what })?;
    if now.as_second() >= grant.expires.as_second() {
        return Err(Refused::Expired {
            expires: grant.expires,
        });
    }
    Ok(grant)
}

fn unsigned_target(grant: &Grant) -> String {
    let Grant { verb, expires } = grant;
    let path = match verb {
        Verb::Get { key, .. } | Verb::Put { key, .. } | Verb::Stat { key } => format!("/{key}"),
        Verb::Delete { owner, role: None } => format!("/{owner}"),
        Verb::Delete {
            owner,
            role: Some(role),
        } => format!("/{owner}/{role}"),
        Verb::List | Verb::Watch => String::new(),
    };
    let mut target = format!(
        "{ARTIFACTS_PATH}{path}?verb={}&expires={}",
        verb.name(),
        expires.as_second()
    );
    // Writing to a String cannot fail.
    let _ = match verb {
        Verb::Get {
            key: _,
            file_name,
            media_type,
        } => write!(
            target,
            "&type={}&name={}",
            encoded(media_type),
            encoded(file_name)
        ),
        Verb::Put {
            key: _,
            bytes,
            media_type,
        } => write!(target, "&bytes={bytes}&type={}", encoded(media_type)),
        Verb::Stat { .. } | Verb::Delete { .. } | Verb::List | Verb::Watch => Ok(()),
    };
    target
}

pub(crate) fn encoded(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, RESERVED)
}

/// Reads what `unsigned_target` wrote. The error completes "the link is signed, but …".
fn parse(target: &str) -> Result<Grant, String> {
    let (path, query) = target.split_once('?').ok_or("has no query")?;
    let path = path
        .strip_prefix(ARTIFACTS_PATH)
        .ok_or_else(|| format!("its path does not begin with {ARTIFACTS_PATH}"))?;
    let mut fields = Fields::parse(query)?;
    let key = || -> Result<ArtifactKey, String> {
        let path = path.strip_prefix('/').ok_or("it names no artifact")?;
        ArtifactKey::parse(path).map_err(sentence)
    };
    let expires = Timestamp::from_second(fields.number("expires")?)
        .map_err(|_| "expires is no time in seconds".to_owned())?;
    let verb = match fields.take("verb")?.as_str() {
        "get" => Verb::Get {
            key: key()?,
            file_name: fields.take("name")?,
            media_type: fields.take("type")?,
        },
        "put" => Verb::Put {
            key: key()?,
            bytes: fields.number("bytes")?,
            media_type: fields.take("type")?,
        },
        "stat" => Verb::Stat { key: key()? },
        "delete" => {
            let path = path.strip_prefix('/').ok_or("it names no owner")?;
            let (owner, role) = parse_owner_and_role(path).map_err(sentence)?;
            Verb::Delete { owner, role }
        }
        "list" if path.is_empty() => Verb::List,
        "list" => return Err("it lists below an owner".to_owned()),
        "watch" if path.is_empty() => Verb::Watch,
        "watch" => return Err("it watches below an owner".to_owned()),
        other => return Err(format!("its verb {other:?} is unknown")),
    };
    fields.finish()?;
    Ok(Grant { verb, expires })
}

fn sentence(bad: BadKey) -> String {
    bad.to_string()
}

/// The query's fields, each of which must be there once and be used.
pub(crate) struct Fields(BTreeMap<String, String>);

impl Fields {
    pub(crate) fn parse(query: &str) -> Result<Fields, String> {
        let mut fields = BTreeMap::new();
        for pair in query.split('&') {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("{pair:?} has no value"))?;
            let value = percent_decode_str(value)
                .decode_utf8()
                .map_err(|_| format!("{name} is no UTF-8"))?;
            if fields.insert(name.to_owned(), value.into_owned()).is_some() {
                return Err(format!("{name} is there twice"));
            }
        }
        Ok(Fields(fields))
    }

    pub(crate) fn take(&mut self, name: &str) -> Result<String, String> {
        self.0
            .remove(name)
            .ok_or_else(|| format!("{name} is missing"))
    }

    pub(crate) fn number<Number: std::str::FromStr>(
        &mut self,
        name: &str,
    ) -> Result<Number, String> {
        let text = self.take(name)?;
        text.parse()
            .map_err(|_| format!("{name}={text:?} is no whole number"))
    }

    pub(crate) fn finish(self) -> Result<(), String> {
        match self.0.into_keys().next() {
            Some(name) => Err(format!("{name} is unknown")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use framewright_crds::names::{ArtifactRole, OwnerKind};

    use super::*;
    use crate::key::Owner;

    const BASE: &str = "https://framewright-store.framewright.svc:8443/";

    #[test]
    fn every_verb_survives_its_link() {
        let keys = keys(&[1]);
        for verb in verbs() {
            let grant = grant(verb);
            let link = sign(BASE, &grant, &keys);
            assert_eq!(verify(target(&link), &keys, at(999)), Ok(grant), "{link}");
        }
    }

    #[test]
    fn a_link_is_the_same_from_any_address() {
        let keys = keys(&[1]);
        let grant = grant(Verb::List);
        let inside = sign(BASE, &grant, &keys);
        let outside = sign("http://127.0.0.1:9000", &grant, &keys);
        assert_eq!(target(&inside), target(&outside));
    }

    #[test]
    fn a_link_with_any_byte_changed_opens_nothing() {
        let keys = keys(&[1]);
        for verb in verbs() {
            let link = sign("", &grant(verb), &keys);
            for position in 0..link.len() {
                for replacement in *b"0aZ_-/%&=?.~" {
                    let mut bytes = link.clone().into_bytes();
                    if bytes[position] == replacement {
                        continue;
                    }
                    bytes[position] = replacement;
                    let changed = String::from_utf8(bytes).expect("ASCII");
                    let refused = verify(&changed, &keys, at(999)).expect_err(&changed);
                    assert!(
                        matches!(refused, Refused::WrongSignature | Refused::NotSigned),
                        "{changed}: {refused}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_link_with_more_or_less_at_its_ends_opens_nothing() {
        let keys = keys(&[1]);
        let link = sign("", &grant(Verb::List), &keys);
        for changed in [
            format!("{link}A"),
            format!("{link}="),
            format!("{link}&verb=delete"),
            format!("/x{link}"),
            link[..link.len() - 1].to_owned(),
            link.replace("&sig=", "&bytes=1&sig="),
        ] {
            assert!(verify(&changed, &keys, at(999)).is_err(), "{changed}");
        }
    }

    #[test]
    fn a_link_ends_at_its_second_and_says_how_to_renew_it() {
        let keys = keys(&[1]);
        let link = sign("", &grant(Verb::List), &keys);
        assert!(verify(&link, &keys, at(999)).is_ok());
        let refused = verify(&link, &keys, at(1000)).expect_err("ended");
        assert_eq!(refused, Refused::Expired { expires: at(1000) });
        let sentence = refused.to_string();
        assert!(sentence.contains("1970-01-01T00:16:40Z"), "{sentence}");
        assert!(sentence.contains(framewright_crds::names::ANNOTATION_RENEW_LINKS));
    }

    #[test]
    fn a_wrong_signature_is_told_before_the_end() {
        let link = sign("", &grant(Verb::List), &keys(&[1]));
        assert_eq!(
            verify(&link, &keys(&[2]), at(5000)),
            Err(Refused::WrongSignature)
        );
    }

    #[test]
    fn while_keys_rotate_the_first_signs_and_all_verify() {
        let (before, during, after) = (keys(&[1]), keys(&[2, 1]), keys(&[2]));
        let old = sign("", &grant(Verb::List), &before);
        let new = sign("", &grant(Verb::List), &during);
        assert!(verify(&old, &during, at(0)).is_ok());
        assert!(verify(&new, &during, at(0)).is_ok());
        assert!(verify(&new, &after, at(0)).is_ok());
        assert!(verify(&old, &after, at(0)).is_err());
        assert!(verify(&new, &before, at(0)).is_err());
    }

    #[test]
    fn names_and_types_with_any_character_stay_what_they_are() {
        let keys = keys(&[1]);
        let named = Verb::Get {
            key: key(),
            file_name: "Leuchtturm bei Nacht & Nebel?#%/\"\n.mp4 灯台".into(),
            media_type: "text/plain; charset=utf-8".into(),
        };
        let link = sign("", &grant(named.clone()), &keys);
        assert!(link.bytes().all(|byte| byte.is_ascii_graphic()), "{link}");
        assert_eq!(
            verify(&link, &keys, at(0)).map(|grant| grant.verb),
            Ok(named)
        );
    }

    fn verbs() -> Vec<Verb> {
        vec![
            Verb::Get {
                key: key(),
                file_name: "large.mp4".into(),
                media_type: "video/mp4".into(),
            },
            Verb::Put {
                key: key(),
                bytes: 1234,
                media_type: "image/png".into(),
            },
            Verb::Stat { key: key() },
            Verb::Delete {
                owner: key().owner().clone(),
                role: None,
            },
            Verb::Delete {
                owner: key().owner().clone(),
                role: Some(ArtifactRole::Checkpoint),
            },
            Verb::List,
            Verb::Watch,
        ]
    }

    fn key() -> ArtifactKey {
        let owner = Owner::new("studio", OwnerKind::AIJobs, "1f2e").expect("a good owner");
        ArtifactKey::new(owner, ArtifactRole::Output, &"ab".repeat(32)).expect("a good key")
    }

    fn grant(verb: Verb) -> Grant {
        Grant {
            verb,
            expires: at(1000),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a second in range")
    }

    fn keys(bytes: &[u8]) -> SigningKeys {
        let text: String = bytes
            .iter()
            .map(|byte| SigningKeys::file([*byte; 32]))
            .collect();
        SigningKeys::parse(&text).expect("good keys")
    }

    fn target(link: &str) -> &str {
        let start = link.find(ARTIFACTS_PATH).expect("an artifact's link");
        &link[start..]
    }
}
