//! In: the flags that choose a judge. Out: the judge, or a sentence on a flag that is missing or belongs
//! to another one. What is done with it is left to `judge`.

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};

use super::chat_args::ChatArgs;
use super::endpoint_args::EndpointArgs;
use super::local_judge_args::LocalJudgeArgs;
use super::shared_args::one_kind_of_device;
use crate::compute::device::describe_device;
use crate::judge::Judge;
use crate::judge::blip_vqa::BlipVqaJudge;
use crate::judge::catalog::{self, JudgeKind, JudgeRow};
use crate::judge::mplug::{MplugJudge, MplugOptions};
use crate::judge::pool::JudgePool;
use crate::judge::qwen3_vl::{Qwen3VlJudge, Qwen3VlOptions};
use crate::judge::scripted::{Rule, ScriptedJudge};

/// What mPLUG's weights are, for the user.
const MPLUG_WEIGHTS: &str = "the folder of mplug_visual-question-answering_coco_large_en";

/// What BLIP's weights are.
const BLIP_WEIGHTS: &str = "the folder of a BLIP-VQA checkpoint such as Salesforce/blip-vqa-base";

/// Which judge, and how it is asked.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Judge")]
pub struct JudgeOptions {
    /// The judge: `demo-judge`, `scripted`, `endpoint`, `mplug`, `blip-vqa` or `qwen3-vl`; a comma list lets several answer, one after the
    /// other
    #[arg(long, value_name = "JUDGE,..", value_delimiter = ',')]
    pub judge: Vec<String>,
    /// Name that the answers are filed under; of several judges a comma list [default: the judge's]
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub judge_name: Vec<String>,
    /// Seed of `hash` and `category` rules, and of the endpoint's sampling [default: 0]
    #[arg(long, value_name = "N")]
    pub judge_seed: Option<u64>,

    /// scripted: `yes`, `no`, `hash:P` (yes with probability P, the same every time) or
    /// `category:entity=0.9,attribute=0.7,*=0.5`
    #[arg(long, value_name = "RULE", conflicts_with = "judge_answers")]
    pub judge_rule: Option<Rule>,
    /// scripted: CSV or JSONL with item, image (or `*`), question, answer and, if known,
    /// yes_probability
    #[arg(long, value_name = "FILE")]
    pub judge_answers: Option<PathBuf>,

    /// The judges that are asked in words.
    #[command(flatten)]
    pub chat: ChatArgs,
    /// The judge behind a server.
    #[command(flatten)]
    pub endpoint: EndpointArgs,
    /// The judges that compute here.
    #[command(flatten)]
    pub local: LocalJudgeArgs,
}

/// One of the judges asked for.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// Which judge it is.
    pub row: &'static JudgeRow,
    /// Name that its answers are filed under.
    pub name: String,
}

impl JudgeOptions {
    /// Has the judges that compute here use these devices, unless the user named others for them.
    pub fn share_devices(&mut self, devices: &[&str]) {
        let is_local = |judge: &String| {
            catalog::find(judge).is_ok_and(|row| catalog::LOCAL.contains(&row.kind))
        };
        if self.local.judge_device.is_empty() && self.judge.iter().any(is_local) {
            self.local.judge_device = devices.iter().map(|device| (*device).to_owned()).collect();
        }
    }

