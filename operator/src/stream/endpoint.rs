//! Leads the Service that workers dial to the leader: one EndpointSlice, which each new leader writes, and mends if it is changed.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};

use crate::args::RunArgs;
use framewright_crds::names::STREAM_PORT;

/// Whether the Service points at this pod.
///
/// # Errors
/// The API server's.
pub async fn points_here(client: Client, args: &RunArgs) -> kube::Result<bool> {
    let slices: Api<EndpointSlice> = Api::namespaced(client, &args.namespace);
    let wanted = slice(args);
    let name = wanted.metadata.name.as_deref().unwrap_or_default();
    let there = slices.get_opt(name).await?;
    Ok(there.is_some_and(|there| leads_alike(&there, &wanted)))
}

/// Points the Service at this pod.
///
/// # Errors
/// The API server's.
pub async fn point_here(client: Client, args: &RunArgs) -> kube::Result<()> {
    let slices: Api<EndpointSlice> = Api::namespaced(client, &args.namespace);
    let slice = slice(args);
    let name = slice.metadata.name.clone().unwrap_or_default();
    slices
        .patch(
            &name,
            &PatchParams::apply("framewright-operator").force(),
            &Patch::Apply(&slice),
        )
        .await?;
    Ok(())
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
