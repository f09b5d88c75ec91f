//! Where artifacts lie: a process of its own that keeps bytes and hands them to whoever holds a link signed by the operator.
//!
//! It has no Kubernetes credentials and asks nobody: a link says everything. An artifact is named by its owner's namespace, kind
//! and UID, its role and its SHA-256, is never changed, and is visible only once all of its bytes are verified and on disk.
//!
//! # Layout
//! - [`key`]: what an artifact is called
//! - [`args`]: the settings
//! - `server`: listeners, start and end
//! - `routes`: from a request to one of `upload`, `download`, and the backend's own answers
//! - `range`, `disposition`: pure parts of a download
//! - `slots`: how many transfers at once; `pace`, `patience`: how slow one may be
//! - `backend`: the object store; `volume`: what only a local volume needs
//! - `mounted`: keys and certificate, read again when they change
//! - `error`, `answers`: the responses
//! - `health`: health and metrics
//! - [`grants`]: what a signed link says
//! - [`record`]: files that belong to no object and are never replaced
//! - [`listen`]: a listener for both families of addresses
//! - [`client`]: the operator's side
//! - [`watch`]: a stream that tells which files are there, both ends

pub mod answers;
pub mod args;
mod backend;
pub mod client;
mod disposition;
mod download;
mod error;
pub mod grants;
mod health;
pub mod key;
pub mod listen;
mod mounted;
mod pace;
mod patience;
mod range;
pub mod record;
mod routes;
mod server;
mod slots;
mod upload;
mod volume;
pub mod watch;

pub use args::StoreArgs;
pub use server::{Running, ServeError, serve, start};
