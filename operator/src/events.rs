//! Kubernetes Events: what people are told beside an object's status.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::events::{Event, EventType};
use kube::{Resource, ResourceExt};

use crate::context::{Context, Guarded};

const PUBLISH_LIMIT: Duration = Duration::from_secs(5);

/// An object that cannot be read gets an event of its own, and stops nobody else.
pub async fn tell_invalid<K: Resource<DynamicType = ()>>(
    context: &Context,
    object: &Guarded<K>,
    invalid: &InvalidObject,
) {
    tracing::warn!(name = %object.name_any(), namespace = ?object.namespace(), error = %invalid.error, "cannot read the object");
    let event = Event {
        type_: EventType::Warning,
        reason: "Unreadable".to_owned(),
        note: Some(format!(
            "this operator cannot read the object: {}",
            invalid.error
        )),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    publish(context, &event, &object.object_ref(&())).await;
}

/// Publishes one Event.
pub async fn publish(context: &Context, event: &Event, about: &ObjectReference) {
    let publishing = context.recorder.publish(event, about);
    match tokio::time::timeout(PUBLISH_LIMIT, publishing).await {
        Ok(Ok(())) => {}
        // An event is a courtesy: the status says the same.
        Ok(Err(error)) => tracing::debug!(error = %crate::chain(&error), "cannot publish an event"),
        Err(_) => tracing::debug!("publishing an event took too long"),
    }
}
