//! In: the scores of a run. Out: them as numbers, as a table in a terminal and a notebook, and as the JSON of the run's own file.

use dpg_bench::{Estimate, Protocol, html_table, terminal_table};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::compared::as_dict;
use crate::errors::failed;
use crate::evaluate::protocol_of;
use crate::run::Run;

/// The scores of a run by one judge, under each protocol; the numbers are those of one.
#[pyclass(frozen, module = "dpg_bench")]
pub(crate) struct Summary {
    pub(crate) summary: dpg_bench::Summary,
    pub(crate) protocol: Protocol,
    pub(crate) run: Run,
}

impl Summary {
    /// The scores under `protocol`, which must be there.
    pub(crate) fn of(summary: dpg_bench::Summary, protocol: Protocol, run: Run) -> PyResult<Self> {
        let fault = |error: dpg_bench::NoProbability| PyValueError::new_err(error.to_string());
        summary.ensure_has(protocol).map_err(fault)?;
        Ok(Self { summary, protocol, run })
    }

    fn overall(&self) -> Option<&Estimate> {
        self.summary.protocol(self.protocol).overall.as_ref()
    }
}

#[pymethods]
impl Summary {
    /// The benchmark score, in percent; None where it is withheld (see `gap`).
    #[getter]
    fn score(&self) -> Option<f64> {
        self.overall().map(|score| score.mean)
    }

    /// Lower end of the score's 95 % interval.
    #[getter]
    fn low(&self) -> Option<f64> {
        self.overall()?.low
    }

    /// Upper end of the score's 95 % interval.
    #[getter]
    fn high(&self) -> Option<f64> {
        self.overall()?.high
    }

    /// Standard error of the score, in points.
    #[getter]
    fn standard_error(&self) -> Option<f64> {
        self.overall()?.standard_error
    }

    /// What is missing of the run; None where it is complete.
    #[getter]
    fn gap(&self) -> Option<&str> {
        self.summary.protocol(self.protocol).gap.as_deref()
    }

    /// Items with a score.
    #[getter]
    fn items(&self) -> u64 {
        self.summary.protocol(self.protocol).items_scored
    }

    /// Percent of yes by category, broad ones and then detailed ones; after the dependency rule under `corrected` and `soft`, before
    /// it under `reference`.
    #[getter]
    fn categories<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let categories = PyDict::new(py);
        for (name, estimate) in self.summary.categories(self.protocol) {
            if let Some(estimate) = estimate {
                categories.set_item(name, estimate.mean)?;
            }
        }
        Ok(categories)
    }

    /// The rules of the numbers: `reference`, `corrected`, `soft` or `soft_tifa_gm`.
    #[getter]
    fn protocol(&self) -> &'static str {
        self.protocol.name()
    }

    /// The same run under another protocol.
    fn under(&self, protocol: &str) -> PyResult<Self> {
        Self::of(self.summary.clone(), protocol_of(protocol)?, self.run.clone())
    }

    /// Name of the judge in the run.
    #[getter]
    fn judge(&self) -> &str {
        &self.summary.judge.name
    }

    /// The run.
    #[getter]
    fn run(&self) -> Run {
        self.run.clone()
    }

    /// All of it, as in the run's `summary/<judge>.json`.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        as_dict(py, &self.summary)
    }

    /// The text of the run's `summary/<judge>.json`.
    fn to_json(&self) -> PyResult<String> {
        let text = serde_json::to_string_pretty(&self.summary);
        Ok(text.map_err(|error| failed(error.into()))? + "\n")
    }

    fn __repr__(&self) -> String {
        terminal_table(&self.summary, &self.summary.protocols(), false)
    }

    fn _repr_html_(&self) -> String {
        html_table(&self.summary, &self.summary.protocols())
    }
}