    /// The judges asked for, in order, once every flag is known to belong to one of them.
    ///
    /// # Errors
    /// No judge is named, one is unknown or named twice, their names are not as many, or a flag belongs to
    /// none of them.
    pub fn chosen(&self) -> anyhow::Result<Vec<Chosen>> {
        ensure!(
            !self.judge.is_empty(),
            "no judge is named; choose one with --judge: {}",
            catalog::listed()
        );
        ensure!(
            self.judge_name.is_empty() || self.judge_name.len() == self.judge.len(),
            "--judge-name has {} names for {} judges",
            self.judge_name.len(),
            self.judge.len()
        );
        let mut chosen: Vec<Chosen> = Vec::new();
        for (index, judge) in self.judge.iter().enumerate() {
            let row = catalog::find(judge).map_err(anyhow::Error::msg)?;
            let name = self.judge_name.get(index).unwrap_or(judge).clone();
            for earlier in &chosen {
                ensure!(earlier.row.name != row.name, "--judge names `{judge}` twice");
                ensure!(earlier.name != name, "--judge-name gives two judges the name `{name}`");
            }
            chosen.push(Chosen { row, name });
        }
        for (kinds, flag, given) in self.flags_of_some_judges() {
            if given && !chosen.iter().any(|chosen| kinds.contains(&chosen.row.kind)) {
                let names: Vec<String> =
                    chosen.iter().map(|chosen| format!("`{}`", chosen.row.name)).collect();
                bail!("{flag} is not for the judge {}; leave it out", names.join(" or "));
            }
        }
        let local = chosen.iter().filter(|chosen| {
            catalog::LOCAL.contains(&chosen.row.kind) && chosen.row.shipped.is_none()
        });
        let local: Vec<&str> = local.map(|chosen| chosen.row.name).collect();
        if let (true, [first, ..]) = (local.is_empty(), chosen.as_slice()) {
            let given = [
                ("--judge-weights", !self.local.judge_weights.is_empty()),
                ("--judge-revision", self.local.judge_revision.is_some()),
            ];
            for (flag, given) in given {
                let name = first.row.name;
                ensure!(!given, "the judge `{name}` has its weights inside; leave out {flag}");
            }
        }
        self.local.check_weights(&local)?;
        ensure!(
            self.local.judge_revision.is_none() || local.len() == 1,
            "--judge-revision does not say for which of the judges {} it is; let them answer one by one",
            local.join(", ")
        );
        Ok(chosen)
    }

    /// Whether the judges can be made from these flags; nothing is asked yet. No two of them are in memory
    /// at a time.
    ///
    /// # Errors
    /// A flag is missing, wrong or out of place, or a file or variable is not there.
    pub fn check(&self) -> anyhow::Result<()> {
        self.chosen()?.iter().try_for_each(|chosen| self.check_one(chosen))
    }

    /// Whether this judge can be made from these flags; nothing is asked yet.
    ///
    /// # Errors
    /// As [`JudgeOptions::check`].
    pub fn check_one(&self, chosen: &Chosen) -> anyhow::Result<()> {
        match chosen.row.kind {
            // Loading takes seconds and gigabytes; whether it can be done is known sooner.
            JudgeKind::Mplug if chosen.row.shipped.is_some() => self.check_devices("f32"),
            JudgeKind::Mplug => {
                self.check_devices("f32")?;
                MplugJudge::check(&self.local.weights(chosen.row.name, MPLUG_WEIGHTS)?)
            }
            JudgeKind::BlipVqa => {
                self.check_devices("f32")?;
                BlipVqaJudge::check(&self.local.weights(chosen.row.name, BLIP_WEIGHTS)?)
            }
            JudgeKind::Qwen3Vl => {
                self.check_devices("bf16")?;
                Qwen3VlJudge::check(&self.qwen3_vl(chosen.row.name)?)
            }
            JudgeKind::Scripted | JudgeKind::Endpoint => self.build(chosen).map(|_| ()),
        }
    }

    /// Makes a judge, on each device named for it, and says where it computes.
    ///
    /// # Errors
    /// As [`JudgeOptions::check`]; the devices are of several kinds.
    pub fn build(&self, chosen: &Chosen) -> anyhow::Result<(Box<dyn Judge>, String)> {
        let is_local = catalog::LOCAL.contains(&chosen.row.kind);
        let mut places = self.local.on_each_device();
        if !is_local || places.len() == 1 {
            return self.build_one(chosen);
        }
        let (mut judges, mut devices) = (Vec::new(), Vec::new());
        for local in places.drain(..) {
            let options = Self { local, ..self.clone() };
            let (judge, device) = options.build_one(chosen)?;
            judges.push(judge);
            devices.push(device);
        }
        one_kind_of_device(&devices)?;
        Ok((Box::new(JudgePool::new(judges)?), devices.join("; ")))
    }

