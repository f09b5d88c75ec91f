//! The shell against an API server in this process: kube's own client sends, a router receives.
//!
//! # Layout
//! - [`api_server`]: the API server, which notes what it is asked; [`shell`]: what the parts of an operator share, and its event loop
//! - [`requests`]: what each request is, and what its answer is taken for; [`event_loop`]: when requests are made, and how many
//! - [`leadership`]: the Lease

mod api_server;
mod event_loop;
mod leadership;
mod requests;
mod shell;
