//! In: the flags that choose judges. Out: the plain options of each judge, or a sentence on a flag that is missing or
//! belongs to none of them.

use std::path::PathBuf;

use anyhow::{bail, ensure};

use crate::cli::args::chat::ChatArgs;
use crate::cli::args::endpoint::EndpointArgs;
use crate::cli::args::local_judge::LocalJudgeArgs;
use crate::judge::catalog;
use crate::judge::scripted::Rule;
use crate::session::judge_options::{JudgeOptions, OptionGroup, ScriptedOptions};
use crate::wording::counted;

/// Which judge, and how it is asked.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Judge")]
pub(crate) struct JudgeArgs {
    /// Names of the catalog.
    #[arg(short, long, value_name = "JUDGE,..", value_delimiter = ',', help = judge_help())]
    pub judge: Vec<String>,
    /// Name that the answers are filed under; of several judges a comma list [default: the judge's]
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub judge_name: Vec<String>,
    /// Seed of `hash` and `category` rules, and of the endpoint's sampling [default: 0]
    #[arg(long, value_name = "N")]
    pub judge_seed: Option<u64>,

    /// demo-judge: ask it also about another benchmark than the demo, or images of another size than 64 x 64, about
    /// which its answers mean nothing
    #[arg(long)]
    pub judge_force: bool,

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

fn judge_help() -> String {
    let names = catalog::names();
    format!("The judge: {names}; a comma list lets several answer, one after the other")
}

impl JudgeArgs {
    /// The judges asked for, in order, once every flag is known to belong to one of them.
    ///
    /// # Errors
    /// No judge is named, one is unknown or named twice, their names are not as many, or a flag belongs to
    /// none of them.
    pub(crate) fn options(&self) -> anyhow::Result<Vec<JudgeOptions>> {
        ensure!(
            !self.judge.is_empty(),
            "no judge is named; choose one with --judge: {}",
            catalog::listed()
        );
        ensure!(
            self.judge_name.is_empty() || self.judge_name.len() == self.judge.len(),
            "--judge-name has {} for {}",
            counted(self.judge_name.len(), "name"),
            counted(self.judge.len(), "judge")
        );
        let mut rows = Vec::new();
        let mut chosen: Vec<JudgeOptions> = Vec::new();
        for (index, judge) in self.judge.iter().enumerate() {
            let row = catalog::find(judge).map_err(anyhow::Error::msg)?;
            let options = JudgeOptions {
                judge: judge.clone(),
                name: self.judge_name.get(index).cloned(),
                seed: self.judge_seed,
                force: self.judge_force,
                scripted: ScriptedOptions {
                    rule: self.judge_rule.clone(),
                    answers: self.judge_answers.clone(),
                },
                chat: self.chat.options(),
                endpoint: self.endpoint.options(),
                local: self.local.options(judge)?,
            };
            let name = options.filed_as();
            for earlier in &chosen {
                ensure!(earlier.judge != *judge, "--judge names `{judge}` twice");
                ensure!(
                    earlier.filed_as() != name,
                    "--judge-name gives two judges the name `{name}`"
                );
            }
            rows.push(row);
            chosen.push(options);
        }
        let groups: Vec<OptionGroup> = rows.iter().flat_map(|row| row.takes).copied().collect();
        let is_any_local = rows.iter().any(|row| row.is_local());
        let weights_in_vain = !self.local.judge_weights.is_empty() && !is_any_local;
        let idle = chosen.iter().find_map(|options| options.given_beside(&groups));
        if let Some(flag) = idle.or(weights_in_vain.then_some("--judge-weights")) {
            let names: Vec<String> =
                chosen.iter().map(|options| format!("`{}`", options.judge)).collect();
            bail!("{flag} is not for the judge {}; leave it out", names.join(" or "));
        }
        self.check_weights(&chosen)?;
        // What belongs to another judge only is no mistake here.
        let own = chosen.into_iter().zip(rows).map(|(options, row)| options.only(row.takes));
        Ok(own.collect())
    }

