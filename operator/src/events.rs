//! Kubernetes Events: what people are told beside an object's status.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::events::{Event, EventType};
use kube::{Resource, ResourceExt};

use crate::context::{Context, Guarded};

/// Bytes of a note; the API server refuses longer ones.
const NOTE_LIMIT: usize = 1024;
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
    publish(context, event, &object.object_ref(&())).await;
}

/// A text that the API server takes as an Event's note.
fn cut(mut text: String) -> String {
    if text.len() > NOTE_LIMIT {
        text.truncate(text.floor_char_boundary(NOTE_LIMIT - '…'.len_utf8()));
        text.push('…');
    }
    text
}

/// Publishes one Event.
pub async fn publish(context: &Context, mut event: Event, about: &ObjectReference) {
    event.note = event.note.map(cut);
    let publishing = context.recorder.publish(&event, about);
    match tokio::time::timeout(PUBLISH_LIMIT, publishing).await {
        Ok(Ok(())) => {}
        // An event is a courtesy: the status says the same.
        Ok(Err(error)) => tracing::warn!(error = %crate::chain(&error), "cannot publish an event"),
        Err(_) => tracing::debug!("publishing an event took too long"),
    }
}
