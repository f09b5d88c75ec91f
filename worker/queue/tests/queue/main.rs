//! The queue as data: events in, effects out, both as text.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "what a test does not expect ends it"
)]

mod commands;
mod ending;
mod story;
mod stream;
