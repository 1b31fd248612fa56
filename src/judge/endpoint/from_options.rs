//! In: what the user says of a server. Out: the judge behind it, or a sentence on the option that is missing or wrong.

use std::time::Duration;

use anyhow::{Context, anyhow};

use super::{Address, DEFAULT_PROMPT, EndpointJudge, EndpointOptions};
use crate::http::ApiKey;
use crate::judge::DEFAULT_KEY_VARIABLE;
use crate::judge::options::{EndpointChoice, JudgeOptions};

impl EndpointJudge {
    /// The judge that the options describe. Nothing is sent yet.
    ///
    /// # Errors
    /// An option is missing or out of its range, or the named variable is not set.
    pub(crate) fn from_options(options: &JudgeOptions) -> anyhow::Result<Self> {
        let JudgeOptions { chat, endpoint, .. } = options;
        let needed = |flag: &str| anyhow!("the judge `endpoint` needs {flag}");
        let url = endpoint.url.as_ref().ok_or_else(|| needed("--judge-url"))?;
        let model = endpoint.model.as_ref().ok_or_else(|| needed("--judge-model"))?;
        let address = Address::parse(url).map_err(anyhow::Error::msg)?;
        let default = EndpointOptions::new(address, model);
        let timeout = match endpoint.timeout {
            None => default.timeout,
            Some(seconds) => Duration::try_from_secs_f64(seconds)
                .with_context(|| format!("--judge-timeout {seconds} is no number of seconds"))?,
        };
        let made = EndpointOptions {
            key: key(endpoint)?,
            prompt: chat.prompt.clone().unwrap_or_else(|| DEFAULT_PROMPT.to_owned()),
            system_prompt: chat.system_prompt.clone(),
            temperature: endpoint.temperature.unwrap_or(default.temperature),
            max_tokens: chat.max_tokens.unwrap_or(default.max_tokens),
            seed: options.seed.unwrap_or(default.seed),
            logprobs: !endpoint.no_logprobs,
            body: endpoint.body.clone().unwrap_or_default(),
            concurrency: endpoint.concurrency.unwrap_or(default.concurrency),
            timeout,
            retries: endpoint.retries.unwrap_or(default.retries),
            max_failures: endpoint.max_failures.unwrap_or(default.max_failures),
            probe: !endpoint.no_probe,
            max_unparsable: chat.max_unparsable.unwrap_or(default.max_unparsable),
            ..default
        };
        Self::new(made).map_err(anyhow::Error::msg)
    }
}

/// The key out of the environment. A variable that was named must be there.
fn key(choice: &EndpointChoice) -> anyhow::Result<Option<ApiKey>> {
    let variable = choice.key_variable.as_deref().unwrap_or(DEFAULT_KEY_VARIABLE);
    let named_by = choice.key_variable.as_ref().map(|_| "--judge-key-env");
    ApiKey::from_environment(variable, named_by).map_err(anyhow::Error::msg)
}
