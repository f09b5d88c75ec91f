//! Operator.
pub mod grants;
pub mod store;
