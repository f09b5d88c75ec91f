//! Finds out which worker pod opens a stream, from a token that the kubelet made for that very pod.

use std::net::IpAddr;
use std::time::Duration;

use framewright_crds::ModelPool;
use framewright_crds::names::TOKEN_AUDIENCE;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, PostParams};

use crate::context::Context;
use framewright_core::names::{PoolName, WorkerRef};
use framewright_core::pools::pod::pool_of;

const REVIEW_LIMIT: Duration = Duration::from_secs(10);

/// Which pod it is.
#[derive(Clone, Debug)]
pub struct Identity {
    pub worker: WorkerRef,
    pub pool: PoolName,
}

/// Why nobody is let in. What a stranger is told never helps it to guess.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("no bearer token")]
    NoToken,
    #[error("the token is not valid for audience {TOKEN_AUDIENCE}: {0}")]
    BadToken(String),
    #[error("the token is bound to no pod")]
    NoPod,
    #[error("pod {0} does not exist, or is another one of that name")]
    OtherPod(String),
    #[error("pod {0} belongs to no ModelPool")]
    NoPool(String),
    #[error(
        "pod {pod} belongs to a ModelPool {pool} that does not exist, or to an earlier one of that name"
    )]
    OtherPool { pod: String, pool: String },
    #[error("pod {0} has no address yet")]
    NoAddress(String),
    #[error(
        "the token is pod {pod}'s, and {peer} is no address of that pod (if the network rewrites addresses, set stream.checkPeerAddress to false)"
    )]
    OtherAddress { pod: String, peer: IpAddr },
    #[error("the API server cannot be asked about the token")]
    Review(#[source] Box<kube::Error>),
    #[error("the API server did not answer about the token in time")]
    Late,
}

impl Refused {
    /// Whether it may be different in a moment.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Refused::Review(_) | Refused::Late | Refused::NoAddress(_) => true,
            Refused::NoToken
            | Refused::BadToken(_)
            | Refused::NoPod
            | Refused::OtherPod(_)
            | Refused::NoPool(_)
            | Refused::OtherPool { .. }
            | Refused::OtherAddress { .. } => false,
        }
    }
}

/// Has the API server review the token, down to the pod's UID, looks the pod up, and compares its addresses with the stream's: a
/// token that was copied out of its pod opens nothing elsewhere.
///
/// # Errors
/// [`Refused`]
pub async fn identify(
    context: &Context,
    token: Option<&str>,
    peer: IpAddr,
) -> Result<Identity, Refused> {
    let token = token.ok_or(Refused::NoToken)?;
    let user = tokio::time::timeout(REVIEW_LIMIT, review(context, token))
        .await
        .map_err(|_| Refused::Late)??;
    let (namespace, name, uid) = bound_pod(&user).ok_or(Refused::NoPod)?;
    // A live read: a pod that was just made may not be in the cache, one that was just deleted may still be.
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
    let found = tokio::time::timeout(REVIEW_LIMIT, pods.get_opt(&name))
        .await
        .map_err(|_| Refused::Late)?;
    let pod = found.map_err(|error| Refused::Review(Box::new(error)))?;
    let pod = pod
        .filter(|pod| pod.uid().as_deref() == Some(uid.as_str()))
        .ok_or_else(|| Refused::OtherPod(name.clone()))?;
    let (pool, pool_uid) = pool_of(&pod).ok_or_else(|| Refused::NoPool(name.clone()))?;
    let pools: Api<ModelPool> = Api::namespaced(context.client.clone(), &namespace);
    let owner = tokio::time::timeout(REVIEW_LIMIT, pools.get_metadata_opt(&pool))
        .await
        .map_err(|_| Refused::Late)?;
    let owner = owner.map_err(|error| Refused::Review(Box::new(error)))?;
    if owner.and_then(|owner| owner.uid()).as_deref() != Some(pool_uid.as_str()) {
        return Err(Refused::OtherPool { pod: name, pool });
    }
    if context.args.check_peer_address {
        check_address(&pod, &name, peer)?;
    }
    Ok(Identity {
        pool: PoolName {
            namespace: namespace.clone(),
            name: pool,
        },
        worker: WorkerRef {
            namespace,
            name,
            uid,
        },
    })
}

