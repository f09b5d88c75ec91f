//! One ModelPool. A [`snapshot`] of what is known goes in, a [`plan`] comes out. No I/O, no clock.
//!
//! # Layout
//! - [`snapshot`]: what is known about a pool
//! - [`plan`]: what is to be done about it, from the modules below
//! - [`scaling`]: which pods to create, drain and delete
//! - [`ended_pods`]: what follows from pods that ended for good
//! - [`eviction_protection`]: which pods ask node autoscalers to leave them alone
//! - [`status`], [`readiness`]: the next status; whether the pool is ready, and if not, why
//! - [`model_configs`]: the models that workers are configured with
//! - [`pod`]: what a pod's status says about a worker
//! - [`pod_failures`]: pods that are refused, requests that fail, pods that others delete
//! - [`template`]: what a worker pod looks like
//! - [`transitions`]: what differs between two statuses

pub mod ended_pods;
pub mod eviction_protection;
pub mod model_configs;
pub mod plan;
pub mod pod;
pub mod pod_failures;
pub mod readiness;
pub mod scaling;
pub mod snapshot;
pub mod status;
pub mod template;
pub mod transitions;
