//! In: tensors. Out: tensors. The layers that networks are made of, and the choice for each between the processor's
//! own operations (`cpu`), the kernels for NVIDIA GPUs (`cuda`) and candle's. No network is known here.

pub(crate) mod attention;
pub(crate) mod attention_groups;
pub(crate) mod cpu;
pub(crate) mod cuda;
pub mod device;
#[cfg(test)]
pub(crate) mod golden;
pub mod kept_memory;
pub(crate) mod key_groups;
pub(crate) mod layers;
pub mod packed_speed;
pub mod products;
pub(crate) mod speed;
pub(crate) mod workplace;