async fn review(context: &Context, token: &str) -> Result<UserInfo, Refused> {
    let reviews: Api<TokenReview> = Api::all(context.client.clone());
    let audience = vec![TOKEN_AUDIENCE.to_owned()];
    let spec = TokenReviewSpec {
        token: Some(token.to_owned()),
        audiences: Some(audience.clone()),
    };
    let asked = TokenReview {
        spec,
        ..TokenReview::default()
    };
    let answer = reviews
        .create(&PostParams::default(), &asked)
        .await
        .map_err(|error| Refused::Review(Box::new(error)))?;
    let status = answer.status.unwrap_or_default();
    // An API server that knows no audiences answers without them; such an answer proves nothing.
    if status.authenticated != Some(true) || status.audiences.as_ref() != Some(&audience) {
        return Err(Refused::BadToken(
            status
                .error
                .unwrap_or_else(|| "not authenticated".to_owned()),
        ));
    }
    status
        .user
        .ok_or_else(|| Refused::BadToken("it names no user".to_owned()))
}

/// Whether the stream comes from the pod. The kubelet writes a new pod's addresses a moment after its process has started.
fn check_address(pod: &Pod, name: &str, peer: IpAddr) -> Result<(), Refused> {
    let status = pod.status.as_ref();
    let addresses: Vec<IpAddr> = status
        .and_then(|status| status.pod_ips.as_ref())
        .into_iter()
        .flatten()
        .filter_map(|address| address.ip.parse().ok())
        .collect();
    if addresses.is_empty() {
        return Err(Refused::NoAddress(name.to_owned()));
    }
    let peer = peer.to_canonical();
    if addresses.contains(&peer) {
        return Ok(());
    }
    Err(Refused::OtherAddress {
        pod: name.to_owned(),
        peer,
    })
}

/// Namespace, name and UID of the pod that a token is bound to.
fn bound_pod(user: &UserInfo) -> Option<(String, String, String)> {
    let extra = user.extra.as_ref()?;
    let one = |key: &str| match extra.get(key)?.as_slice() {
        [value] => Some(value.clone()),
        _ => None,
    };
    let account = user
        .username
        .as_deref()?
        .strip_prefix("system:serviceaccount:")?;
    let (namespace, _) = account.split_once(':')?;
    let name = one("authentication.kubernetes.io/pod-name")?;
    let uid = one("authentication.kubernetes.io/pod-uid")?;
    Some((namespace.to_owned(), name, uid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PodIP, PodStatus};
    use std::collections::BTreeMap;

    fn user(name: &str, extra: &[(&str, &str)]) -> UserInfo {
        let extra: BTreeMap<String, Vec<String>> = extra
            .iter()
            .map(|&(key, value)| {
                (
                    format!("authentication.kubernetes.io/{key}"),
                    vec![value.to_owned()],
                )
            })
            .collect();
        UserInfo {
            username: Some(name.to_owned()),
            extra: Some(extra),
            ..UserInfo::default()
        }
    }

    #[test]
    fn only_a_token_that_is_bound_to_a_pod_names_one() {
        let both = [("pod-name", "w"), ("pod-uid", "u")];
        let good = user("system:serviceaccount:fleet:default", &both);
        assert_eq!(
            bound_pod(&good),
            Some(("fleet".into(), "w".into(), "u".into()))
        );
        assert_eq!(
            bound_pod(&user(
                "system:serviceaccount:fleet:default",
                &[("pod-name", "w")]
            )),
            None
        );
        assert_eq!(
            bound_pod(&user("system:serviceaccount:fleet:default", &[])),
            None
        );
        assert_eq!(bound_pod(&user("alice", &both)), None);
    }

    #[test]
    fn a_stream_counts_from_the_pods_own_addresses_only() {
        let at = |addresses: &[&str]| Pod {
            status: Some(PodStatus {
                pod_ips: Some(
                    addresses
                        .iter()
                        .map(|&ip| PodIP { ip: ip.to_owned() })
                        .collect(),
                ),
                ..PodStatus::default()
            }),
            ..Pod::default()
        };
        let check = |pod: &Pod, peer: &str| check_address(pod, "w", peer.parse().expect("address"));
        let both = at(&["10.244.0.7", "fd00::7"]);
        for own in ["10.244.0.7", "::ffff:10.244.0.7", "fd00::7"] {
            assert!(check(&both, own).is_ok(), "{own}");
        }
        let other = check(&both, "10.244.0.8").expect_err("another pod's address");
        assert!(!other.is_passing() && other.to_string().contains("10.244.0.8"));
        for young in [at(&[]), Pod::default()] {
            let refused = check(&young, "10.244.0.7").expect_err("no address yet");
            assert!(refused.is_passing(), "{refused}");
        }
    }
}
