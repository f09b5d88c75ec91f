//! `serve` against an operator and a store: whole tasks, and what goes wrong on the way.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "what a test does not expect ends it"
)]

mod cache;
mod conversation;
#[path = "../golden/mod.rs"]
mod golden;
#[path = "../peer/mod.rs"]
mod peer;
mod process;
mod store;
mod stream;
mod tasks;
