//! Kubernetes Events as the API server takes them: a name of their own within its limit, and a repeat that is counted.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

/// Characters of an object's name.
const NAME_LIMIT: usize = 253;
/// Bytes of a note; the API server refuses longer ones.
const NOTE_LIMIT: usize = 1024;
/// Bytes of a reason, an action and the name of who reports.
const WORD_LIMIT: usize = 128;
/// How long a repeat is counted in the first Event; after that it is an Event of its own.
const COUNTED_FOR: SignedDuration = SignedDuration::from_mins(6);
/// Events that are remembered for that.
const REMEMBERED: usize = 2048;

/// What an Event says about an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KubernetesEvent {
    pub is_warning: bool,
    pub reason: String,
    pub message: String,
    /// What it is about, as step/attempt. Events that differ in nothing but their message are shown as one that came several times, with
    /// the first one's message.
    pub action: String,
}

/// What to ask of the API server.
#[derive(Clone, Debug, PartialEq)]
pub enum Publish {
    Create(Box<Event>),
    /// The same was said a moment ago: the series of the Event with this name. A merge patch.
    Count {
        name: String,
        patch: serde_json::Value,
    },
}

/// Makes the Events of one reporter.
#[derive(Debug)]
pub struct Recorder {
    controller: String,
    instance: String,
    recent: HashMap<Key, Published>,
    last_nanosecond: i128,
}

type Key = (ObjectKey, KubernetesEvent);

/// Kind, namespace, name and UID of what an Event is about.
type ObjectKey = [Option<String>; 4];

#[derive(Debug)]
struct Published {
    name: String,
    count: i32,
    last: Timestamp,
}

impl Recorder {
    #[must_use]
    pub fn new(controller: &str, instance: &str) -> Recorder {
        Recorder {
            controller: controller.to_owned(),
            instance: cut(instance.to_owned(), WORD_LIMIT),
            recent: HashMap::new(),
            last_nanosecond: 0,
        }
    }

    /// What to ask for. It counts as done; if it is not, [`forget`](Recorder::forget) it.
    pub fn publish(
        &mut self,
        event: &KubernetesEvent,
        about: &ObjectReference,
        now: Timestamp,
    ) -> Publish {
        self.recent
            .retain(|_, published| now.duration_since(published.last).abs() < COUNTED_FOR);
        let key = (object_key(about), event.clone());
        if let Some(published) = self.recent.get_mut(&key) {
            published.count = published.count.saturating_add(1);
            published.last = now;
            let series = EventSeries {
                count: published.count,
                last_observed_time: MicroTime(now),
            };
            return Publish::Count {
                name: published.name.clone(),
                patch: serde_json::json!({"series": series}),
            };
        }
        // Two Events of one nanosecond would have one name.
        self.last_nanosecond = now.as_nanosecond().max(self.last_nanosecond + 1);
        let name = name(
            about.name.as_deref().unwrap_or(&self.controller),
            self.last_nanosecond,
        );
        if self.recent.len() < REMEMBERED {
            let published = Published {
                name: name.clone(),
                count: 1,
                last: now,
            };
            self.recent.insert(key, published);
        }
        Publish::Create(Box::new(self.event(name, event, about, now)))
    }

    /// It was not published: the next time is a first time.
    pub fn forget(&mut self, event: &KubernetesEvent, about: &ObjectReference) {
        self.recent.remove(&(object_key(about), event.clone()));
    }

