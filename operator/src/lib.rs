//! The Framewright operator: makes AIJobs and ModelPools come true.
//!
//! # Layout
//! - [`jobs`]: one AIJob: observe → plan → act → report
//! - [`schedule`]: which task goes to which worker (pure); [`dispatch`] runs it
//! - [`pools`]: one ModelPool: its pods, their revision, their number
//! - [`stream`]: the workers' streams: identity, tasks, events
//! - [`store`]: keeps artifacts, in a process of its own; [`grants`] and [`links`] sign who may reach them
//! - [`controller`]: wires all of it; [`context`] is what the parts share
//! - [`uploads`], [`received`]: which files are waited for; which have come
//! - [`recent`]: what caches may not show yet; `trim`: what of an object is kept; [`names`]: of pools and workers
//! - [`status`], [`events`]: how objects and people are told; [`writes`]: no write outside a term
//! - [`leadership`]: who leads; [`certificates`]: keys and certificates; [`janitor`]: clears what outlived its object
//! - [`args`], [`health`], [`metrics`], `listen`, [`check`]: the process; `check` is `helm test`
//!
//! It runs on Unix alone. The kubectl plugin, which is built from the same package for other systems too, uses nothing of it.

#![cfg(unix)]

pub mod args;
pub mod backoff;
pub mod certificates;
pub mod check;
pub mod context;
pub mod controller;
pub mod dispatch;
pub mod events;
pub mod grants;
pub mod health;
pub mod janitor;
pub mod jobs;
pub mod leadership;
pub mod links;
mod listen;
pub mod metrics;
pub mod names;
pub mod pools;
pub mod received;
pub mod recent;
pub mod schedule;
pub mod status;
pub mod store;
pub mod stream;
mod trim;
pub mod uploads;
pub mod writes;

/// An error's own words. kube's repeat the API server's answer as Rust would print it.
fn plain(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (Status {") {
        Some((words, _)) => words.trim_start_matches("ApiError: ").to_owned(),
        None => text,
    }
}

/// An error with all that caused it, on one line.
pub fn chain<'a>(error: &'a (dyn std::error::Error + 'static)) -> impl std::fmt::Display + 'a {
    std::fmt::from_fn(move |out| {
        let mut said = plain(error);
        write!(out, "{said}")?;
        let mut source = error.source();
        while let Some(cause) = source {
            let text = plain(cause);
            // Some libraries repeat their source in their own text.
            if !said.ends_with(&text) {
                write!(out, ": {text}")?;
            }
            said = text;
            source = cause.source();
        }
        Ok(())
    })
}
