//! Messages and tables for people.
//!
//! # Layout
//! - [`job_messages`]: what has changed in a job's status, as lines
//! - [`step_messages`]: what has changed in a step's status, as lines
//! - [`table`]: tables, times and numbers

pub(crate) mod job_messages;
pub(crate) mod step_messages;
pub(crate) mod table;
