//! In: `scores/<judge>.parquet` of a run. Out: its table in pandas, polars or pyarrow, each of which reads the file by itself, so that
//! nothing is copied in between.

use std::ffi::OsString;
use std::path::PathBuf;

use pyo3::prelude::*;

use crate::run::Folder;

/// The table of a judge's answers, one row an image and question.
#[pyclass(frozen, module = "dpg_bench")]
pub(crate) struct Answers {
    pub(crate) path: PathBuf,
    /// Kept as long as someone may read it.
    pub(crate) _folder: Folder,
}

impl Answers {
    fn read<'py>(&self, py: Python<'py>, module: &str, by: &str) -> PyResult<Bound<'py, PyAny>> {
        py.import(module)?.call_method1(by, (self.path.as_os_str(),))
    }
}

#[pymethods]
impl Answers {
    /// The Parquet file.
    #[getter]
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// As a table of pyarrow.
    fn to_arrow<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.read(py, "pyarrow.parquet", "read_table")
    }

    /// As a frame of pandas, which needs pyarrow.
    fn to_pandas<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.read(py, "pandas", "read_parquet")
    }

    /// As a frame of polars.
    fn to_polars<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.read(py, "polars", "read_parquet")
    }

    fn __fspath__(&self) -> OsString {
        self.path.as_os_str().to_owned()
    }

    fn __repr__(&self) -> String {
        format!("<Answers {}>", self.path.display())
    }
}
