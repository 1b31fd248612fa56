//! In: a run with pictures and the flags of a judge. Out: its answers in the run. Also the flags and
//! the execution that `run` shares.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde_json::{Map, Value};

use super::exit_status::ExitStatus;
use super::progress::StageProgress;
use super::shared_args::{benchmark_of_run, selected};
use crate::benchmark::Item;
use crate::judge::Judge;
use crate::judge::catalog::{self, DEFAULT_KEY_VARIABLE, JudgeKind};
use crate::judge::endpoint::{Address, ApiKey, DEFAULT_PROMPT, EndpointJudge, EndpointOptions};
use crate::judge::judge_run::{JudgeCounts, judge_images};
use crate::judge::scripted::{Rule, ScriptedJudge};
use crate::results::{RunDirectory, RunError};

const EXAMPLES: &str = "\
Examples:
  dpg-bench judge results/sd15 --judge scripted --judge-rule hash:0.8
  dpg-bench judge results/sd15 --judge scripted --judge-answers answers.csv
  dpg-bench judge results/sd15 --judge endpoint \\
      --judge-url http://localhost:8000/v1 --judge-model Qwen/Qwen2.5-VL-7B-Instruct

Run the same command again to go on after an interruption, or to ask failed questions again.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The run directory
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The run's question file, if it is no longer where it was
    #[arg(long, value_name = "PATH")]
    benchmark: Option<PathBuf>,
    #[command(flatten)]
    options: JudgeOptions,
}

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

    /// endpoint: base URL, e.g. http://localhost:8000/v1
    #[arg(long, value_name = "URL")]
    pub judge_url: Option<String>,
    /// endpoint: the model's name on that server
    #[arg(long, value_name = "NAME")]
    pub judge_model: Option<String>,
    /// endpoint: environment variable that holds the key; '' sends none [default: OPENAI_API_KEY, if
    /// set]
    #[arg(long, value_name = "VARIABLE")]
    pub judge_key_env: Option<String>,
    /// endpoint: prompt; `{question}` stands for the question [default: the question and `Answer with
    /// one word, yes or no.`]
    #[arg(long, value_name = "TEXT")]
    pub judge_prompt: Option<String>,
    /// endpoint: system prompt [default: none]
    #[arg(long, value_name = "TEXT")]
    pub judge_system_prompt: Option<String>,
    /// endpoint: sampling temperature [default: 0]
    #[arg(long, value_name = "T")]
    pub judge_temperature: Option<f64>,
    /// endpoint: most tokens of a reply; models that think aloud need thousands [default: 32]
    #[arg(long, value_name = "N")]
    pub judge_max_tokens: Option<u32>,
    /// endpoint: do not ask for logprobs, for servers that refuse them; there is no P(yes) then
    #[arg(long)]
    pub judge_no_logprobs: bool,
    /// endpoint: further fields of each request, as a JSON object; `null` takes a field out
    #[arg(long, value_name = "JSON", value_parser = parse_object)]
    pub judge_body: Option<Map<String, Value>>,
    /// endpoint: most requests at one time [default: 8]
    #[arg(long, value_name = "N")]
    pub judge_concurrency: Option<usize>,
    /// endpoint: seconds for one whole request [default: 120]
    #[arg(long, value_name = "SECONDS")]
    pub judge_timeout: Option<f64>,
    /// endpoint: further tries after 429, 5xx, time-outs and broken connections [default: 5]
    #[arg(long, value_name = "N")]
    pub judge_retries: Option<u32>,
    /// endpoint: failed questions in a row that stop the run; 0 never stops [default: 64]
    #[arg(long, value_name = "N")]
    pub judge_max_failures: Option<u32>,
}

fn parse_object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("no JSON object, such as {{\"top_p\": 0.9}} ({error})"))
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it, in one sentence.
pub fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let mut run = RunDirectory::open(&args.run)?;
    let benchmark = benchmark_of_run(&run, args.benchmark.as_deref())?;
    let items = selected(&benchmark, &run)?;
    execute(&mut run, &items, &args.options)
}

/// Puts every unanswered question about the pictures of `items` to the judge that the options name.
///
/// # Errors
/// The options name no judge or do not fit it; the run has answers of this judge under other settings;
/// see [`judge_images`] for the rest.
pub fn execute(
    run: &mut RunDirectory,
    items: &[&Item],
    options: &JudgeOptions,
) -> anyhow::Result<ExitStatus> {
    let (judge, device) = options.build()?;
    let name = options.answers_name()?;
    let sitting = run.begin_judge(&name, judge.settings(), device).map_err(|error| {
        let other_settings = matches!(error, RunError::SettingsChanged { .. });
        let error = anyhow::Error::from(error);
        if other_settings {
            error.context(format!(
                "`{name}` has answered in this run under other settings; --judge-name files these \
                 answers under another name"
            ))
        } else {
            error
        }
    })?;
    let counts = judge_images(run, &name, items, judge.as_ref(), &StageProgress::new("judging"))?;
    run.finish(&sitting, counts.finished_now, counts.failed_now)?;
    let journal = run.path().join("answers").join(format!("{name}.jsonl"));
    super::say(&format!("{}: {}", journal.display(), described(&counts)));
    Ok(if counts.is_complete() { ExitStatus::Done } else { ExitStatus::Incomplete })
}

