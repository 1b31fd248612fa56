//! In: `scores/<judge>.parquet`. Out: its table by Arrow's C interface, from which pyarrow, pandas, polars, duckdb and others take it
//! over without copying.

use std::path::Path;

use anyhow::Context;
use polars::prelude::{CompatLevel, DataFrame, ParquetReader, SerReader};
use polars_arrow::array::{Array, StructArray};
use polars_arrow::datatypes::{ArrowDataType, Field};
use polars_arrow::ffi::{ArrowArrayStream, export_iterator};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

/// A table of answers, one row an image and question.
#[pyclass(frozen, module = "dpg_bench")]
pub(crate) struct Answers {
    table: DataFrame,
}

impl Answers {
    /// # Errors
    /// The run was not scored, or the table is damaged.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let file = std::fs::File::open(path).with_context(|| {
            format!("{shown} cannot be opened; `dpg-bench score` on the run writes it")
        })?;
        let table = ParquetReader::new(file).finish();
        let mut table = table.with_context(|| format!("{shown} cannot be read"))?;
        table.rechunk_mut();
        Ok(Self { table })
    }

    fn stream(&self) -> ArrowArrayStream {
        // Texts as every reader knows them, not as `string_view`.
        let level = CompatLevel::oldest();
        let fields: Vec<Field> =
            self.table.columns().iter().map(|column| column.field().to_arrow(level)).collect();
        let kind = ArrowDataType::Struct(fields);
        let batches: Vec<Box<dyn Array>> = self
            .table
            .iter_chunks(level, false)
            .map(|batch| {
                let (height, arrays) = (batch.len(), batch.into_arrays());
                StructArray::new(kind.clone(), height, arrays, None).boxed()
            })
            .collect();
        export_iterator(Box::new(batches.into_iter().map(Ok)), Field::new("".into(), kind, false))
    }
}

#[pymethods]
impl Answers {
    /// Arrow's PyCapsule interface.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // The interface lets a table be given as it is.
        drop(requested_schema);
        PyCapsule::new_with_value(py, self.stream(), c"arrow_array_stream")
    }

    /// As a table of pyarrow.
    fn to_arrow<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("pyarrow")?.call_method1("table", (slf,))
    }

    /// As a frame of pandas, by pyarrow.
    fn to_pandas<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::to_arrow(slf)?.call_method0("to_pandas")
    }

    /// As a frame of polars.
    fn to_polars<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("polars")?.call_method1("DataFrame", (slf,))
    }

    /// The names of its columns.
    #[getter]
    fn columns(&self) -> Vec<String> {
        self.table.get_column_names().into_iter().map(ToString::to_string).collect()
    }

    fn __len__(&self) -> usize {
        self.table.height()
    }

    fn __repr__(&self) -> String {
        format!("<Answers: {} rows>", self.table.height())
    }
}
