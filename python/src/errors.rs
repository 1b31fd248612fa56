//! In: what the library cannot do. Out: the exception that Python's caller sees, with the whole sentence.

use dpg_bench::PixelsFault;
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;

create_exception!(
    dpg_bench,
    DpgBenchError,
    PyException,
    "What was asked for could not be done; what is finished is kept."
);

/// An error at work. Images that do not fit the run are the caller's: a `ValueError`.
pub(crate) fn failed(error: anyhow::Error) -> PyErr {
    match error.downcast_ref::<PixelsFault>() {
        Some(fault) => PyValueError::new_err(fault.to_string()),
        None => DpgBenchError::new_err(format!("{error:#}")),
    }
}

/// An argument that means nothing.
pub(crate) fn bad_input(error: anyhow::Error) -> PyErr {
    PyValueError::new_err(format!("{error:#}"))
}