/// `13 of 16 images judged, 52 answers (1 unparsable), 3 questions failed, 2 images missing`.
fn described(counts: &JudgeCounts) -> String {
    let all = counts.images_done + counts.images_failed + counts.images_missing;
    let mut text = format!(
        "{} of {all} images judged, {} answers ({} unparsable)",
        counts.images_done, counts.answers, counts.unparsable
    );
    if counts.failed_questions > 0 {
        text.push_str(&format!(
            ", {} questions failed (the same command asks them again)",
            counts.failed_questions
        ));
    }
    if counts.images_missing > 0 {
        text.push_str(&format!(", {} images missing", counts.images_missing));
    }
    text
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
    fn build(&self) -> anyhow::Result<(Box<dyn Judge>, &'static str)> {
        let row =
            catalog::find(self.judge.as_ref().ok_or_else(no_judge)?).map_err(anyhow::Error::msg)?;
        for (kind, flag, given) in self.flags_of_one_judge() {
            if given && kind != row.kind {
                bail!("{flag} is not for the judge `{}`; leave it out", row.name);
            }
        }
        Ok(match row.kind {
            JudgeKind::Scripted => (Box::new(self.scripted()?), "none"),
            JudgeKind::Endpoint => (Box::new(self.endpoint()?), "remote"),
        })
    }

    /// Each flag that belongs to one judge, and whether it was given.
    fn flags_of_one_judge(&self) -> [(JudgeKind, &'static str, bool); 15] {
        use JudgeKind::{Endpoint, Scripted};
        [
            (Scripted, "--judge-rule", self.judge_rule.is_some()),
            (Scripted, "--judge-answers", self.judge_answers.is_some()),
            (Endpoint, "--judge-url", self.judge_url.is_some()),
            (Endpoint, "--judge-model", self.judge_model.is_some()),
            (Endpoint, "--judge-key-env", self.judge_key_env.is_some()),
            (Endpoint, "--judge-prompt", self.judge_prompt.is_some()),
            (Endpoint, "--judge-system-prompt", self.judge_system_prompt.is_some()),
            (Endpoint, "--judge-temperature", self.judge_temperature.is_some()),
            (Endpoint, "--judge-max-tokens", self.judge_max_tokens.is_some()),
            (Endpoint, "--judge-no-logprobs", self.judge_no_logprobs),
            (Endpoint, "--judge-body", self.judge_body.is_some()),
            (Endpoint, "--judge-concurrency", self.judge_concurrency.is_some()),
            (Endpoint, "--judge-timeout", self.judge_timeout.is_some()),
            (Endpoint, "--judge-retries", self.judge_retries.is_some()),
            (Endpoint, "--judge-max-failures", self.judge_max_failures.is_some()),
        ]
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

    fn endpoint(&self) -> anyhow::Result<EndpointJudge> {
        let needed = |flag: &str| anyhow!("the judge `endpoint` needs {flag}");
        let url = self.judge_url.as_ref().ok_or_else(|| needed("--judge-url"))?;
        let model = self.judge_model.as_ref().ok_or_else(|| needed("--judge-model"))?;
        let address = Address::parse(url).map_err(anyhow::Error::msg)?;
        let default = EndpointOptions::new(address, model);
        let timeout = match self.judge_timeout {
            None => default.timeout,
            Some(seconds) => Duration::try_from_secs_f64(seconds)
                .with_context(|| format!("--judge-timeout {seconds} is no number of seconds"))?,
        };
        let options = EndpointOptions {
            key: self.key()?,
            prompt: self.judge_prompt.clone().unwrap_or_else(|| DEFAULT_PROMPT.to_owned()),
            system_prompt: self.judge_system_prompt.clone(),
            temperature: self.judge_temperature.unwrap_or(default.temperature),
            max_tokens: self.judge_max_tokens.unwrap_or(default.max_tokens),
            seed: self.judge_seed.unwrap_or(default.seed),
            logprobs: !self.judge_no_logprobs,
            body: self.judge_body.clone().unwrap_or_default(),
            concurrency: self.judge_concurrency.unwrap_or(default.concurrency),
            timeout,
            retries: self.judge_retries.unwrap_or(default.retries),
            max_failures: self.judge_max_failures.unwrap_or(default.max_failures),
            ..default
        };
        EndpointJudge::new(options).map_err(anyhow::Error::msg)
    }

    /// The key out of the environment. A variable that was named must be there.
    fn key(&self) -> anyhow::Result<Option<ApiKey>> {
        let variable = self.judge_key_env.as_deref().unwrap_or(DEFAULT_KEY_VARIABLE);
        if variable.is_empty() {
            return Ok(None);
        }
        let key = match std::env::var_os(variable) {
            None => None,
            Some(value) => {
                let value = value.to_str().ok_or_else(|| anyhow!("{variable} is no UTF-8 text"))?;
                ApiKey::new(value).map_err(|reason| anyhow!("{variable}: {reason}"))?
            }
        };
        if key.is_none() && self.judge_key_env.is_some() {
            bail!("the environment variable {variable} that --judge-key-env names is not set");
        }
        Ok(key)
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
        args: Args,
    }

    fn parse(flags: &[&str]) -> JudgeOptions {
        let line = ["x", "RUN"].iter().chain(flags);
        Line::try_parse_from(line).map(|line| line.args.options).unwrap()
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
