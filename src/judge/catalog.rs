//! In: nothing. Out: the judges that there are, as a plain table: what each needs, and how it is made of options. A new
//! judge is one file and one row here.

use super::DEFAULT_KEY_VARIABLE;
use super::Judge;
use super::blip_vqa::BlipVqaJudge;
use super::endpoint::EndpointJudge;
use super::mplug::{MplugJudge, MplugOptions};
use super::options::{JudgeOptions, OptionGroup};
use super::qwen3_vl::{Qwen3VlJudge, Qwen3VlOptions};
use super::scripted::ScriptedJudge;
use crate::checkpoint::shipped::{DEMO_JUDGE, ShippedFolder};
use crate::compute::device::{Place, describe_device};
use crate::near_names::did_you_mean;

/// Where a judge computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// It computes nothing.
    Nowhere,
    /// On a server.
    Server,
    /// Here.
    Here {
        /// Number format of its networks where the user names none.
        dtype: &'static str,
        /// What its weights are, for the user.
        weights: &'static str,
    },
}

/// One judge of the catalog.
#[derive(Debug)]
pub struct JudgeRow {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// What it needs, looked up anew at each call.
    pub needs: fn() -> Vec<Need>,
    /// Its weights, where they are inside the program.
    pub shipped: Option<&'static ShippedFolder>,
    /// Side in pixels of the square images of the demo, where it was made for them and the demo's benchmark alone.
    pub only_side: Option<u32>,
    /// Where it computes.
    pub runs: Runs,
    /// The options that it takes.
    pub takes: &'static [OptionGroup],
    /// Whether it can be made, as far as that is known without loading it.
    pub check: fn(&JudgeOptions, &Place) -> anyhow::Result<()>,
    /// Makes it, at a place of its own; where it computes nowhere or on a server, the place means nothing.
    pub load: fn(&JudgeOptions, Place) -> anyhow::Result<Box<dyn Judge>>,
}

impl JudgeRow {
    /// Whether it computes here, from weights of its own.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self.runs, Runs::Here { .. })
    }

    /// The places that the options name, at least one.
    ///
    /// # Errors
    /// A name means nothing, or there is no such device.
    pub fn places(&self, options: &JudgeOptions) -> anyhow::Result<Vec<Place>> {
        match self.runs {
            Runs::Here { dtype, .. } => {
                let names = options.local.device_names().into_iter();
                names.map(|name| options.local.place_on(name, dtype)).collect()
            }
            Runs::Nowhere | Runs::Server => Ok(vec![Place::parse("cpu", "f32")?]),
        }
    }

    /// What the record of a sitting says of a place.
    pub(crate) fn describe(&self, place: &Place) -> String {
        match self.runs {
            Runs::Here { .. } => describe_device(&place.device),
            Runs::Server => "remote".to_owned(),
            Runs::Nowhere => "none".to_owned(),
        }
    }
}

/// A flag, file or variable that a judge needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// What it is.
    pub what: String,
    /// Whether it is there; `None` where that is known only when the judge is asked for.
    pub present: Option<bool>,
}

/// The judge of the demo's pictures.
pub(crate) const DEMO: &str = "demo-judge";

/// Where mPLUG computes, whatever its size.
const MPLUG: Runs = Runs::Here {
    dtype: "f32",
    weights: "the folder of mplug_visual-question-answering_coco_large_en",
};

fn load_mplug(options: &JudgeOptions, place: Place) -> anyhow::Result<Box<dyn Judge>> {
    let made = MplugOptions {
        together: options.local.batch.unwrap_or(1) as usize,
        revision: options.local.revision.clone(),
        ..MplugOptions::new(place)
    };
    Ok(Box::new(MplugJudge::load(options.local.weights()?, made)?))
}

