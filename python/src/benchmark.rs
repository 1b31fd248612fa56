//! In: a benchmark's name or path. Out: its items with prompts, questions and their graph.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dpg_bench::{Selection, Strictness, default_benchmark, load_benchmark};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::bad_input;

/// The name of the official benchmark, where `dpg-bench fetch benchmark` has put it.
const OFFICIAL: &str = "dpg";

/// A benchmark, or a part of it.
#[pyclass(frozen, module = "dpg_bench")]
pub(crate) struct Benchmark {
    pub(crate) whole: Arc<dpg_bench::Benchmark>,
    pub(crate) selection: Selection,
}

impl Benchmark {
    fn selected(&self) -> PyResult<Vec<&dpg_bench::Item>> {
        self.whole.select(&self.selection).map_err(|error| bad_input(error.into()))
    }
}

#[pymethods]
impl Benchmark {
    /// Loads `name`: "demo", "dpg" (the official one, downloaded before), or the path of a question file or its folder.
    #[staticmethod]
    #[pyo3(signature = (name, *, lenient=false))]
    fn load(py: Python<'_>, name: PathBuf, lenient: bool) -> PyResult<Self> {
        let strictness = if lenient { Strictness::Lenient } else { Strictness::Strict };
        let loaded = py.detach(|| match name.as_path() {
            name if name == Path::new(OFFICIAL) && !name.exists() => {
                default_benchmark(false, strictness)
            }
            name => load_benchmark(name, strictness),
        });
        let whole = Arc::new(loaded.map_err(bad_input)?);
        Ok(Self { whole, selection: Selection::default() })
    }

    /// A part of it; every argument narrows it.
    #[pyo3(signature = (*, items=Vec::new(), prefix=None, category=None, subset=None, limit=None))]
    fn select(
        &self,
        items: Vec<String>,
        prefix: Option<String>,
        category: Option<String>,
        subset: Option<usize>,
        limit: Option<usize>,
    ) -> PyResult<Self> {
        let selection = Selection { items, prefix, category, subset, limit };
        let part = Self { whole: Arc::clone(&self.whole), selection };
        part.selected()?;
        Ok(part)
    }

    /// Its items, in file order.
    #[getter]
    fn items(&self) -> PyResult<Vec<Item>> {
        Ok(self.selected()?.into_iter().map(Item::of).collect())
    }

    /// The prompt of each item, by its id.
    #[getter]
    fn prompts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let prompts = PyDict::new(py);
        for item in self.selected()? {
            prompts.set_item(&item.id, &item.prompt)?;
        }
        Ok(prompts)
    }

    /// The questions of each item, by its id.
    #[getter]
    fn questions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let questions = PyDict::new(py);
        for item in self.selected()? {
            questions.set_item(&item.id, Item::of(item).questions)?;
        }
        Ok(questions)
    }

    /// SHA-256 of what is asked, in hex.
    #[getter]
    fn digest(&self) -> &str {
        &self.whole.digest
    }

    fn __getitem__(&self, id: &str) -> PyResult<Item> {
        let found = self.selected()?.into_iter().find(|item| item.id == id);
        found.map(Item::of).ok_or_else(|| PyKeyError::new_err(id.to_owned()))
    }

    fn __len__(&self) -> PyResult<usize> {
        Ok(self.selected()?.len())
    }

    fn __repr__(&self) -> PyResult<String> {
        let items = self.selected()?;
        let questions: usize = items.iter().map(|item| item.graph.len()).sum();
        let path = self.whole.source.path.display();
        Ok(format!("<Benchmark {path}: {} items, {questions} questions>", items.len()))
    }
}

/// A prompt with its questions.
#[pyclass(frozen, get_all, module = "dpg_bench")]
pub(crate) struct Item {
    /// Its id, safe as a file name.
    id: String,
    /// The prompt.
    prompt: String,
    /// In file order.
    questions: Vec<Question>,
}

impl Item {
    fn of(item: &dpg_bench::Item) -> Self {
        let all = item.graph.questions();
        let question = |(place, question): (usize, &dpg_bench::Question)| Question {
            id: question.id,
            text: question.text.clone(),
            tuple: question.tuple.clone(),
            l1: question.category.l1().to_owned(),
            l2: question.category.l2().to_owned(),
            parents: item.graph.parents(place).iter().map(|parent| all[*parent].id).collect(),
        };
        let questions = all.iter().enumerate().map(question).collect();
        Self { id: item.id.clone(), prompt: item.prompt.clone(), questions }
    }
}

#[pymethods]
impl Item {
    /// The numbers of the questions that each question depends on, by its number.
    #[getter]
    fn graph<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let graph = PyDict::new(py);
        for question in &self.questions {
            graph.set_item(question.id, &question.parents)?;
        }
        Ok(graph)
    }

    fn __repr__(&self) -> String {
        format!("<Item {}: {} questions>", self.id, self.questions.len())
    }
}

/// A yes/no question about an image of an item.
#[pyclass(frozen, get_all, module = "dpg_bench")]
#[derive(Clone)]
pub(crate) struct Question {
    /// Its number inside the item.
    id: u32,
    /// What the judge is asked.
    text: String,
    /// The semantic tuple, e.g. `attribute - color (truck, red)`.
    tuple: String,
    /// Broad category.
    l1: String,
    /// Detailed category, with its L1.
    l2: String,
    /// Numbers of the questions that it depends on.
    parents: Vec<u32>,
}

#[pymethods]
impl Question {
    fn __repr__(&self) -> String {
        format!("<Question {}: {}>", self.id, self.text)
    }
}
