//! The operator's own authority, the certificates of stream and store, and the key that signs links: made once, kept in Secrets of the
//! operator's namespace, renewed in time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use framewright_store::grants::SigningKeys;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use ring::rand::{SecureRandom, SystemRandom};

use crate::context::Context;
use crate::run;

/// How often it is checked whether the certificates must be renewed.
const CHECK_EVERY: Duration = Duration::from_secs(3600);

const AUTHORITY_SECRET: &str = "framewright-ca";
const STORE_SECRET: &str = "framewright-store";
const STREAM_SECRET: &str = "framewright-stream";
const RENEW_AFTER: &str = "framewright.dev/renew-after";
const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(24 * 3650);
const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(24 * 90);
const LEAF_RENEWED_AFTER: SignedDuration = SignedDuration::from_hours(24 * 60);
/// A certificate is valid from so long before it is made, for clocks that differ.
const LEAF_BEFORE: SignedDuration = SignedDuration::from_hours(24);

/// What could not be made, read or kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read secret {name}")]
    Read {
        name: &'static str,
        source: Box<kube::Error>,
    },
    #[error("cannot write secret {name}")]
    Write {
        name: &'static str,
        source: Box<kube::Error>,
    },
    #[error(
        "secret {name} has no usable {key}; delete the secret and restart the operator, which creates it again"
    )]
    Content {
        name: &'static str,
        key: &'static str,
    },
    #[error("cannot create a certificate")]
    Make(#[source] rcgen::Error),
    #[error("the system gives no random bytes")]
    Random,
}

/// What the operator works with.
#[derive(Clone)]
pub struct Keys {
    /// PEM of the authority.
    pub authority: String,
    /// PEM of the certificate and key for workers' streams.
    pub stream: (Vec<u8>, Vec<u8>),
    pub signing: SigningKeys,
    /// What they were read from.
    signing_file: String,
}

impl Keys {
    /// Whether the authority and the signing key are the same. The certificate for streams may be a renewed one.
    #[must_use]
    pub fn are_those(&self, other: &Keys) -> bool {
        self.authority == other.authority && self.signing_file == other.signing_file
    }
}

/// Reads the Secrets; makes what is missing and renews what is old. Several replicas may do so at once: the first one wins.
///
/// # Errors
/// [`Error`]
pub async fn ensure(
    secrets: &Api<Secret>,
    namespace: &str,
    service: &str,
    now: Timestamp,
) -> Result<Keys, Error> {
    let authority = ensure_one(secrets, AUTHORITY_SECRET, None, now, |_| {
        make_authority(now)
    })
    .await?;
    let certificate = text(&authority, AUTHORITY_SECRET, "ca.crt")?;
    let key = text(&authority, AUTHORITY_SECRET, "ca.key")?;
    let leaf = |name: &str| make_leaf(&certificate, &key, name, namespace, now);
    let store = ensure_one(secrets, STORE_SECRET, Some(&certificate), now, |old| {
        let mut data = leaf("framewright-store")?;
        let grant = old.and_then(|old| old.get("grant.key").cloned());
        data.insert(
            "grant.key".to_owned(),
            grant.map_or_else(make_signing_key, Ok)?,
        );
        Ok(data)
    })
    .await?;
    let stream = ensure_one(secrets, STREAM_SECRET, Some(&certificate), now, |_| {
        leaf(service)
    })
    .await?;
    let signing = text(&store, STORE_SECRET, "grant.key")?;
    Ok(Keys {
        authority: certificate,
        stream: (
            bytes(&stream, STREAM_SECRET, "tls.crt")?,
            bytes(&stream, STREAM_SECRET, "tls.key")?,
        ),
        signing: SigningKeys::parse(&signing).map_err(|_| Error::Content {
            name: STORE_SECRET,
            key: "grant.key",
        })?,
        signing_file: signing,
    })
}

type Data = BTreeMap<String, ByteString>;

async fn ensure_one(
    secrets: &Api<Secret>,
    name: &'static str,
    authority: Option<&str>,
    now: Timestamp,
    make: impl Fn(Option<&Data>) -> Result<Data, Error>,
) -> Result<Secret, Error> {
    let found = secrets.get_opt(name).await.map_err(|source| Error::Read {
        name,
        source: Box::new(source),
    })?;
    let written = match &found {
        Some(secret) if is_good(secret, authority, now) => return Ok(secret.clone()),
        Some(secret) => {
            let mut renewed = fresh(name, make(secret.data.as_ref())?, now);
            // A replica that was faster wins: this one then gets a conflict.
            renewed
                .metadata
                .resource_version
                .clone_from(&secret.metadata.resource_version);
            secrets
                .replace(name, &PostParams::default(), &renewed)
                .await
        }
        None => {
            secrets
                .create(&PostParams::default(), &fresh(name, make(None)?, now))
                .await
        }
    };
    match written {
        Ok(secret) => Ok(secret),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
            secrets.get(name).await.map_err(|source| Error::Read {
                name,
                source: Box::new(source),
            })
        }
        Err(source) => Err(Error::Write {
            name,
            source: Box::new(source),
        }),
    }
}

