//! What Framewright promises, on a real node with the chart installed: one cluster, a namespace for each test.

mod access;
mod admission;
mod ending;
mod fleet;
mod gate;
mod inputs;
mod installation;
mod kills;
mod leaders;
mod ledger;
mod losses;
mod outside;
mod plugin;
mod pools;
mod releases;
mod results;
mod rollout;
mod room;
mod settled;
mod store;
mod storm;
mod strangers;
mod unreadable;
mod volumes;
mod weather;