    /// Makes sure that it is clear whose the weights are.
    fn check_weights(&self, chosen: &[JudgeOptions]) -> anyhow::Result<()> {
        let has_weights_outside = |options: &&JudgeOptions| {
            options.is_local() && options.row().is_ok_and(|row| row.shipped.is_none())
        };
        let local: Vec<&str> = chosen
            .iter()
            .filter(has_weights_outside)
            .map(|options| options.judge.as_str())
            .collect();
        if let (true, [first, ..]) = (local.is_empty(), chosen) {
            let given = [
                ("--judge-weights", !self.local.judge_weights.is_empty()),
                ("--judge-revision", self.local.judge_revision.is_some()),
            ];
            for (flag, given) in given {
                let name = &first.judge;
                ensure!(!given, "the judge `{name}` has its weights inside; leave out {flag}");
            }
        }
        self.local.check_weights(&local)?;
        ensure!(
            self.local.judge_revision.is_none() || local.len() == 1,
            "--judge-revision does not say for which of the judges {} it is; let them answer one by one",
            local.join(", ")
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::session::listener::Quiet;
    use crate::session::loaded_judge::LoadedJudge;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: JudgeArgs,
    }

    /// The options of a command line.
    fn parse(flags: &[&str]) -> JudgeArgs {
        let line = ["x"].iter().chain(flags);
        Line::try_parse_from(line).map(|line| line.options).unwrap()
    }

    fn refused(flags: &[&str]) -> String {
        let checked = parse(flags)
            .options()
            .and_then(|judges| judges.iter().try_for_each(JudgeOptions::check));
        match checked {
            Err(error) => format!("{error:#}"),
            Ok(()) => panic!("{flags:?} made a judge"),
        }
    }

    /// The settings of the only judge, and the name that its answers are filed under.
    fn made(args: &JudgeArgs) -> (crate::results::Settings, String) {
        let [options] = &args.options().unwrap()[..] else { panic!("{args:?}") };
        let loaded = LoadedJudge::load(options, &Quiet).unwrap();
        (loaded.judge().settings(), loaded.name().to_owned())
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
            (
                &["--judge", "demo-judge,mplug", "--judge-weights", "demo-judge=x"],
                "for a judge that --judge does not name",
            ),
            (
                &["--judge", "mplug", "--judge-weights", "no/such/folder"],
                "there is no model at no/such/folder",
            ),
            (
                &["--judge", "scripted", "--judge-rule", "yes", "--judge-batch", "2"],
                "--judge-batch is not for",
            ),
            (&["--judge", "scripted"], "or --judge-answers"),
            (
                &["--judge", "scripted", "--judge-rule", "yes", "--judge-url", "http://x"],
                "--judge-url is not for",
            ),
            (
                &["--judge", "scripted", "--judge-rule", "yes", "--judge-device", "cpu"],
                "--judge-device is not for",
            ),
            (&["--judge", "demo-judge", "--judge-seed", "5"], "--judge-seed is not for"),
            (
                &["--judge", "scripted", "--judge-rule", "yes", "--judge-force"],
                "--judge-force is not for",
            ),
            (
                &["--judge", "scripted", "--judge-rule", "yes", "--judge-weights", "mplug=x"],
                "--judge-weights is not for",
            ),
            (&["--judge", "qwen3-vl"], "needs --judge-weights, the folder of"),
            (
                &["--judge", "qwen3-vl", "--judge-weights", "no/such/folder"],
                "no/such/folder: there is no such",
            ),
            (
                &["--judge", "qwen3-vl", "--judge-weights", "x", "--judge-batch", "2"],
                "--judge-batch is not for the judge `qwen3-vl`",
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
        let judges = parse(&both).options().unwrap();
        judges.iter().for_each(|options| options.check().unwrap());
        let names: Vec<&str> = judges.iter().map(JudgeOptions::filed_as).collect();
        assert_eq!(names, ["dry", "server"]);
        for (flags, expected) in [
            (&["--judge", "scripted,scripted", "--judge-rule", "yes"][..], "`scripted` twice"),
            (&["--judge", "scripted,nobody"], "no judge `nobody`"),
            (&["--judge", "scripted,endpoint", "--judge-name", "a"], "1 name for 2 judges"),
            (&["--judge", "scripted,endpoint", "--judge-name", "a,a"], "two judges the name `a`"),
            (
                &["--judge", "scripted,endpoint", "--judge-device", "cpu"],
                "--judge-device is not for the judge `scripted` or `endpoint`",
            ),
            (&["--judge", "blip-vqa"], "needs --judge-weights, the folder of a BLIP-VQA"),
            (
                &["--judge", "blip-vqa", "--judge-weights", "no/such/folder"],
                "no/such/folder: there is no such",
            ),
            (
                &["--judge", "blip-vqa", "--judge-weights", "blip-vqa=no/such/folder"],
                "no/such/folder: there is no such",
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
