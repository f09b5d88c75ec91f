//! The Framewright worker: runs models on media.
//!
//! *Layout*, in reading order: [`args`] · [`serve`] dials in to the operator and [`run`] does one file; both put their work
//! through [`engine`], the one thread that owns the device, and [`pipelines`], what can be done. [`framewright_queue`], a crate of
//! its own, decides which task is next. [`models`] are the networks, [`weights`] their files, [`media`] images and videos, [`fetch`]
//! the store. [`device`] is what computes, and [`frame`], [`tiles`] how pictures get there; [`memory`] and [`threads`] are how much
//! of the machine may be used. [`health`], [`metrics`]: the process; [`digest`], [`sentence`]: how files and errors are named.

pub mod args;
pub mod device;
pub mod digest;
pub mod engine;
pub mod fetch;
pub mod frame;
pub mod health;
pub mod media;
pub mod memory;
pub mod metrics;
pub mod models;
pub mod pipelines;
pub mod run;
pub mod sentence;
pub mod serve;
pub mod threads;
pub mod tiles;
pub mod weights;
