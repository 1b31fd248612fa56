//! In: any bytes. Out: the doors of the test suite, for the fuzz targets.

#[path = "../../tests/suite/doors.rs"]
pub mod doors;
