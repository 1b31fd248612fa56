//! In: the flags that choose a judge. Out: the judge, or a sentence on a flag that is missing or belongs
//! to another one. What is done with it is left to `judge`.

use std::path::PathBuf;

use anyhow::{anyhow, bail};

use super::chat_args::ChatArgs;
use super::endpoint_args::EndpointArgs;
use super::local_judge_args::LocalJudgeArgs;
use crate::judge::Judge;
use crate::judge::catalog::{self, JudgeKind};
use crate::judge::qwen3_vl::{Qwen3VlJudge, Qwen3VlOptions};
use crate::judge::scripted::{Rule, ScriptedJudge};
use crate::models::device::describe_device;

/// Which judge, and how it is asked.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Judge")]
pub struct JudgeOptions {
    /// The judge: `scripted`, `endpoint` or `qwen3-vl`
    #[arg(long, value_name = "JUDGE")]
    pub judge: Option<String>,
    /// Name that the answers are filed under [default: the judge's]
    #[arg(long, value_name = "NAME")]
    pub judge_name: Option<String>,
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

impl JudgeOptions {
    /// Name that the answers are filed under.
    ///
    /// # Errors
    /// No judge is named.
    pub fn answers_name(&self) -> anyhow::Result<String> {
        let judge = self.judge.as_ref().ok_or_else(no_judge)?;
        Ok(self.judge_name.as_ref().unwrap_or(judge).clone())
    }

    /// Whether the judge can be made from these flags; nothing is asked yet.
    ///
    /// # Errors
    /// A flag is missing, wrong or out of place, or a file or variable is not there.
    pub fn check(&self) -> anyhow::Result<()> {
        self.build().map(|_| ())
    }

    /// Makes the judge, and says where it computes.
    ///
    /// # Errors
    /// As [`JudgeOptions::check`].
    pub fn build(&self) -> anyhow::Result<(Box<dyn Judge>, String)> {
        let row =
            catalog::find(self.judge.as_ref().ok_or_else(no_judge)?).map_err(anyhow::Error::msg)?;
        for (kinds, flag, given) in self.flags_of_some_judges() {
            if given && !kinds.contains(&row.kind) {
                bail!("{flag} is not for the judge `{}`; leave it out", row.name);
            }
        }
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
        })
    }

    /// Each flag that only some judges take, with these, and whether it was given.
    fn flags_of_some_judges(&self) -> Vec<(&'static [JudgeKind], &'static str, bool)> {
        const SCRIPTED: &[JudgeKind] = &[JudgeKind::Scripted];
        const ENDPOINT: &[JudgeKind] = &[JudgeKind::Endpoint];
        const CHAT: &[JudgeKind] = &[JudgeKind::Endpoint, JudgeKind::Qwen3Vl];
        let mut flags = vec![
            (SCRIPTED, "--judge-rule", self.judge_rule.is_some()),
            (SCRIPTED, "--judge-answers", self.judge_answers.is_some()),
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
        if self.local.judge_batch.is_some() {
            bail!(
                "--judge-batch is not for the judge `{name}`, which looks at one picture at a time;                  leave it out"
            );
        }
        // As the checkpoints are published; f32 arithmetic on the processor either way.
        let default = Qwen3VlOptions::new(weights.to_path_buf(), self.local.place("bf16")?);
        Ok(Qwen3VlOptions {
            prompt: self.chat.judge_prompt.clone().unwrap_or(default.prompt),
            system_prompt: self.chat.judge_system_prompt.clone(),
            max_tokens: self.chat.judge_max_tokens.unwrap_or(default.max_tokens),
            ..default
        })
    }
}

fn no_judge() -> anyhow::Error {
    anyhow!("no judge is named; choose one with --judge: {}", catalog::listed())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: JudgeOptions,
    }

    fn parse(flags: &[&str]) -> JudgeOptions {
        let line = ["x"].iter().chain(flags);
        Line::try_parse_from(line).map(|line| line.options).unwrap()
    }

    fn refused(flags: &[&str]) -> String {
        match parse(flags).build() {
            Err(error) => format!("{error:#}"),
            Ok((judge, _)) => panic!("{flags:?} made a judge: {:?}", judge.settings()),
        }
    }

    #[test]
    fn what_is_missing_or_out_of_place_is_said() {
        for (flags, expected) in [
            (&[][..], "endpoint: a vision model"),
            (&["--judge", "mplug"], "there is no judge `mplug`"),
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
                "one picture at a time",
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
        let (judge, _) = endpoint.build().unwrap();
        assert_eq!(
            serde_json::to_value(judge.settings()).unwrap(),
            serde_json::json!({
                "judge": "endpoint", "url": "http://localhost:1/v1/chat/completions", "model": "m",
                "prompt": "{question}?", "system_prompt": "s",
                "request": {"temperature": 0.5, "max_tokens": 9, "seed": 3, "top_p": 0.5},
            })
        );
        assert_eq!(endpoint.answers_name().unwrap(), "endpoint");
        let scripted =
            parse(&["--judge", "scripted", "--judge-rule", "hash:0.5", "--judge-name", "dry"]);
        assert_eq!(scripted.build().unwrap().0.settings()["rule"], "hash:0.5");
        assert_eq!(scripted.answers_name().unwrap(), "dry");
    }
}
