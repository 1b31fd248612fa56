//! In: the flags of the judge `endpoint`. Out: the plain options that they state.

use serde_json::{Map, Value};

use crate::session::judge_options::EndpointChoice;

/// How a server is asked.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct EndpointArgs {
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
    /// endpoint: maximum number of requests at a time [default: 8]
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
    /// endpoint: do not ask the first question without its image, which shows whether the model sees images
    #[arg(long)]
    pub judge_no_probe: bool,
}

pub(crate) fn parse_object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("no JSON object, such as {{\"top_p\": 0.9}} ({error})"))
}

impl EndpointArgs {
    /// The options.
    pub(crate) fn options(&self) -> EndpointChoice {
        EndpointChoice {
            url: self.judge_url.clone(),
            model: self.judge_model.clone(),
            key_variable: self.judge_key_env.clone(),
            temperature: self.judge_temperature,
            no_logprobs: self.judge_no_logprobs,
            body: self.judge_body.clone(),
            concurrency: self.judge_concurrency,
            timeout: self.judge_timeout,
            retries: self.judge_retries,
            max_failures: self.judge_max_failures,
            no_probe: self.judge_no_probe,
        }
    }
}
