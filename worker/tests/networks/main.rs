//! The networks compute what PyTorch does: golden tensors, with weights that a formula gives
//! (`golden/make.py` wrote them, from spandrel's networks).

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is the point"
)]

mod checkpoints;
#[path = "../golden/closeness.rs"]
mod closeness;
mod deep;
mod frames;
#[path = "../golden/mod.rs"]
mod golden;
mod parity;
mod rife;
mod tiles;

use candle_core::Tensor;

pub(crate) fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor
        .flatten_all()
        .unwrap()
        .to_vec1::<f32>()
        .unwrap()
        .into_iter()
        .map(f32::to_bits)
        .collect()
}
