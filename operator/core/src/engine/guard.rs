//! Decisions that panic cost one object an Event, and stop nobody else.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use framewright_crds::names::OwnerKind;

use super::interface::{Effect, Log};
use crate::kubernetes_events::KubernetesEvent;
use crate::names::ObjectName;

/// Decides; or says with which words it panicked.
pub(super) fn guarded<T>(decide: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(decide)).map_err(|panic| message(&*panic))
}

/// An object about which deciding panicked gets an Event.
pub(super) fn report(
    kind: OwnerKind,
    (name, uid, version): (&ObjectName, String, String),
    error: String,
    effects: &mut Vec<Effect>,
) {
    effects.push(Effect::Publish {
        kind,
        name: name.clone(),
        uid,
        version,
        event: KubernetesEvent {
            is_warning: true,
            reason: "OperatorDefect".to_owned(),
            message: format!(
                "the operator has a defect that this object triggers, please report it: {error}; the object is left alone until it changes"
            ),
            action: "Reconcile".to_owned(),
        },
    });
    effects.push(Effect::Log(Log::Panicked {
        name: name.clone(),
        error,
    }));
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked")
        .to_owned()
}
