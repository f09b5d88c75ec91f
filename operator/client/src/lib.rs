//! The client: submits jobs and pools, uploads their files, follows jobs and fetches results. All of it goes through the API server.
//!
//! It does not parse a command line; `framewright-cli` does.
//!
//! # Layout
//! - [`cluster`]: the connection to the API server, and its errors as sentences
//! - [`kubeconfig`]: which API server, found as kubectl finds it
//! - [`proxy`]: the proxy that leads there
//! - [`documents`]: the manifests to submit, and the local files that they name
//! - [`digest`]: digest and size of a local file
//! - [`objects`]: applies manifests, and reads the files and links in a status
//! - [`transfers`]: uploads to the store and downloads from it, through a port-forward
//! - [`screen`]: the progress sink: lines and progress bars on standard error

pub mod cluster;
pub mod digest;
pub mod documents;
pub mod kubeconfig;
pub mod objects;
pub mod proxy;
pub mod screen;
pub mod transfers;