/// Whether it is of this authority, not due for renewal, and valid already: one that was made while the clock was ahead is not.
fn is_good(secret: &Secret, authority: Option<&str>, now: Timestamp) -> bool {
    let renew_after = secret
        .metadata
        .annotations
        .as_ref()
        .and_then(|notes| notes.get(RENEW_AFTER));
    let is_young = renew_after
        .and_then(|at| at.parse::<Timestamp>().ok())
        .is_some_and(|at| now < at && at.duration_since(now) <= LEAF_RENEWED_AFTER + LEAF_BEFORE);
    let has_authority = |wanted: &str| {
        secret
            .data
            .as_ref()
            .and_then(|data| data.get("ca.crt"))
            .is_some_and(|found| found.0 == wanted.as_bytes())
    };
    match authority {
        // The authority is not renewed by itself: every worker would have to learn the new one at the same moment.
        None => true,
        Some(wanted) => is_young && has_authority(wanted),
    }
}

fn fresh(name: &str, data: Data, now: Timestamp) -> Secret {
    let renew_after = now
        .checked_add(LEAF_RENEWED_AFTER)
        .unwrap_or(now)
        .to_string();
    let labels = [
        ("app.kubernetes.io/name", "framewright"),
        ("app.kubernetes.io/managed-by", "framewright-operator"),
    ];
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(
                labels
                    .iter()
                    .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                    .collect(),
            ),
            annotations: Some(BTreeMap::from([(RENEW_AFTER.to_owned(), renew_after)])),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}

fn authority_params(now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "Framewright");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now, AUTHORITY_LIFE);
    params
}

fn make_authority(now: Timestamp) -> Result<Data, Error> {
    let key = KeyPair::generate().map_err(Error::Make)?;
    let certificate = authority_params(now)
        .self_signed(&key)
        .map_err(Error::Make)?;
    Ok(data([
        ("ca.crt", certificate.pem()),
        ("ca.key", key.serialize_pem()),
    ]))
}

fn make_leaf(
    authority: &str,
    authority_key: &str,
    service: &str,
    namespace: &str,
    now: Timestamp,
) -> Result<Data, Error> {
    let authority_key = KeyPair::from_pem(authority_key).map_err(Error::Make)?;
    // Only the name and the key of the issuer go into a certificate, and both are known.
    let issuer = Issuer::new(authority_params(now), authority_key);
    let key = KeyPair::generate().map_err(Error::Make)?;
    let names = [
        service.to_owned(),
        format!("{service}.{namespace}"),
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.cluster.local"),
    ];
    let mut params = CertificateParams::new(names).map_err(Error::Make)?;
    params.distinguished_name.push(DnType::CommonName, service);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, now, LEAF_LIFE);
    let certificate = params.signed_by(&key, &issuer).map_err(Error::Make)?;
    Ok(data([
        ("ca.crt", authority.to_owned()),
        ("tls.crt", certificate.pem()),
        ("tls.key", key.serialize_pem()),
    ]))
}

/// Whole days, from the day before.
fn set_validity(params: &mut CertificateParams, now: Timestamp, life: SignedDuration) {
    let day = |at: Timestamp| {
        let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
        rcgen::date_time_ymd(
            i32::from(date.year()),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        )
    };
    params.not_before = day(now.checked_sub(LEAF_BEFORE).unwrap_or(now));
    params.not_after = day(now.checked_add(life).unwrap_or(now));
}

fn make_signing_key() -> Result<ByteString, Error> {
    let mut random = [0; 32];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| Error::Random)?;
    Ok(ByteString(SigningKeys::file(random).into_bytes()))
}

fn data<const N: usize>(entries: [(&str, String); N]) -> Data {
    entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())))
        .collect()
}

fn bytes(secret: &Secret, name: &'static str, key: &'static str) -> Result<Vec<u8>, Error> {
    let value = secret.data.as_ref().and_then(|data| data.get(key));
    value
        .map(|value| value.0.clone())
        .ok_or(Error::Content { name, key })
}

fn text(secret: &Secret, name: &'static str, key: &'static str) -> Result<String, Error> {
    String::from_utf8(bytes(secret, name, key)?).map_err(|_| Error::Content { name, key })
}

/// Keeps the certificate for streams valid; returns when the keys in the Secrets are others than those in use. Then this process
/// must start anew: links that it signs are worth nothing to a store with another key, and no worker trusts its streams.
pub(crate) async fn renew(
    context: Arc<Context>,
    tls: axum_server::tls_rustls::RustlsConfig,
    in_use: Keys,
) {
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &context.args.namespace);
    loop {
        tokio::time::sleep(CHECK_EVERY).await;
        let ensured = ensure(
            &secrets,
            &context.args.namespace,
            &context.args.service,
            jiff::Timestamp::now(),
        )
        .await;
        let reloaded = match ensured {
            Ok(keys) if !keys.are_those(&in_use) => {
                tracing::error!("the Secrets have new keys; restarting with them");
                return;
            }
            Ok(keys) => tls
                .reload_from_pem(keys.stream.0, keys.stream.1)
                .await
                .map_err(run::Error::Tls),
            Err(error) => Err(run::Error::Certificates(error)),
        };
        if let Err(error) = reloaded {
            tracing::warn!(error = %crate::chain(&error), "cannot renew certificates; trying again in an hour");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_not_valid_yet_is_made_anew() {
        let now = Timestamp::UNIX_EPOCH;
        let made = |hours: i64| {
            let authority = data([("ca.crt", "a".to_owned())]);
            let made = now + SignedDuration::from_hours(hours);
            is_good(&fresh("s", authority, made), Some("a"), now)
        };
        let good = [-61 * 24, -59 * 24, 0, 23, 25, 24 * 365].map(made);
        assert_eq!(good, [false, true, true, true, false, false]);
    }
}
