//! In: the flags of the judge `endpoint`. Out: the judge, or a sentence on the flag that is missing or
//! wrong.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde_json::{Map, Value};

use super::chat_args::ChatArgs;
use crate::http::ApiKey;
use crate::judge::catalog::DEFAULT_KEY_VARIABLE;
use crate::judge::endpoint::{Address, DEFAULT_PROMPT, EndpointJudge, EndpointOptions};

/// How a server is asked.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct EndpointArgs {
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
    /// endpoint: sampling temperature [default: 0]
    #[arg(long, value_name = "T")]
    pub judge_temperature: Option<f64>,
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
    /// endpoint: do not ask the first question without its picture, which shows whether the model sees pictures
    #[arg(long)]
    pub judge_no_probe: bool,
}

fn parse_object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("no JSON object, such as {{\"top_p\": 0.9}} ({error})"))
}

impl EndpointArgs {
    /// Each flag, and whether it was given.
    pub fn given(&self) -> [(&'static str, bool); 11] {
        [
            ("--judge-url", self.judge_url.is_some()),
            ("--judge-model", self.judge_model.is_some()),
            ("--judge-key-env", self.judge_key_env.is_some()),
            ("--judge-temperature", self.judge_temperature.is_some()),
            ("--judge-no-logprobs", self.judge_no_logprobs),
            ("--judge-body", self.judge_body.is_some()),
            ("--judge-concurrency", self.judge_concurrency.is_some()),
            ("--judge-timeout", self.judge_timeout.is_some()),
            ("--judge-retries", self.judge_retries.is_some()),
            ("--judge-max-failures", self.judge_max_failures.is_some()),
            ("--judge-no-probe", self.judge_no_probe),
        ]
    }

    /// Makes the judge, to be asked in the words of `chat`; `seed` is that of the server's sampling.
    ///
    /// # Errors
    /// A flag is missing or wrong, or the named variable is not set.
    pub fn judge(&self, chat: &ChatArgs, seed: Option<u64>) -> anyhow::Result<EndpointJudge> {
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
            prompt: chat.judge_prompt.clone().unwrap_or_else(|| DEFAULT_PROMPT.to_owned()),
            system_prompt: chat.judge_system_prompt.clone(),
            temperature: self.judge_temperature.unwrap_or(default.temperature),
            max_tokens: chat.judge_max_tokens.unwrap_or(default.max_tokens),
            seed: seed.unwrap_or(default.seed),
            logprobs: !self.judge_no_logprobs,
            body: self.judge_body.clone().unwrap_or_default(),
            concurrency: self.judge_concurrency.unwrap_or(default.concurrency),
            timeout,
            retries: self.judge_retries.unwrap_or(default.retries),
            max_failures: self.judge_max_failures.unwrap_or(default.max_failures),
            probe: !self.judge_no_probe,
            most_unparsable: chat.judge_max_unparsable.unwrap_or(default.most_unparsable),
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
