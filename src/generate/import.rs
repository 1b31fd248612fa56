//! In: pictures made elsewhere, in files or in memory. Out: the same pixels in a run directory, with a record of where each came from, or
//! the reason why a file cannot be placed.

pub mod error;
pub mod images;
pub mod layout;
pub mod names;
pub mod naming;
pub mod pixels;
pub mod sizes;
pub mod tiles;
