//! In: the words of a command line. Out: its exit status; the command prints by itself.

use std::ffi::OsString;
use std::io::Write;

use pyo3::prelude::*;

/// Runs the command line `words`, the first of which is the program's name, and returns its exit status. Once in a process, which
/// does nothing else.
#[pyfunction]
pub(crate) fn main(py: Python<'_>, words: Vec<OsString>) -> u8 {
    py.detach(|| {
        let status = dpg_bench::cli::run_command(words);
        // Python ends the process and knows nothing of what Rust still holds back.
        let _ = std::io::stdout().flush();
        status
    })
}