    fn build_one(&self, chosen: &Chosen) -> anyhow::Result<(Box<dyn Judge>, String)> {
        let row = chosen.row;
        Ok(match row.kind {
            JudgeKind::Scripted => (Box::new(self.scripted()?), "none".to_owned()),
            JudgeKind::Endpoint => {
                let judge = self.endpoint.judge(&self.chat, self.judge_seed)?;
                (Box::new(judge), "remote".to_owned())
            }
            JudgeKind::Qwen3Vl => {
                let judge = Qwen3VlJudge::load(self.qwen3_vl(row.name)?)?;
                let device = describe_device(judge.device());
                (Box::new(judge), device)
            }
            JudgeKind::Mplug => {
                let unpacked = row.shipped.map(|folder| folder.unpack()).transpose();
                let unpacked =
                    unpacked.with_context(|| format!("{} cannot be unpacked", row.name))?;
                let weights = match &unpacked {
                    Some(folder) => folder.path().to_owned(),
                    None => self.local.weights(row.name, MPLUG_WEIGHTS)?,
                };
                let place = self.local.place("f32")?;
                let device = describe_device(&place.device);
                let judge = MplugJudge::load(
                    &weights,
                    MplugOptions {
                        together: self.local.judge_batch.unwrap_or(1) as usize,
                        revision: self.local.judge_revision.clone(),
                        ..MplugOptions::new(place)
                    },
                )?;
                if let Some(warning) = judge.warning() {
                    super::output::say(&format!("warning: {}: {warning}", weights.display()));
                }
                (Box::new(judge), device)
            }
            JudgeKind::BlipVqa => {
                let weights = self.local.weights(row.name, BLIP_WEIGHTS)?;
                let judge = BlipVqaJudge::load(&weights, self.local.place("f32")?)?
                    .with_revision(self.local.judge_revision.as_deref());
                let device = describe_device(judge.device());
                (Box::new(judge), device)
            }
        })
    }

    fn check_devices(&self, dtype: &str) -> anyhow::Result<()> {
        self.local.on_each_device().iter().try_for_each(|one| one.place(dtype).map(|_| ()))
    }

    /// Each flag that only some judges take, with these, and whether it was given.
    fn flags_of_some_judges(&self) -> Vec<(&'static [JudgeKind], &'static str, bool)> {
        const SCRIPTED: &[JudgeKind] = &[JudgeKind::Scripted];
        const ENDPOINT: &[JudgeKind] = &[JudgeKind::Endpoint];
        const CHAT: &[JudgeKind] = &[JudgeKind::Endpoint, JudgeKind::Qwen3Vl];
        const MPLUG: &[JudgeKind] = &[JudgeKind::Mplug];
        let mut flags = vec![
            (SCRIPTED, "--judge-rule", self.judge_rule.is_some()),
            (SCRIPTED, "--judge-answers", self.judge_answers.is_some()),
            (MPLUG, "--judge-batch", self.local.judge_batch.is_some()),
            (catalog::LOCAL, "--judge-revision", self.local.judge_revision.is_some()),
        ];
        flags.extend(self.chat.given().map(|(flag, given)| (CHAT, flag, given)));
        flags.extend(self.endpoint.given().map(|(flag, given)| (ENDPOINT, flag, given)));
        flags.extend(self.local.given().map(|(flag, given)| (catalog::LOCAL, flag, given)));
        flags
    }

    fn scripted(&self) -> anyhow::Result<ScriptedJudge> {
        match (&self.judge_rule, &self.judge_answers) {
            (Some(rule), None) => {
                Ok(ScriptedJudge::by_rule(rule.clone(), self.judge_seed.unwrap_or(0)))
            }
            (None, Some(path)) => Ok(ScriptedJudge::from_file(path)?),
            _ => bail!("the judge `scripted` needs either --judge-rule or --judge-answers"),
        }
    }

