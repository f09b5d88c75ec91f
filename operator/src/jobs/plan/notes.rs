//! What people are told about a job, beside its status: Events.

use framewright_crds::conditions::shortened;

/// An Event on the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub warning: bool,
    pub reason: String,
    pub message: String,
}

/// A note, cut to what a status allows too.
#[must_use]
pub fn note(warning: bool, reason: &str, message: &str) -> Note {
    Note {
        warning,
        reason: reason.to_owned(),
        message: shortened(message),
    }
}

/// What went well becomes one note under the first reason, since each is a write of its own; each warning stays one.
#[must_use]
pub fn merged(notes: Vec<Note>) -> Vec<Note> {
    let (mut told, good): (Vec<Note>, Vec<Note>) = notes.into_iter().partition(|note| note.warning);
    if let Some(first) = good.first() {
        let messages: Vec<&str> = good.iter().map(|note| note.message.as_str()).collect();
        told.push(note(false, &first.reason, &messages.join("; ")));
    }
    told
}
