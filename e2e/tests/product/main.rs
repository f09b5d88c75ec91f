//! What Framewright promises, on a real node with the chart installed: one cluster, a namespace for each test.

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
mod pools;
mod results;
mod store;
mod strangers;
