//! Layers that networks share. Each has a version for CPU cores and one made of candle's operations, which every device has.
//!
//! *Layout*: `conv` is a 3x3 convolution with its activation, `conv_cpu` that layer on CPU cores; `planes` resizes planes and moves
//! pixels along a flow.

pub(crate) mod conv;
mod conv_cpu;
pub(crate) mod planes;
