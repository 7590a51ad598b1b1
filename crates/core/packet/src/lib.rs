//! Inner packets: the batch that carries them through every layer.
#![forbid(unsafe_code)]

mod batch;

pub use batch::{Batch, Checksum, Offload, PacketBatch};
