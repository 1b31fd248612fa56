//! In: a run's answers, scored. Out: their table as a stream of Arrow's, in the form in which Python's libraries hand such streams
//! over (the PyCapsule interface): pyarrow, pandas, polars and duckdb take the columns as they are, without a copy and without a
//! file in between.

use std::ffi::OsString;
use std::path::PathBuf;

use dpg_bench::AnswerTable;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::errors::failed;
use crate::run::Folder;

/// The table of a judge's answers, one row an image and question.
#[pyclass(frozen, module = "dpg_bench")]
pub(crate) struct Answers {
    pub(crate) judge: String,
    pub(crate) table: AnswerTable,
    pub(crate) path: PathBuf,
    /// Kept as long as someone may read the file.
    pub(crate) _folder: Folder,
}

#[pymethods]
impl Answers {
    /// The Parquet file with the same table, as the last scoring wrote it.
    #[getter]
    fn path(&self) -> PyResult<PathBuf> {
        let shown = self.path.display();
        match self.path.is_file() {
            true => Ok(self.path.clone()),
            false => Err(failed(anyhow::anyhow!(
                "there is no {shown}; `dpg-bench score` on the run writes it"
            ))),
        }
    }

    /// What readers of Arrow's streams call. The kinds of the columns are always the same: `requested_schema` is a wish that need
    /// not be followed, and the reader casts.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let _ = requested_schema;
        // Whoever takes the stream over marks it as taken; one that nobody takes is released with the capsule.
        PyCapsule::new_with_value(py, self.table.stream(), c"arrow_array_stream")
    }

    /// As a table of pyarrow.
    fn to_arrow<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("pyarrow")?.call_method1("table", (slf,))
    }

    /// As a frame of pandas, which needs pyarrow.
    fn to_pandas<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::to_arrow(slf)?.call_method0("to_pandas")
    }

    /// As a frame of polars.
    fn to_polars<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("polars")?.call_method1("DataFrame", (slf,))
    }

    fn __len__(&self) -> usize {
        self.table.rows()
    }

    fn __fspath__(&self) -> PyResult<OsString> {
        Ok(self.path()?.into_os_string())
    }

    fn __repr__(&self) -> String {
        format!("<Answers of {}: {} rows>", self.judge, self.table.rows())
    }
}
