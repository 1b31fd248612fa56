//! In: nothing. Out: the judges that there are, as a plain table. A new judge is one file, one row here
//! and its flags on the command line.

use crate::checkpoint::shipped::{DEMO_JUDGE, ShippedFolder};

/// The variable that holds the endpoint's key unless another is named.
pub const DEFAULT_KEY_VARIABLE: &str = "OPENAI_API_KEY";

/// Which judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JudgeKind {
    /// Answers by a rule or out of a file.
    Scripted,
    /// A model behind an OpenAI-compatible chat API.
    Endpoint,
    /// mPLUG, the judge of the published numbers, computed here.
    Mplug,
    /// BLIP-VQA, computed here.
    BlipVqa,
    /// Qwen3-VL, computed here.
    Qwen3Vl,
}

/// The judges that compute here, from weights of their own.
pub const LOCAL: &[JudgeKind] = &[JudgeKind::Mplug, JudgeKind::BlipVqa, JudgeKind::Qwen3Vl];

/// One judge of the catalog.
#[derive(Debug)]
pub struct JudgeRow {
    /// Which.
    pub kind: JudgeKind,
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// What it needs, looked up anew at each call.
    pub needs: fn() -> Vec<Need>,
    /// Its weights, where they are inside the program.
    pub shipped: Option<ShippedFolder>,
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
pub const DEMO: &str = "demo-judge";

/// All judges.
pub const JUDGES: &[JudgeRow] = &[
    JudgeRow {
        kind: JudgeKind::Scripted,
        name: "scripted",
        summary: "answers by a stated rule or out of a file, without looking: for dry runs and tests",
        needs: || {
            vec![Need {
                what: "--judge-rule RULE or --judge-answers FILE".to_owned(),
                present: None,
            }]
        },
        shipped: None,
    },
    JudgeRow {
        kind: JudgeKind::Endpoint,
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
    },
    JudgeRow {
        kind: JudgeKind::Mplug,
        name: DEMO,
        summary: "inside the program: mPLUG at small size, trained on drawn shapes of 64 x 64 pixels; for the demo's \
                  benchmark only",
        needs: Vec::new,
        shipped: Some(DEMO_JUDGE),
    },
    JudgeRow {
        kind: JudgeKind::Mplug,
        name: "mplug",
        summary: "mPLUG-large, the judge of the published numbers, computed here; a picture is encoded once for all questions",
        needs: || {
            vec![Need {
                what: "--judge-weights FOLDER, the model as published: config.yaml, \
                       config_bert.json, vocab.txt, pytorch_model.bin; or what `convert` makes of it"
                    .to_owned(),
                present: None,
            }]
        },
        shipped: None,
    },
    JudgeRow {
        kind: JudgeKind::BlipVqa,
        name: "blip-vqa",
        summary: "BLIP-VQA (Salesforce/blip-vqa-base), computed here; a picture is encoded once for all questions",
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
    },
    JudgeRow {
        kind: JudgeKind::Qwen3Vl,
        name: "qwen3-vl",
        summary: "Qwen3-VL Instruct (2B, 4B, 8B), computed here; a picture is seen once for all questions",
        needs: || {
            vec![Need {
                what: "--judge-weights FOLDER, a checkpoint as published \
                       (Qwen/Qwen3-VL-2B-Instruct)"
                    .to_owned(),
                present: None,
            }]
        },
        shipped: None,
    },
];

/// The judge of that name.
///
/// # Errors
/// There is none; the sentence lists those that there are.
pub fn find(name: &str) -> Result<&'static JudgeRow, String> {
    JUDGES
        .iter()
        .find(|row| row.name == name)
        .ok_or_else(|| format!("there is no judge `{name}`; {}", listed()))
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
            assert_eq!(find(row.name).unwrap().kind, row.kind);
            assert_eq!((row.needs)().is_empty(), row.shipped.is_some());
        }
        let error = find("mplug2").unwrap_err();
        assert!(error.contains("`mplug2`") && JUDGES.iter().all(|row| error.contains(row.name)));
    }
}