    fn qwen3_vl(&self, name: &str) -> anyhow::Result<Qwen3VlOptions> {
        let weights = self.local.weights(name, "the folder of a Qwen3-VL Instruct checkpoint")?;
        // As the checkpoints are published; f32 arithmetic on the processor either way.
        let default = Qwen3VlOptions::new(weights, self.local.place("bf16")?);
        Ok(Qwen3VlOptions {
            prompt: self.chat.judge_prompt.clone().unwrap_or(default.prompt),
            system_prompt: self.chat.judge_system_prompt.clone(),
            max_tokens: self.chat.judge_max_tokens.unwrap_or(default.max_tokens),
            revision: self.local.judge_revision.clone(),
            most_unparsable: self.chat.judge_max_unparsable.unwrap_or(default.most_unparsable),
            ..default
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: JudgeOptions,
    }

    /// The options of a command line.
    pub(in crate::cli) fn parse(flags: &[&str]) -> JudgeOptions {
        let line = ["x"].iter().chain(flags);
        Line::try_parse_from(line).map(|line| line.options).unwrap()
    }

    fn refused(flags: &[&str]) -> String {
        match parse(flags).check() {
            Err(error) => format!("{error:#}"),
            Ok(()) => panic!("{flags:?} made a judge"),
        }
    }

    /// The settings of the only judge, and the name that its answers are filed under.
    fn made(options: &JudgeOptions) -> (crate::results::Settings, String) {
        let [chosen] = &options.chosen().unwrap()[..] else { panic!("{options:?}") };
        (options.build(chosen).unwrap().0.settings(), chosen.name.clone())
    }

    #[test]
    fn what_is_missing_or_out_of_place_is_said() {
        for (flags, expected) in [
            (&[][..], "endpoint: a vision model"),
            (&["--judge", "mplug2"], "there is no judge `mplug2`"),
            (&["--judge", "mplug"], "needs --judge-weights, the folder of mplug_visual"),
            (
                &["--judge", "demo-judge", "--judge-weights", "x"],
                "demo-judge` has its weights inside; leave out --judge-weights",
            ),
            (
                &["--judge", "demo-judge", "--judge-revision", "x"],
                "demo-judge` has its weights inside; leave out --judge-revision",
            ),
            (&["--judge", "demo-judge", "--judge-dtype", "int8"], "dtype `int8`"),
            (
                &["--judge", "demo-judge,mplug", "--judge-weights", "demo-judge=x"],
                "for a judge that --judge does not name",
            ),
            (&["--judge", "mplug", "--judge-weights", "no/such"], "there is no model at no/such"),
            (
                &["--judge", "scripted", "--judge-rule", "yes", "--judge-batch", "2"],
                "--judge-batch is not for",
            ),
            (&["--judge", "scripted"], "either --judge-rule or --judge-answers"),
            (
                &["--judge", "scripted", "--judge-rule", "yes", "--judge-url", "http://x"],
                "--judge-url is not for",
            ),
            (
                &["--judge", "scripted", "--judge-rule", "yes", "--judge-device", "cpu"],
                "--judge-device is not for",
            ),
            (&["--judge", "qwen3-vl"], "needs --judge-weights, the folder of"),
            (&["--judge", "qwen3-vl", "--judge-weights", "no/such"], "no/such: there is no such"),
            (
                &["--judge", "qwen3-vl", "--judge-weights", "x", "--judge-batch", "2"],
                "--judge-batch is not for the judge `qwen3-vl`",
            ),
            (
                &["--judge", "qwen3-vl", "--judge-weights", "x", "--judge-dtype", "int8"],
                "dtype `int8`",
            ),
            (
                &["--judge", "qwen3-vl", "--judge-weights", ".", "--judge-prompt", "Is it?"],
                "must hold `{question}`",
            ),
            (&["--judge", "qwen3-vl", "--judge-weights", "src"], "config.json"),
            (&["--judge", "endpoint"], "needs --judge-url"),
            (&["--judge", "endpoint", "--judge-url", "http://x"], "needs --judge-model"),
            (
                &["--judge", "endpoint", "--judge-model", "m", "--judge-url", "x"],
                "must begin with http",
            ),
            (
                &[
                    "--judge",
                    "endpoint",
                    "--judge-model",
                    "m",
                    "--judge-url",
                    "http://x",
                    "--judge-key-env",
                    "DPG_BENCH_NO_SUCH_KEY",
                ],
                "DPG_BENCH_NO_SUCH_KEY",
            ),
            (
                &[
                    "--judge",
                    "endpoint",
                    "--judge-model",
                    "m",
                    "--judge-url",
                    "http://x",
                    "--judge-timeout=-1",
                ],
                "--judge-timeout -1",
            ),
            (&["--judge", "scripted", "--judge-answers", "no/such.csv"], "no/such.csv"),
        ] {
            let error = refused(flags);
            assert!(error.contains(expected), "{flags:?}: {error}");
        }
    }

    #[test]
    fn flags_reach_the_settings() {
        let endpoint = parse(&[
            "--judge",
            "endpoint",
            "--judge-url",
            "http://localhost:1",
            "--judge-model",
            "m",
            "--judge-seed",
            "3",
            "--judge-max-tokens",
            "9",
            "--judge-no-logprobs",
            "--judge-temperature",
            "0.5",
            "--judge-system-prompt",
            "s",
            "--judge-prompt",
            "{question}?",
            "--judge-body",
            "{\"top_p\": 0.5}",
            "--judge-key-env",
            "",
        ]);
        let (settings, name) = made(&endpoint);
        assert_eq!(name, "endpoint");
        assert_eq!(
            serde_json::to_value(settings).unwrap(),
            serde_json::json!({
                "judge": "endpoint", "url": "http://localhost:1/v1/chat/completions", "model": "m",
                "prompt": "{question}?", "system_prompt": "s",
                "request": {"temperature": 0.5, "max_tokens": 9, "seed": 3, "top_p": 0.5},
            })
        );
        let scripted =
            parse(&["--judge", "scripted", "--judge-rule", "hash:0.5", "--judge-name", "dry"]);
        let (settings, name) = made(&scripted);
        assert_eq!((settings["rule"].as_str(), name.as_str()), (Some("hash:0.5"), "dry"));
    }

    #[test]
    fn several_judges_share_a_line_and_each_flag_belongs_to_one_of_them() {
        let both = [
            "--judge",
            "scripted,endpoint",
            "--judge-name",
            "dry,server",
            "--judge-rule",
            "yes",
            "--judge-url",
            "http://localhost:1",
            "--judge-model",
            "m",
            "--judge-key-env",
            "",
        ];
        let options = parse(&both);
        options.check().unwrap();
        let names: Vec<String> =
            options.chosen().unwrap().into_iter().map(|chosen| chosen.name).collect();
        assert_eq!(names, ["dry", "server"]);
        for (flags, expected) in [
            (&["--judge", "scripted,scripted", "--judge-rule", "yes"][..], "`scripted` twice"),
            (&["--judge", "scripted,nobody"], "no judge `nobody`"),
            (&["--judge", "scripted,endpoint", "--judge-name", "a"], "1 names for 2 judges"),
            (&["--judge", "scripted,endpoint", "--judge-name", "a,a"], "two judges the name `a`"),
            (
                &["--judge", "scripted,endpoint", "--judge-device", "cpu"],
                "--judge-device is not for the judge `scripted` or `endpoint`",
            ),
            (&["--judge", "blip-vqa"], "needs --judge-weights, the folder of a BLIP-VQA"),
            (&["--judge", "blip-vqa", "--judge-weights", "no/such"], "no/such: there is no such"),
            (
                &["--judge", "blip-vqa", "--judge-weights", "blip-vqa=no/such"],
                "no/such: there is no such",
            ),
            (
                &["--judge", "blip-vqa,mplug", "--judge-revision", "v1"],
                "--judge-revision does not say for which of the judges blip-vqa, mplug",
            ),
            (
                &["--judge", "blip-vqa", "--judge-weights", "x", "--judge-batch", "2"],
                "--judge-batch is not for the judge `blip-vqa`",
            ),
            (
                &["--judge", "blip-vqa", "--judge-weights", "x", "--judge-dtype", "int8"],
                "dtype `int8`",
            ),
            (
                &["--judge", "blip-vqa", "--judge-weights", "endpoint=x"],
                "for a judge that --judge does not name",
            ),
            (
                &["--judge", "blip-vqa", "--judge-weights", "x", "--judge-weights", "y"],
                "twice for the same judge",
            ),
        ] {
            let error = refused(flags);
            assert!(error.contains(expected), "{flags:?}: {error}");
        }
        let unclear = parse(&["--judge-weights", "a=b"]).local;
        assert_eq!(unclear.judge_weights[0].path, PathBuf::from("a=b"));
        let error = unclear.check_weights(&["mplug", "blip-vqa"]).unwrap_err().to_string();
        assert!(error.contains("for which of the judges mplug, blip-vqa"), "{error}");
    }
}
