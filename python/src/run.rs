//! In: a run directory. Out: its summary and its table of answers; nothing in it is changed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dpg_bench::{RunDirectory, choose_judge, scored_answers, scored_run};
use pyo3::prelude::*;
use tempfile::TempDir;

use crate::answers::Answers;
use crate::errors::{bad_input, failed};
use crate::evaluate::protocol_of;
use crate::summary::Summary;

/// Where a run is.
#[derive(Clone)]
pub(crate) enum Folder {
    /// Where the caller wants it.
    Kept(PathBuf),
    /// Removed with the last object that speaks of it.
    Temporary(Arc<TempDir>),
}

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }
}

/// A run on the disk.
#[pyclass(frozen, module = "dpg_bench")]
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) folder: Folder,
}

impl Run {
    fn directory(&self) -> PyResult<RunDirectory> {
        RunDirectory::open(self.folder.path()).map_err(|error| failed(error.into()))
    }
}

#[pymethods]
impl Run {
    /// Opens the run directory `path`.
    #[staticmethod]
    fn open(path: PathBuf) -> PyResult<Self> {
        RunDirectory::open(&path).map_err(|error| bad_input(error.into()))?;
        Ok(Self { folder: Folder::Kept(path) })
    }

    /// The run directory.
    #[getter]
    fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// The judges that have answered in it.
    #[getter]
    fn judges(&self) -> PyResult<Vec<String>> {
        self.directory()?.judges_with_answers().map_err(|error| failed(error.into()))
    }

    /// Its scores by the answers of `judge` (None: its only one). `benchmark` says where the benchmark is now, if it is not where
    /// the run found it.
    #[pyo3(signature = (judge=None, *, protocol="corrected", benchmark=None, allow_incomplete=false))]
    fn summary(
        &self,
        py: Python<'_>,
        judge: Option<&str>,
        protocol: &str,
        benchmark: Option<PathBuf>,
        allow_incomplete: bool,
    ) -> PyResult<Summary> {
        let protocol = protocol_of(protocol)?;
        let directory = self.directory()?;
        let scored =
            py.detach(|| scored_run(&directory, benchmark.as_deref(), judge, allow_incomplete));
        Summary::of(scored.map_err(failed)?, protocol, self.clone())
    }

    /// The table of answers of `judge` (None: its only one), one row an image and question, scored anew. `benchmark` is as for
    /// `summary`.
    #[pyo3(signature = (judge=None, *, benchmark=None))]
    fn answers(
        &self,
        py: Python<'_>,
        judge: Option<&str>,
        benchmark: Option<PathBuf>,
    ) -> PyResult<Answers> {
        let directory = self.directory()?;
        let found = py.detach(|| {
            let judge = choose_judge(&directory, judge)?;
            let path = directory.scores_path(&judge)?;
            let table = scored_answers(&directory, benchmark.as_deref(), Some(&judge))?;
            Ok(Answers { judge, table, path, _folder: self.folder.clone() })
        });
        found.map_err(failed)
    }

    fn __fspath__(&self) -> OsString {
        self.folder.path().as_os_str().to_owned()
    }

    fn __repr__(&self) -> String {
        format!("<Run {}>", self.folder.path().display())
    }
}
