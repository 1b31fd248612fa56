//! In: flags that several commands share. Out: plain options of the library.

pub(super) mod chat;
pub(super) mod checkpoint;
pub(super) mod compared;
pub(super) mod control;
pub(super) mod ella;
pub(super) mod endpoint;
pub(super) mod generator;
pub(super) mod judge;
pub(crate) mod local_judge;
pub(super) mod messages;
pub(super) mod other_products;
pub(super) mod program;
pub(super) mod sampling;
pub(super) mod server;
pub(super) mod shard;
pub(super) mod shared;
