//! In: what a network does with guidance, and what the user asks for. Out: whether there are two halves and how far they are
//! led apart, and sentences on both. The arithmetic is left to `denoise`.

use anyhow::{Result, ensure};

use super::options::DiffusionOptions;
use crate::checkpoint::load_report::LoadReport;

/// What becomes of the guidance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GuidanceUse {
    /// It leads from what the network says without the prompt to what it says with it.
    Halves,
    /// The network is told it, and sees the prompt alone; by what, in its configuration, that is known.
    Told(&'static str),
    /// The network was distilled without, and sees the prompt alone; by what, in its configuration, that is known.
    Without(&'static str),
}

/// The guidance of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guidance {
    /// As the user states it.
    pub(crate) strength: f64,
    usage: GuidanceUse,
    takes_true_cfg: bool,
    /// The second guidance, of a network that is told one, where it changes something.
    pub(crate) true_cfg: Option<f64>,
}

impl Guidance {
    /// Of a network that makes `usage` of it, under `options`; `takes_true_cfg` is whether its pipeline has a second one.
    pub(crate) fn new(
        usage: GuidanceUse,
        takes_true_cfg: bool,
        options: &DiffusionOptions,
    ) -> Result<Self> {
        if let Some(scale) = options.true_cfg {
            ensure!(
                takes_true_cfg && scale.is_finite(),
                "--true-cfg {scale}: it is a number for model flux, a guidance beside the one that its transformer is told; \
                 other models have --guidance alone"
            );
        }
        let negates = options.negative_prompt.is_some();
        let true_cfg = options.true_cfg.filter(|scale| *scale > 1.0 && negates);
        Ok(Self { strength: options.guidance, usage, takes_true_cfg, true_cfg })
    }

    /// Whether there is an unconditional half.
    pub(crate) fn has_halves(&self) -> bool {
        match self.usage {
            GuidanceUse::Halves => self.strength > 1.0,
            GuidanceUse::Told(_) | GuidanceUse::Without(_) => self.true_cfg.is_some(),
        }
    }

    /// How far the halves are led apart.
    pub(crate) fn scale(&self) -> f64 {
        self.true_cfg.unwrap_or(self.strength)
    }

    /// Tells of guidance and negative prompt, for a network by its name in sentences and its folder.
    pub(crate) fn describe(
        &self,
        (network, folder): (&str, &str),
        options: &DiffusionOptions,
        understood: &mut LoadReport,
    ) {
        let strength = self.strength;
        let (guidance, told) = match self.usage {
            GuidanceUse::Halves => return understood.line("guidance", strength.to_string()),
            GuidanceUse::Told(key) => (
                format!("{strength}, told to the {network}"),
                format!("is told the guidance ({key} in {folder}/config.json)"),
            ),
            GuidanceUse::Without(key) => {
                let told = format!("is not told the guidance (no {key} in {folder}/config.json)");
                if strength != 0.0 {
                    let sentence =
                        format!("guidance {strength} changes nothing: this {network} {told}");
                    understood.warn(sentence);
                }
                (format!("none: the {network} was distilled without"), told)
            }
        };
        understood.line("guidance", guidance);
        if let Some(scale) = self.true_cfg {
            understood.line("true cfg", format!("{scale}, away from the negative prompt"));
            return;
        }
        if let Some(scale) = options.true_cfg {
            understood.warn(format!(
                "--true-cfg {scale} changes nothing: it takes a number above 1 and a negative prompt"
            ));
        }
        if options.negative_prompt.as_ref().is_some_and(|text| !text.is_empty()) {
            let advice = if self.takes_true_cfg { ", without --true-cfg" } else { "" };
            understood.warn(format!(
                "the negative prompt changes nothing: this {network} {told} and sees the prompt alone{advice}"
            ));
        }
    }
}
