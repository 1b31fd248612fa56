//! The exported tables.
