//! What a worker pod mounts: its cache of weights, its scratch space, its token, and the claims that models are read from.

use std::collections::BTreeSet;

use framewright_crds::ModelPool;
use framewright_crds::names::TOKEN_AUDIENCE;
use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, PersistentVolumeClaimVolumeSource, ProjectedVolumeSource,
    ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const DEFAULT_CACHE: &str = "20Gi";
const DEFAULT_SCRATCH: &str = "10Gi";

pub(super) fn volumes(pool: &ModelPool) -> Vec<Volume> {
    let empty = |name: &str, limit: Quantity| Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: None,
            size_limit: Some(limit),
        }),
        ..Volume::default()
    };
    let claim = |name: String, claim_name: String, read_only: bool| Volume {
        name,
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name,
            read_only: read_only.then_some(true),
        }),
        ..Volume::default()
    };
    let weights_claim = pool
        .spec
        .weights_cache
        .as_ref()
        .and_then(|cache| cache.claim_name.clone());
    let token = ServiceAccountTokenProjection {
        audience: Some(TOKEN_AUDIENCE.to_owned()),
        expiration_seconds: Some(3600),
        path: "token".to_owned(),
    };
    let mut volumes = vec![
        weights_claim.map_or_else(
            || empty("weights", cache_limit(pool)),
            |name| claim("weights".to_owned(), name, false),
        ),
        empty("scratch", scratch_limit(pool)),
        Volume {
            name: "token".to_owned(),
            projected: Some(ProjectedVolumeSource {
                default_mode: Some(0o440),
                sources: Some(vec![VolumeProjection {
                    service_account_token: Some(token),
                    ..VolumeProjection::default()
                }]),
            }),
            ..Volume::default()
        },
    ];
    for (index, name) in claims(pool).into_iter().enumerate() {
        volumes.push(claim(format!("volume-{index}"), name, true));
    }
    volumes
}

/// The claims that models are read from, each once.
pub(super) fn claims(pool: &ModelPool) -> BTreeSet<String> {
    let sources = pool
        .spec
        .models
        .iter()
        .filter_map(|model| model.source.volume.as_ref());
    sources.map(|source| source.claim_name.clone()).collect()
}

pub(super) fn cache_limit(pool: &ModelPool) -> Quantity {
    let given = pool
        .spec
        .weights_cache
        .as_ref()
        .and_then(|cache| cache.size_limit.clone());
    given.unwrap_or_else(|| Quantity(DEFAULT_CACHE.to_owned()))
}

pub(super) fn scratch_limit(pool: &ModelPool) -> Quantity {
    let given = pool
        .spec
        .scratch
        .as_ref()
        .and_then(|scratch| scratch.size_limit.clone());
    given.unwrap_or_else(|| Quantity(DEFAULT_SCRATCH.to_owned()))
}
