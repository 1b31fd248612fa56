//! In: the flags of the judges that compute here. Out: whose weights are where, and the plain options of each judge, or
//! a sentence on a path that belongs to none or to several.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{bail, ensure};

use crate::cli::args::shared::{known_devices, known_dtype, products_name};
use crate::compute::products::Products;
use crate::judge::catalog;
use crate::session::judge_options::LocalJudgeOptions;

/// Weights and device of a judge that computes here.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct LocalJudgeArgs {
    /// local judges: folder of the judge's model, as published, a file that `convert` wrote, or OWNER/NAME of a model
    /// in the local Hugging Face cache; with several such judges JUDGE=PATH for each [default: what `fetch JUDGE` got]
    #[arg(long, value_name = "[JUDGE=]PATH")]
    pub judge_weights: Vec<JudgeWeights>,
    /// local judges: where it computes: `auto`, `cpu` or `cuda[:INDEX]`; a comma list has the judge on each
    /// of them, and they share the work [default: in `run` where the model does,
    /// else auto]
    #[arg(long, value_name = "DEVICE,..", value_delimiter = ',')]
    pub judge_device: Vec<String>,
    /// local judges: number format of its networks: `f32`, `f16` or `bf16` [default: that of the judge's
    /// original]
    #[arg(long, value_name = "DTYPE")]
    pub judge_dtype: Option<String>,
    /// local judges: how the factors of products are rounded on the processor: `f32` (not at all), `bf16x3` (to some 17
    /// bits) or `bf16` (to 8), by the matrix tiles of Intel's Xeons (AMX). Where there are none, products run in f32
    /// [default: f32]
    #[arg(long, value_name = "PRODUCTS", value_parser = products_name)]
    pub judge_products: Option<Products>,
    /// mplug: images of an item that are looked at together; changes the speed and the memory, never an answer
    /// [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub judge_batch: Option<u32>,
    /// local judges: revision of the weights as their publisher names it, to be recorded beside their digest;
    /// for one such judge at a time
    #[arg(long, value_name = "NAME")]
    pub judge_revision: Option<String>,
}

/// Whose weights are where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JudgeWeights {
    /// The judge; `None` where the path stands alone.
    pub judge: Option<String>,
    /// Folder or file.
    pub path: PathBuf,
}

/// `JUDGE=PATH` where what stands before the first `=` is a judge; anything else is a path.
impl From<OsString> for JudgeWeights {
    fn from(text: OsString) -> Self {
        let named = text.to_str().and_then(|text| text.split_once('='));
        match named.filter(|(judge, _)| catalog::find(judge).is_ok()) {
            Some((judge, path)) => Self { judge: Some(judge.to_owned()), path: path.into() },
            None => Self { judge: None, path: text.into() },
        }
    }
}

impl LocalJudgeArgs {
    /// The options of the judge `judge`.
    ///
    /// # Errors
    /// A device or number format is spelled in no known way.
    pub(crate) fn options(&self, judge: &str) -> anyhow::Result<LocalJudgeOptions> {
        known_devices("--judge-device", &self.judge_device)?;
        let dtype = self.judge_dtype.as_deref().map(|name| known_dtype("--judge-dtype", name));
        let named = |given: &&JudgeWeights| given.judge.as_deref() == Some(judge);
        let own = self.judge_weights.iter().find(named);
        let weights = own.or_else(|| self.judge_weights.iter().find(|given| given.judge.is_none()));
        Ok(LocalJudgeOptions {
            weights: weights.map(|given| given.path.clone()),
            devices: self.judge_device.clone(),
            dtype: dtype.transpose()?,
            products: self.judge_products,
            batch: self.judge_batch,
            revision: self.judge_revision.clone(),
        })
    }

    /// Makes sure that every path belongs to one of the `judges`, local ones among those asked for.
    ///
    /// # Errors
    /// A path is for another judge, or it is open whose it is.
    pub(crate) fn check_weights(&self, judges: &[&str]) -> anyhow::Result<()> {
        for (index, given) in self.judge_weights.iter().enumerate() {
            let path = given.path.display();
            match &given.judge {
                Some(judge) if !judges.contains(&judge.as_str()) => bail!(
                    "--judge-weights {judge}={path} is for a judge that --judge does not name; leave \
                     it out"
                ),
                None if judges.len() > 1 => bail!(
                    "--judge-weights {path} does not say for which of the judges {} it is; write \
                     JUDGE={path}",
                    judges.join(", ")
                ),
                judge => ensure!(
                    self.judge_weights[..index].iter().all(|earlier| earlier.judge != *judge),
                    "--judge-weights is given twice for the same judge"
                ),
            }
        }
        Ok(())
    }
}
