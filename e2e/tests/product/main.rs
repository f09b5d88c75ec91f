//! What Framewright promises, on a real node with the chart installed: one cluster, a namespace for each test.

mod ending;
mod fleet;
mod inputs;
mod installation;
mod losses;
mod pools;
mod results;
mod strangers;
