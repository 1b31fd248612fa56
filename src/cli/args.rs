//! In: flags that several commands share. Out: plain options of the library.

pub mod chat;
pub mod checkpoint;
pub mod compared;
pub mod ella;
pub mod endpoint;
pub mod generator;
pub mod judge;
pub mod local_judge;
pub mod sampling;
pub mod shard;
pub mod shared;
