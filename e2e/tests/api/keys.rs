//! The operator's keys and certificates in their Secrets: made once, by whoever is first, and renewed in time.

use anyhow::{Context, Result, ensure};
use framewright_e2e::with_namespace;
use framewright_operator::certificates::{self, Keys};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::cluster;

const STORE: &str = "framewright-store";

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_in_time_and_the_signing_key_stays() -> Result<()> {
    let cluster = cluster().await?;
    with_namespace(cluster, "keys", async |namespace: &str| {
        let secrets: Api<Secret> = Api::namespaced(cluster.client().await?, namespace);
        let begin = Timestamp::now();
        let on_day = async |day: i64| -> Result<Keys> {
            let now = begin + SignedDuration::from_hours(24 * day);
            Ok(certificates::ensure(&secrets, namespace, "framewright-operator", now).await?)
        };

        // Two replicas start at the same time.
        let (first, second) = tokio::join!(on_day(0), on_day(0));
        let (first, second) = (first?, second?);
        ensure!(first.are_those(&second) && first.stream == second.stream);
        let store = of_store(&secrets).await?;

        let young = on_day(59).await?;
        ensure!(young.are_those(&first) && young.stream == first.stream);
        ensure!(of_store(&secrets).await? == store);

        let renewed = on_day(61).await?;
        ensure!(renewed.are_those(&first) && renewed.stream != first.stream);
        let of_renewed = of_store(&secrets).await?;
        ensure!(of_renewed.certificate != store.certificate);
        ensure!(of_renewed.signing_key == store.signing_key);

        // Without its authority everything is made again at once, but for the key of links that people have.
        secrets
            .delete("framewright-ca", &DeleteParams::default())
            .await?;
        let replaced = on_day(61).await?;
        ensure!(!replaced.are_those(&first) && replaced.stream != renewed.stream);
        let of_replaced = of_store(&secrets).await?;
        ensure!(of_replaced.authority.0 == replaced.authority.as_bytes());
        ensure!(of_replaced.signing_key == store.signing_key);

        let broken = json!({"stringData": {"grant.key": "x"}});
        secrets
            .patch(STORE, &PatchParams::default(), &Patch::Merge(&broken))
            .await?;
        let error = on_day(61).await.err().context("a broken key is taken")?;
        let said = error.to_string();
        ensure!(
            said.contains("secret framewright-store has no usable grant.key; delete the secret"),
            "{said}"
        );
        Ok(())
    })
    .await
}

/// What the store mounts.
#[derive(PartialEq)]
struct OfStore {
    authority: ByteString,
    certificate: ByteString,
    signing_key: ByteString,
}

async fn of_store(secrets: &Api<Secret>) -> Result<OfStore> {
    let mut data = secrets.get(STORE).await?.data.unwrap_or_default();
    let mut take = |name: &str| data.remove(name).with_context(|| name.to_owned());
    Ok(OfStore {
        authority: take("ca.crt")?,
        certificate: take("tls.crt")?,
        signing_key: take("grant.key")?,
    })
}
