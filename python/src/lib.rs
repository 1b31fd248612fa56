//! In: calls of Python. Out: the same calls of the library, and what comes back as Python's objects. Nothing is computed here but
//! the pixels of the images that are handed over.

mod answers;
mod benchmark;
mod command;
mod compared;
mod dlpack;
mod errors;
mod evaluate;
mod judge;
mod pixels;
mod run;
mod sources;
mod summary;
mod work;

use pyo3::prelude::*;

/// The native half of the package `dpg_bench`.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("DpgBenchError", module.py().get_type::<errors::DpgBenchError>())?;
    module.add_class::<benchmark::Benchmark>()?;
    module.add_class::<benchmark::Item>()?;
    module.add_class::<benchmark::Question>()?;
    module.add_class::<judge::Judge>()?;
    module.add_class::<judge::Answer>()?;
    module.add_class::<run::Run>()?;
    module.add_class::<answers::Answers>()?;
    module.add_class::<summary::Summary>()?;
    module.add_class::<compared::Comparison>()?;
    module.add_class::<compared::Check>()?;
    module.add_function(wrap_pyfunction!(command::main, module)?)?;
    module.add_function(wrap_pyfunction!(evaluate::evaluate, module)?)?;
    module.add_function(wrap_pyfunction!(compared::compare, module)?)?;
    module.add_function(wrap_pyfunction!(compared::check, module)?)?;
    module.add_function(wrap_pyfunction!(compared::report, module)?)
}