/// All judges.
pub(crate) const JUDGES: &[JudgeRow] = &[
    JudgeRow {
        name: "scripted",
        summary: "answers by a stated rule or out of a file, without looking: for dry runs and tests",
        needs: || {
            vec![Need {
                what: "--judge-rule RULE or --judge-answers FILE".to_owned(),
                present: None,
            }]
        },
        shipped: None,
        only_side: None,
        runs: Runs::Nowhere,
        takes: &[OptionGroup::Scripted, OptionGroup::Seed],
        check: |options, _| ScriptedJudge::from_options(options).map(|_| ()),
        load: |options, _| Ok(Box::new(ScriptedJudge::from_options(options)?)),
    },
    JudgeRow {
        name: "endpoint",
        summary: "a vision model behind an OpenAI-compatible chat API (vLLM, SGLang, llama.cpp, hosted)",
        needs: || {
            let key = std::env::var_os(DEFAULT_KEY_VARIABLE).is_some_and(|value| !value.is_empty());
            vec![
                Need { what: "--judge-url URL and --judge-model NAME".to_owned(), present: None },
                Need {
                    what: format!("a key in {DEFAULT_KEY_VARIABLE}, where the server wants one"),
                    present: Some(key),
                },
            ]
        },
        shipped: None,
        only_side: None,
        runs: Runs::Server,
        takes: &[OptionGroup::Endpoint, OptionGroup::Chat, OptionGroup::Seed],
        check: |options, _| EndpointJudge::from_options(options).map(|_| ()),
        load: |options, _| Ok(Box::new(EndpointJudge::from_options(options)?)),
    },
    JudgeRow {
        name: DEMO,
        summary: "inside the program: mPLUG at small size, trained on drawn shapes of 64 x 64 pixels; for the demo's \
                  benchmark only",
        needs: Vec::new,
        shipped: Some(&DEMO_JUDGE),
        only_side: Some(64),
        runs: MPLUG,
        takes: &[OptionGroup::Local, OptionGroup::Batch, OptionGroup::Force],
        check: |options, _| MplugJudge::check(options.local.weights()?),
        load: load_mplug,
    },
    JudgeRow {
        name: "mplug",
        summary: "mPLUG-large, the judge of the published numbers, computed here; an image is encoded once for all questions",
        needs: || {
            vec![Need {
                what: "--judge-weights FOLDER, the model as published: config.yaml, \
                       config_bert.json, vocab.txt, pytorch_model.bin; or what `convert` makes of it"
                    .to_owned(),
                present: None,
            }]
        },
        shipped: None,
        only_side: None,
        runs: MPLUG,
        takes: &[OptionGroup::Local, OptionGroup::Batch],
        check: |options, _| MplugJudge::check(options.local.weights()?),
        load: load_mplug,
    },
    JudgeRow {
        name: "blip-vqa",
        summary: "BLIP-VQA (Salesforce/blip-vqa-base), computed here; an image is encoded once for all questions",
        needs: || {
            vec![Need {
                what: "--judge-weights FOLDER, a checkpoint as published (config.json, \
                       preprocessor_config.json, vocab.txt, model.safetensors or pytorch_model.bin) or as \
                       transformers 5 saves it"
                    .to_owned(),
                present: None,
            }]
        },
        shipped: None,
        only_side: None,
        runs: Runs::Here {
            dtype: "f32",
            weights: "the folder of a BLIP-VQA checkpoint such as Salesforce/blip-vqa-base",
        },
        takes: &[OptionGroup::Local],
        check: |options, _| BlipVqaJudge::check(options.local.weights()?),
        load: |options, place| {
            let judge = BlipVqaJudge::load(options.local.weights()?, place)?;
            Ok(Box::new(judge.with_revision(options.local.revision.as_deref())))
        },
    },
    JudgeRow {
        name: "qwen3-vl",
        summary: "Qwen3-VL Instruct (2B, 4B, 8B), computed here; an image is seen once for all questions",
        needs: || {
            vec![Need {
                what: "--judge-weights FOLDER, a checkpoint as published \
                       (Qwen/Qwen3-VL-2B-Instruct)"
                    .to_owned(),
                present: None,
            }]
        },
        shipped: None,
        only_side: None,
        // As the checkpoints are published; f32 arithmetic on the processor either way.
        runs: Runs::Here { dtype: "bf16", weights: "the folder of a Qwen3-VL Instruct checkpoint" },
        takes: &[OptionGroup::Local, OptionGroup::Chat],
        check: |options, place| {
            Qwen3VlJudge::check(&Qwen3VlOptions::from_options(options, place.clone())?)
        },
        load: |options, place| {
            Ok(Box::new(Qwen3VlJudge::load(Qwen3VlOptions::from_options(options, place)?)?))
        },
    },
];

/// The judge of that name.
///
/// # Errors
/// There is none; the sentence lists those that there are.
pub fn find(name: &str) -> Result<&'static JudgeRow, String> {
    JUDGES.iter().find(|row| row.name == name).ok_or_else(|| {
        let near = did_you_mean(name, JUDGES.iter().map(|row| row.name));
        format!("there is no judge `{name}`{near}; {}", listed())
    })
}

/// `scripted, endpoint, ...`.
pub(crate) fn names() -> String {
    JUDGES.iter().map(|row| row.name).collect::<Vec<_>>().join(", ")
}

/// The names of all judges, for messages.
pub fn listed() -> String {
    let rows: Vec<String> =
        JUDGES.iter().map(|row| format!("\n  {}: {}", row.name, row.summary)).collect();
    format!("the judges are:{}", rows.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_are_found_by_name_and_listed_where_there_is_none() {
        for row in JUDGES {
            assert_eq!(find(row.name).unwrap().name, row.name);
            assert_eq!((row.needs)().is_empty(), row.shipped.is_some());
        }
        let error = find("mplug2").unwrap_err();
        assert!(error.contains("judge `mplug2` (did you mean `mplug`?);"), "{error}");
        assert!(JUDGES.iter().all(|row| error.contains(row.name)));
    }
}
