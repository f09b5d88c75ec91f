//! What a replica does when leadership comes and goes, and once an hour to its certificates.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use crate::certificates;
use crate::context::Context;
use crate::run::Error;
use crate::sessions::endpoint_slice;

/// How often certificates are looked at.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(3600);

/// How often the workers' Service is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Leads workers here whenever leadership comes, and lets them go when it goes.
pub(crate) async fn lead(context: Arc<Context>) {
    let mut changes = context.leadership.changes();
    loop {
        let epoch = *changes.borrow_and_update();
        context.metrics.leads(epoch.is_some());
        if let Some(epoch) = epoch {
            tracing::info!(epoch, "this replica leads");
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = lead_workers_here(&context), if epoch.is_some() => {}
        }
    }
}

/// Leads the workers' Service here, and for ever sees to it that it still is, whoever has changed it.
async fn lead_workers_here(context: &Context) {
    let mut was_led_here = false;
    loop {
        let led =
            endpoint_slice::lead_here(context.client.clone(), &context.args, &context.leadership);
        let requeue_after = match led.await {
            Ok(is_changed) => {
                if is_changed && was_led_here {
                    tracing::warn!(
                        "somebody has changed the EndpointSlice of the workers' Service; corrected"
                    );
                }
                was_led_here = true;
                LOOK_EVERY
            }
            Err(error) => {
                tracing::warn!(error = %crate::chain(&error), "cannot write the EndpointSlice of the workers' Service; trying again");
                Duration::from_secs(1)
            }
        };
        tokio::time::sleep(requeue_after).await;
    }
}

/// Keeps the certificate for streams valid; returns when the keys in the Secrets are others than those in use. Then this process
/// must start anew: links that it signs are worth nothing to a store with another key, and no worker trusts its streams.
pub(crate) async fn renew_certificates(
    context: Arc<Context>,
    tls: axum_server::tls_rustls::RustlsConfig,
    in_use: certificates::Keys,
) {
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &context.args.namespace);
    loop {
        tokio::time::sleep(CERTIFICATES_EVERY).await;
        let ensured = certificates::ensure(
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
                .map_err(Error::Tls),
            Err(error) => Err(Error::Certificates(error)),
        };
        if let Err(error) = reloaded {
            tracing::warn!(error = %crate::chain(&error), "cannot renew certificates; trying again in an hour");
        }
    }
}
