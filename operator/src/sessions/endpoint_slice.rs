//! Leads the Service that workers dial to the leader: one EndpointSlice, which each new leader writes, and mends if it is changed.
//!
//! It is written on top of the version that was seen: a replica whose write comes late takes nothing from a newer leader. Where there
//! was none, which is so once, a late one is mended at the next look.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use framewright_crds::names::STREAM_PORT;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};

use crate::args::RunArgs;
use crate::context::Context;
use crate::leadership::Leadership;
use crate::requests;

/// How often the EndpointSlice is checked.
const CHECK_EVERY: Duration = Duration::from_secs(10);

/// Points the workers' Service to this replica while it leads.
pub(crate) async fn run(context: Arc<Context>) {
    let mut changes = context.leadership.changes();
    loop {
        let leads = changes.borrow_and_update().is_some();
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = keep_pointing_here(&context), if leads => {}
        }
    }
}

/// Points the workers' Service to this replica, and corrects the EndpointSlice whenever somebody changes it.
async fn keep_pointing_here(context: &Context) {
    let mut was_led_here = false;
    loop {
        let led = lead_here(context.client.clone(), &context.args, &context.leadership);
        let requeue_after = match led.await {
            Ok(is_changed) => {
                if is_changed && was_led_here {
                    tracing::warn!(
                        "somebody has changed the EndpointSlice of the workers' Service; corrected"
                    );
                }
                was_led_here = true;
                CHECK_EVERY
            }
            Err(error) => {
                tracing::warn!(error = %crate::chain(&error), "cannot write the EndpointSlice of the workers' Service; trying again");
                Duration::from_secs(1)
            }
        };
        tokio::time::sleep(requeue_after).await;
    }
}

/// Leads the Service to this pod, if it is not; whether it was not.
///
/// # Errors
/// [`requests::Error`]
pub async fn lead_here(
    client: Client,
    args: &RunArgs,
    leadership: &Leadership,
) -> Result<bool, requests::Error> {
    let slices: Api<EndpointSlice> = Api::namespaced(client, &args.namespace);
    let wanted = slice(args);
    let name = wanted.metadata.name.clone().unwrap_or_default();
    let there = requests::in_time(requests::LIMIT, slices.get_opt(&name)).await?;
    let Some(change) = change(there.as_ref(), wanted) else {
        return Ok(false);
    };
    let params = PatchParams::apply("framewright-operator").force();
    let change = Patch::Apply(&change);
    let patching = slices.patch(&name, &params, &change);
    requests::write(leadership, requests::LIMIT, patching).await?;
    Ok(true)
}

/// What to apply, if what is there is not as wanted: only while it is the version that was seen.
fn change(there: Option<&EndpointSlice>, wanted: EndpointSlice) -> Option<EndpointSlice> {
    if there.is_some_and(|there| leads_alike(there, &wanted)) {
        return None;
    }
    let mut wanted = wanted;
    wanted.metadata.resource_version = there.and_then(ResourceExt::resource_version);
    Some(wanted)
}

fn leads_alike(there: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    let addresses = |slice: &EndpointSlice| -> Vec<String> {
        let endpoints = slice.endpoints.iter();
        endpoints.flat_map(|end| end.addresses.clone()).collect()
    };
    let ports = |slice: &EndpointSlice| -> Vec<Option<i32>> {
        let ports = slice.ports.iter().flatten();
        ports.map(|port| port.port).collect()
    };
    let labels = there.metadata.labels.clone().unwrap_or_default();
    addresses(there) == addresses(wanted)
        && ports(there) == ports(wanted)
        && wanted
            .metadata
            .labels
            .iter()
            .flatten()
            .all(|(key, value)| labels.get(key) == Some(value))
}

fn slice(args: &RunArgs) -> EndpointSlice {
    let address_type = match args.pod_ip {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    };
    let labels = [
        ("kubernetes.io/service-name", args.service.as_str()),
        (
            "endpointslice.kubernetes.io/managed-by",
            "framewright-operator",
        ),
    ];
    EndpointSlice {
        address_type: address_type.to_owned(),
        metadata: ObjectMeta {
            name: Some(format!("{}-leader", args.service)),
            namespace: Some(args.namespace.clone()),
            labels: Some(
                labels
                    .iter()
                    .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                    .collect(),
            ),
            ..ObjectMeta::default()
        },
        endpoints: vec![Endpoint {
            addresses: vec![args.pod_ip.to_string()],
            conditions: Some(EndpointConditions {
                ready: Some(true),
                ..EndpointConditions::default()
            }),
            target_ref: Some(ObjectReference {
                kind: Some("Pod".to_owned()),
                namespace: Some(args.namespace.clone()),
                name: Some(args.pod_name.clone()),
                ..ObjectReference::default()
            }),
            ..Endpoint::default()
        }],
        ports: Some(vec![EndpointPort {
            name: Some("stream".to_owned()),
            port: Some(i32::from(STREAM_PORT)),
            protocol: Some("TCP".to_owned()),
            ..EndpointPort::default()
        }]),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn of(address: &str) -> EndpointSlice {
        let typed = "framewright-operator run --namespace ns --pod-name a --store-url https://store --worker-image w --pod-ip";
        let cli = Cli::parse_from(typed.split(' ').chain([address]));
        let Command::Run(args) = &cli.command else {
            panic!("not run: {cli:?}")
        };
        slice(args)
    }

    fn stored(mut slice: EndpointSlice) -> EndpointSlice {
        slice.metadata.resource_version = Some("7".to_owned());
        slice
    }

    #[test]
    fn a_slice_is_changed_only_while_it_is_the_one_that_was_seen() {
        let change = change(Some(&stored(of("10.0.0.1"))), of("10.0.0.2"));
        let version = change.and_then(|change| change.resource_version());
        assert_eq!(version.as_deref(), Some("7"));
        let made = super::change(None, of("10.0.0.2"));
        assert_eq!(made, Some(of("10.0.0.2")));
    }

    #[test]
    fn a_slice_that_leads_here_is_left_alone_and_any_other_mended() {
        let mine = stored(of("10.0.0.2"));
        assert_eq!(change(Some(&mine), of("10.0.0.2")), None);
        let mut of_no_service = mine.clone();
        of_no_service.metadata.labels = None;
        let mut closed = mine;
        closed.ports = Some(Vec::new());
        for other in [of_no_service, closed, stored(of("10.0.0.1"))] {
            assert!(change(Some(&other), of("10.0.0.2")).is_some(), "{other:?}");
        }
    }
}
