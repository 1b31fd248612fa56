//! In: which judge, and what the user says of it. Out: whether it can be had, or a sentence on what is missing or
//! is another judge's. Loading it is left to `loaded_judge`.

use std::path::PathBuf;

use anyhow::{anyhow, bail, ensure};

use super::fetched;
use crate::compute::device::describe_device;
use crate::fetch::Role;
use crate::judge::catalog::{self, JudgeRow, Runs};
pub use crate::judge::options::{
    ChatOptions, EndpointChoice, JudgeOptions, LocalJudgeOptions, OptionGroup, ScriptedOptions,
};

impl JudgeOptions {
    /// Its row of the catalog.
    ///
    /// # Errors
    /// There is no such judge.
    pub(crate) fn row(&self) -> anyhow::Result<&'static JudgeRow> {
        catalog::find(&self.judge).map_err(anyhow::Error::msg)
    }

    /// Whether it computes here, from weights of its own.
    pub fn is_local(&self) -> bool {
        self.row().is_ok_and(JudgeRow::is_local)
    }

    /// Has a judge that computes here use these devices, unless others were named for it.
    pub fn share_devices(&mut self, devices: &[&str]) {
        if self.local.devices.is_empty() && self.is_local() {
            self.local.devices = devices.iter().map(|device| (*device).to_owned()).collect();
        }
    }

    /// The devices that it computes on, as `describe_device` tells.
    ///
    /// # Errors
    /// A name means nothing, or there is no such device.
    pub fn devices(&self) -> anyhow::Result<Vec<String>> {
        let described = |name| Ok(describe_device(&self.local.place_on(name, "f32")?.device));
        self.local.device_names().into_iter().map(described).collect()
    }

    /// Whether the judge can be made from these options; nothing is loaded or asked yet.
    ///
    /// # Errors
    /// An option is missing, wrong or another judge's, or a file or variable is not there.
    pub fn check(&self) -> anyhow::Result<()> {
        let row = self.row()?;
        self.refuse_idle(row)?;
        // Loading takes seconds and gigabytes; whether it can be done is known sooner.
        let places = row.places(self)?;
        if row.shipped.is_some() {
            return Ok(());
        }
        let options = self.with_weights(row)?;
        places.iter().take(1).try_for_each(|place| (row.check)(&options, place))
    }

    /// Refuses options that the judge does not take.
    ///
    /// # Errors
    /// One was given.
    pub(super) fn refuse_idle(&self, row: &JudgeRow) -> anyhow::Result<()> {
        if let Some(flag) = self.given_beside(row.takes) {
            bail!("{flag} is not for the judge `{}`; leave it out", row.name);
        }
        let given = [
            ("--judge-weights", self.local.weights.is_some()),
            ("--judge-revision", self.local.revision.is_some()),
        ];
        for (flag, given) in given {
            let is_idle = given && row.shipped.is_some();
            ensure!(!is_idle, "the judge `{}` has its weights inside; leave out {flag}", row.name);
        }
        Ok(())
    }

    /// The same options, with the weights that were fetched where none are named.
    ///
    /// # Errors
    /// None were named or fetched, or there is nothing of the name.
    pub(super) fn with_weights(&self, row: &JudgeRow) -> anyhow::Result<Self> {
        let mut options = self.clone();
        if let Runs::Here { weights, .. } = row.runs {
            options.local.weights = Some(match &self.local.weights {
                Some(named) => fetched::named(named)?,
                None => fetched_weights(row.name, weights)?,
            });
        }
        Ok(options)
    }
}

/// Where the weights of the judge `judge` were fetched to; `what` says what they are.
fn fetched_weights(judge: &str, what: &str) -> anyhow::Result<PathBuf> {
    fetched::part(judge, Role::Judge)?.ok_or_else(|| {
        let advice = fetched::advice(judge, Role::Judge);
        let advice = advice.map_or_else(String::new, |advice| format!("; {advice}"));
        anyhow!("the judge `{judge}` needs --judge-weights, {what}{advice}")
    })
}
