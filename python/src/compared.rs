//! In: runs. Out: how two differ, whether one is worse than a baseline, a report on several.

use std::path::PathBuf;

use dpg_bench::{
    Difference, Gate, Outcome, ReportOptions, check_run, check_terminal, compare_runs,
    comparison_terminal, report_to,
};
use pyo3::prelude::*;

use crate::errors::{bad_input, failed};
use crate::evaluate::protocol_of;
use crate::work::carry_out;

/// Items shown that lost and that won most.
const SWINGS: usize = 10;

/// What a record says, as Python's own dicts and lists.
pub(crate) fn as_dict<'py>(
    py: Python<'py>,
    record: &impl serde::Serialize,
) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_string(record).map_err(|error| failed(error.into()))?;
    py.import("json")?.call_method1("loads", (text,))
}

/// How `other` differs from `base`: run directories, runs or baseline files, with the answers of `judge` (None: their only one),
/// under `corrected`.
#[pyfunction]
#[pyo3(signature = (base, other, *, judge=None))]
pub(crate) fn compare(
    py: Python<'_>,
    base: PathBuf,
    other: PathBuf,
    judge: Option<&str>,
) -> PyResult<Comparison> {
    let found = py.detach(|| compare_runs(&base, &other, judge)).map_err(failed)?;
    Ok(Comparison { found })
}

/// Whether `run` is worse than `baseline`, a run or a baseline file, by more than `max_drop` points, with the answers of `judge`
/// (None: their only one).
#[pyfunction]
#[pyo3(signature = (run, baseline, *, judge=None, max_drop=1.0, alpha=0.05, categories=Vec::new()))]
pub(crate) fn check(
    py: Python<'_>,
    run: PathBuf,
    baseline: PathBuf,
    judge: Option<&str>,
    max_drop: f64,
    alpha: f64,
    categories: Vec<String>,
) -> PyResult<Check> {
    let gate = Gate { max_drop, alpha, categories };
    let found = py.detach(|| check_run(&run, &baseline, &gate, judge)).map_err(failed)?;
    Ok(Check { found })
}

/// Writes a report on `runs` into the folder `out` and returns its page.
#[pyfunction]
#[pyo3(signature = (runs, out, *, judge=None, protocol="corrected", force=false))]
pub(crate) fn report(
    py: Python<'_>,
    runs: Vec<PathBuf>,
    out: PathBuf,
    judge: Option<String>,
    protocol: &str,
    force: bool,
) -> PyResult<PathBuf> {
    if runs.is_empty() {
        return Err(bad_input(anyhow::anyhow!("a report needs a run")));
    }
    let protocol = protocol_of(protocol)?;
    let options = ReportOptions { judge, protocol, force, ..ReportOptions::new(runs, &out) };
    let report = carry_out(py, move |desk| report_to(&options, desk))?;
    Ok(report.written.page)
}

/// How two runs differ; `other - base`, in points.
#[pyclass(frozen, module = "dpg_bench")]
pub(crate) struct Comparison {
    found: dpg_bench::Comparison,
}

impl Comparison {
    /// The benchmark score, which comes first.
    fn score(&self) -> Option<&Difference> {
        self.found.figures.first()
    }
}

#[pymethods]
impl Comparison {
    /// Of the benchmark score.
    #[getter]
    fn difference(&self) -> Option<f64> {
        self.score().map(|score| score.difference)
    }

    /// Lower end of the difference's 95 % interval.
    #[getter]
    fn low(&self) -> Option<f64> {
        self.score()?.low
    }

    /// Upper end of the difference's 95 % interval.
    #[getter]
    fn high(&self) -> Option<f64> {
        self.score()?.high
    }

    /// Two-sided p-value of no difference in the benchmark score.
    #[getter]
    fn p(&self) -> Option<f64> {
        self.score()?.p
    }

    /// Items with a score in both.
    #[getter]
    fn items(&self) -> usize {
        self.found.items
    }

    /// What makes the runs differ beside what is compared.
    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.found.warnings.clone()
    }

    /// All of it, as `dpg-bench compare --json` prints it.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        as_dict(py, &self.found)
    }

    fn __repr__(&self) -> String {
        comparison_terminal(&self.found, SWINGS)
    }
}

/// What a check of a run found.
#[pyclass(frozen, module = "dpg_bench")]
pub(crate) struct Check {
    found: dpg_bench::Check,
}

#[pymethods]
impl Check {
    /// `passed`, `failed` or `undecided`.
    #[getter]
    fn outcome(&self) -> &'static str {
        self.found.outcome.name()
    }

    /// Whether it passed; what is undecided has not.
    #[getter]
    fn passed(&self) -> bool {
        self.found.outcome == Outcome::Passed
    }

    /// All of it, as `dpg-bench check --json` prints it.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        as_dict(py, &self.found)
    }

    fn __repr__(&self) -> String {
        check_terminal(&self.found)
    }
}
