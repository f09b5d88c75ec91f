//! The Framewright worker: runs models on media.
//!
//! *Layout*, in reading order: [`args`] · [`agent`] serves an operator and [`local`] does one job from files; both put their work
//! through [`engine`], the one thread that owns the device, and [`pipelines`], what can be done. [`framewright_queue`], a crate of
//! its own, decides which task is next. [`networks`] are the networks and `nn` the layers that they share, [`models`] their files,
//! [`media`] images and videos, [`fetch`] the store. [`device`] is what computes, and [`frame`], [`tiles`] how pictures get there;
//! [`memory`] and [`threads`] are how much of the machine may be used. [`health`], [`metrics`]: the process; [`digest`],
//! [`error_chain`]: how files and errors are named.

pub mod agent;
pub mod args;
pub mod device;
pub mod digest;
pub mod engine;
pub mod error_chain;
pub mod fetch;
pub mod frame;
pub mod health;
pub mod local;
pub mod media;
pub mod memory;
pub mod metrics;
pub mod models;
pub mod networks;
mod nn;
pub mod pipelines;
pub mod threads;
pub mod tiles;
