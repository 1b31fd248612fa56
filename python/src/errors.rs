//! In: what the library cannot do. Out: the exception that Python's caller sees, with the whole sentence.

use dpg_bench::{CheckError, GateFault, JudgeFault, NoProbability, PixelsFault};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;

create_exception!(
    dpg_bench,
    DpgBenchError,
    PyException,
    "What was asked for could not be done; what is finished is kept."
);

/// An error at work. What the caller gave and can give otherwise is a `ValueError`.
pub(crate) fn failed(error: anyhow::Error) -> PyErr {
    match fault_of_the_caller(&error) {
        Some(sentence) => PyValueError::new_err(sentence),
        None => DpgBenchError::new_err(format!("{error:#}")),
    }
}

/// Images that do not fit the run, a judge that is not in it, a gate that lets nothing fail: in the words of Python where the
/// library's are those of the command line.
fn fault_of_the_caller(error: &anyhow::Error) -> Option<String> {
    if let Some(fault) = error.downcast_ref::<PixelsFault>() {
        return Some(fault.to_string());
    }
    if let Some(fault @ CheckError::UnknownCategory { .. }) = error.downcast_ref::<CheckError>() {
        return Some(fault.to_string());
    }
    if let Some(fault) = error.downcast_ref::<JudgeFault>() {
        return Some(match fault {
            JudgeFault::Several { run, there } => {
                format!("{run}: there are answers of {}; choose one with judge=", there.join(", "))
            }
            _ => fault.to_string(),
        });
    }
    if let Some(fault) = error.downcast_ref::<NoProbability>() {
        return Some(fault.to_string());
    }
    let fault = error.downcast_ref::<GateFault>()?;
    Some(match fault {
        GateFault::MaxDrop(given) => {
            format!("max_drop {given} is no number of points from 0 to below 100")
        }
        GateFault::Alpha(given) => format!("alpha {given} is no probability between 0 and 0.5"),
        GateFault::TooFewRounds { alpha, figures, .. } => format!(
            "alpha {alpha} is too small (numbers checked: {figures}): no p could be below it, so that nothing could fail"
        ),
        _ => fault.to_string(),
    })
}

/// An argument that means nothing.
pub(crate) fn bad_input(error: anyhow::Error) -> PyErr {
    PyValueError::new_err(format!("{error:#}"))
}
