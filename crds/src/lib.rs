//! What people write, and what operator and worker say to each other.
//!
//! # Layout
//! - [`aijob`]: the `AIJob` kind, its steps and its status
//! - [`modelpool`]: the `ModelPool` kind, its models, its pod template and its status
//! - `rules`: the longer CEL rules
//! - [`conditions`]: every condition type and reason a person can see
//! - [`error_chain`]: an error with its causes, on one line
//! - [`deletion`]: what keeps an object that somebody has deleted
//! - [`file_names`]: the file name of a result
//! - [`fraction`]: a number such as 24000/1001
//! - [`manifest`]: the objects in a YAML or JSON file, as written or as `kubectl get` prints them
//! - [`names`]: labels, annotations, ports, task ids, artifact keys
//! - [`pipelines`]: what a step can do, as a table
//! - [`protocol`]: the messages on a worker's stream
//! - [`quantity`]: how many bytes a Kubernetes quantity is
//! - [`schema`]: whether a document keeps to a kind's schema, where no API server looks

#![allow(
    unreachable_pub,
    reason = "the KubeSchema derive repeats each type inside a function"
)]
#![allow(
    clippy::duplicated_attributes,
    reason = "each printcolumn and validation is one"
)]

pub mod aijob;
pub mod conditions;
pub mod deletion;
pub mod error_chain;
pub mod file_names;
pub mod fraction;
pub mod manifest;
pub mod modelpool;
pub mod names;
pub mod pipelines;
pub mod protocol;
pub mod quantity;
mod rules;
pub mod schema;
mod text_enum;

pub use aijob::AIJob;
pub use modelpool::ModelPool;
