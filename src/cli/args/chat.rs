//! In: the flags of the judges that are asked in words, behind a server or computed here. Out: the plain options that
//! they state; each judge has defaults of its own.

use crate::session::judge_options::ChatOptions;

/// How a question is put in words.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ChatArgs {
    /// endpoint, qwen3-vl: prompt; `{question}` stands for the question [default: the question and
    /// `Answer with one word, yes or no.`]
    #[arg(long, value_name = "TEXT")]
    pub judge_prompt: Option<String>,
    /// endpoint, qwen3-vl: system prompt [default: none]
    #[arg(long, value_name = "TEXT")]
    pub judge_system_prompt: Option<String>,
    /// endpoint, qwen3-vl: maximum number of tokens of a reply; models that think aloud need thousands [default: 32]
    #[arg(long, value_name = "N")]
    pub judge_max_tokens: Option<u32>,
    /// endpoint, qwen3-vl: share of answers that are neither yes nor no beyond which the run stops, from the
    /// 100th answer on; 1 never stops [default: 0.2]
    #[arg(long, value_name = "SHARE")]
    pub judge_max_unparsable: Option<f64>,
}

impl ChatArgs {
    /// The options.
    pub(crate) fn options(&self) -> ChatOptions {
        ChatOptions {
            prompt: self.judge_prompt.clone(),
            system_prompt: self.judge_system_prompt.clone(),
            max_tokens: self.judge_max_tokens,
            max_unparsable: self.judge_max_unparsable,
        }
    }
}
