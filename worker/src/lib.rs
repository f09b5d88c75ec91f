//! Worker.

pub mod device;
pub mod frame;
pub mod models;
pub mod tiles;
pub mod weights;