    fn event(
        &self,
        name: String,
        event: &KubernetesEvent,
        about: &ObjectReference,
        now: Timestamp,
    ) -> Event {
        let type_ = if event.is_warning {
            "Warning"
        } else {
            "Normal"
        };
        Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(namespace(about).to_owned()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            type_: Some(type_.to_owned()),
            reason: Some(cut(event.reason.clone(), WORD_LIMIT)),
            note: Some(cut(event.message.clone(), NOTE_LIMIT)),
            action: Some(cut(event.action.clone(), WORD_LIMIT)),
            regarding: Some(about.clone()),
            reporting_controller: Some(self.controller.clone()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        }
    }
}

/// Where an Event about the object is.
#[must_use]
pub fn namespace(about: &ObjectReference) -> &str {
    about.namespace.as_deref().unwrap_or("default")
}

fn object_key(about: &ObjectReference) -> ObjectKey {
    [
        about.kind.clone(),
        about.namespace.clone(),
        about.name.clone(),
        about.uid.clone(),
    ]
}

/// The object's name and a number. Of a long name the end is left out: with the number it would be longer than a name may be.
fn name(about: &str, nanosecond: i128) -> String {
    let number = format!(".{nanosecond:x}");
    let end = about.floor_char_boundary(NAME_LIMIT.saturating_sub(number.len()));
    // A part of a name ends in a letter or a digit.
    let start = about[..end].trim_end_matches(['-', '.']);
    format!("{start}{number}")
}

fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit - '…'.len_utf8()));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn about(name: &str) -> ObjectReference {
        ObjectReference {
            kind: Some("AIJob".to_owned()),
            namespace: Some("studio".to_owned()),
            name: Some(name.to_owned()),
            uid: Some("u".to_owned()),
            ..ObjectReference::default()
        }
    }

    fn event(message: &str) -> KubernetesEvent {
        KubernetesEvent {
            is_warning: false,
            reason: "Queued".to_owned(),
            message: message.to_owned(),
            action: "Reconcile".to_owned(),
        }
    }

    fn created(recorder: &mut Recorder, event: &KubernetesEvent, about: &ObjectReference) -> Event {
        match recorder.publish(event, about, NOW) {
            Publish::Create(event) => *event,
            Publish::Count { name, .. } => panic!("{name} is counted"),
        }
    }

    #[test]
    fn an_event_has_a_name_of_its_own_that_the_api_server_takes_whatever_the_objects_is() {
        let mut recorder = Recorder::new("operator", "operator-0");
        let mut names = std::collections::BTreeSet::new();
        for length in [1, 236, 237, 253] {
            for filling in ["x", "-x", ".x"] {
                let object = format!("a{}", filling.repeat(length));
                let object: String = object.chars().take(length).collect();
                let event = created(&mut recorder, &event(filling), &about(&object));
                let name = event.metadata.name.expect("it has one");
                // The limit of the API server, not our own.
                assert!(name.len() <= 253, "{name}");
                assert!(!name.contains("-.") && !name.contains(".."), "{name}");
                assert_eq!(event.regarding, Some(about(&object)));
                names.insert(name);
            }
        }
        assert_eq!(names.len(), 12);
        let name = name(&"x".repeat(236), NOW.as_nanosecond());
        assert!(name.starts_with(&format!("{}.", "x".repeat(236))) && name.len() == 253);
    }

    #[test]
    fn a_repeat_is_counted_and_other_words_are_another_event() {
        let mut recorder = Recorder::new("operator", "operator-0");
        let first = created(&mut recorder, &event("waits"), &about("a"));
        created(&mut recorder, &event("waits for weights"), &about("a"));
        created(&mut recorder, &event("waits"), &about("b"));
        let later = NOW + SignedDuration::from_mins(5);
        let repeat = recorder.publish(&event("waits"), &about("a"), later);
        let Publish::Count { name, patch } = repeat else {
            panic!("it is another event");
        };
        assert_eq!(Some(name), first.metadata.name);
        assert_eq!(patch["series"]["count"], 2);
        let much_later = later + SignedDuration::from_mins(6);
        let repeat = recorder.publish(&event("waits"), &about("a"), much_later);
        assert!(matches!(repeat, Publish::Create(_)));
    }

    #[test]
    fn an_event_that_was_not_published_is_not_counted() {
        let mut recorder = Recorder::new("operator", "operator-0");
        created(&mut recorder, &event("waits"), &about("a"));
        recorder.forget(&event("waits"), &about("a"));
        created(&mut recorder, &event("waits"), &about("a"));
    }

    #[test]
    fn texts_keep_to_the_api_servers_limits() {
        let mut recorder = Recorder::new("operator", &"p".repeat(200));
        let event = created(&mut recorder, &event(&"ä".repeat(1000)), &about("a"));
        let note = event.note.expect("it has one");
        assert!(note.len() <= 1024 && note.ends_with("ä…"));
        let instance = event.reporting_instance.expect("it has one");
        assert!(instance.len() <= 128);
    }

    #[test]
    fn many_events_take_little_memory() {
        let mut recorder = Recorder::new("operator", "operator-0");
        for number in 0..2 * REMEMBERED {
            created(
                &mut recorder,
                &event("waits"),
                &about(&format!("a{number}")),
            );
        }
        assert_eq!(recorder.recent.len(), REMEMBERED);
    }
}
