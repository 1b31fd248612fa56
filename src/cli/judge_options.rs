//! In: the flags that choose a judge. Out: the judge, or a sentence on a flag that is missing or belongs
//! to another one. What is done with it is left to `judge`.

use std::path::PathBuf;

use anyhow::{anyhow, bail};

use super::endpoint_args::EndpointArgs;
use super::local_judge_args::LocalJudgeArgs;
use crate::judge::Judge;
use crate::judge::catalog::{self, JudgeKind};
use crate::judge::scripted::{Rule, ScriptedJudge};

/// Which judge, and how it is asked.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Judge")]
pub struct JudgeOptions {
    /// The judge: `scripted` or `endpoint`
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
                (Box::new(self.endpoint.judge(self.judge_seed)?), "remote".to_owned())
            }
        })
    }

    /// Each flag that only some judges take, with these, and whether it was given.
    fn flags_of_some_judges(&self) -> Vec<(&'static [JudgeKind], &'static str, bool)> {
        const SCRIPTED: &[JudgeKind] = &[JudgeKind::Scripted];
        const ENDPOINT: &[JudgeKind] = &[JudgeKind::Endpoint];
        let mut flags = vec![
            (SCRIPTED, "--judge-rule", self.judge_rule.is_some()),
            (SCRIPTED, "--judge-answers", self.judge_answers.is_some()),
        ];
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
