//! In: a question's prompt. Out: the tokens of a conversation about one picture, in the form that the
//! published chat template of Qwen3-VL's Instruct models gives it; and the other way, the text of a reply's
//! tokens and which tokens say yes or no.
//!
//! The template is not interpreted: for a picture followed by a text it is the fixed form written out
//! here, which the tests hold to the published template as transformers renders it.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;

use super::template::refuse_thinking;
use crate::judge::reading::polarity;
use crate::models::qwen3_vl::Outline;

/// Tokens that the conversation's form is made of.
const TURN: &str = "<|im_start|>";
const END: &str = "<|im_end|>";
const TEXT_END: &str = "<|endoftext|>";
const PICTURE: &str = "<|vision_start|>";
const PICTURE_END: &str = "<|vision_end|>";
const PICTURE_TOKEN: &str = "<|image_pad|>";

/// What stands before the picture.
fn opening(system: Option<&str>) -> String {
    let system = system.map_or(String::new(), |text| format!("{TURN}system\n{text}{END}\n"));
    format!("{system}{TURN}user\n{PICTURE}")
}

/// What follows the picture's end.
fn rest(prompt: &str) -> String {
    format!("{prompt}{END}\n{TURN}assistant\n")
}

/// A model's tokenizer, and the parts of a conversation that do not change.
pub(crate) struct Chat {
    tokenizer: Tokenizer,
    sha256: String,
    before: Vec<u32>,
    after: Vec<u32>,
    ends: Vec<u32>,
    /// What each token says: yes, no or neither.
    said: Vec<Option<bool>>,
}

impl std::fmt::Debug for Chat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chat").field("sha256", &self.sha256).field("ends", &self.ends).finish()
    }
}

impl Chat {
    /// Reads `tokenizer.json` and, where there is one, `generation_config.json` of `folder`, for a network
    /// of this `outline`.
    ///
    /// # Errors
    /// The tokenizer is missing or broken, or of another model; the chat template is a Thinking model's.
    pub(crate) fn load(folder: &Path, system: Option<&str>, outline: Outline) -> Result<Self> {
        let Outline { vocabulary, image_token, .. } = outline;
        refuse_thinking(folder)?;
        let path = folder.join("tokenizer.json");
        let bytes =
            std::fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let mut tokenizer = Tokenizer::from_bytes(&bytes)
            .map_err(|error| anyhow!("{}: is no tokenizer: {error}", path.display()))?;
        // Whoever saved the file may have left these in it.
        tokenizer.with_truncation(None).map_err(|error| anyhow!("{}: {error}", path.display()))?;
        tokenizer.with_padding(None);
        let id = |token: &str| {
            tokenizer.token_to_id(token).with_context(|| {
                format!("{}: has no token `{token}`; is it Qwen3-VL's?", path.display())
            })
        };
        for token in [TURN, END, PICTURE, PICTURE_END] {
            id(token)?;
        }
        let size = tokenizer.get_vocab_size(true);
        if id(PICTURE_TOKEN)? != image_token || size > vocabulary {
            bail!(
                "{}: {size} tokens with `{PICTURE_TOKEN}` at {}, where config.json has {vocabulary} \
                 and {image_token}; the two are of different models",
                path.display(),
                id(PICTURE_TOKEN)?
            );
        }
        let ends = match ends(&folder.join("generation_config.json"))? {
            Some(ends) => ends,
            None => {
                [END, TEXT_END].into_iter().filter_map(|end| tokenizer.token_to_id(end)).collect()
            }
        };
        let mut chat = Self {
            tokenizer,
            sha256: Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
            before: Vec::new(),
            after: Vec::new(),
            ends,
            said: Vec::new(),
        };
        chat.before = chat.encode(&opening(system))?;
        chat.after = chat.encode(PICTURE_END)?;
        chat.said = (0..vocabulary as u32)
            .map(|token| Ok(polarity(&chat.text(&[token])?)))
            .collect::<Result<_>>()?;
        if !chat.said.contains(&Some(true)) || !chat.said.contains(&Some(false)) {
            bail!("{}: no token says yes, or none says no", path.display());
        }
        Ok(chat)
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.tokenizer.encode(text, false);
        Ok(encoding.map_err(|error| anyhow!("the text has no tokens: {error}"))?.get_ids().to_vec())
    }

    /// Tokens of what stands before a picture's tokens, and of what follows whatever is asked.
    pub(crate) fn tokens_around_image(&self) -> (&[u32], &[u32]) {
        (&self.before, &self.after)
    }

    /// Tokens from a question's prompt to where the reply begins. To be read after those around the
    /// picture: a tokenizer cuts at its special tokens, so the parts are those of the whole.
    ///
    /// # Errors
    /// The tokenizer refuses the text.
    pub(crate) fn question(&self, prompt: &str) -> Result<Vec<u32>> {
        self.encode(&rest(prompt))
    }

    /// The text of `tokens`, without special ones.
    ///
    /// # Errors
    /// The tokenizer refuses.
    pub(crate) fn text(&self, tokens: &[u32]) -> Result<String> {
        self.tokenizer.decode(tokens, true).map_err(|error| anyhow!("no text of tokens: {error}"))
    }

    /// Whether a reply ends with `token`.
    pub(crate) fn is_end(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// What each token of the vocabulary says: yes, no or neither.
    pub(crate) fn said(&self) -> &[Option<bool>] {
        &self.said
    }

    /// SHA-256 of `tokenizer.json`, in hex.
    pub(crate) fn sha256(&self) -> &str {
        &self.sha256
    }
}

/// `eos_token_id` of a `generation_config.json`: one token or several.
fn ends(path: &Path) -> Result<Option<Vec<u32>>> {
    if !path.is_file() {
        return Ok(None);
    }
    let text =
        std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let config: Value =
        serde_json::from_slice(&text).with_context(|| format!("{}: is no JSON", path.display()))?;
    let tokens = match &config["eos_token_id"] {
        Value::Null => return Ok(None),
        Value::Array(tokens) => tokens.clone(),
        token => vec![token.clone()],
    };
    let ids: Option<Vec<u32>> =
        tokens.iter().map(|token| token.as_u64()?.try_into().ok()).collect();
    ids.filter(|ids| !ids.is_empty())
        .map(Some)
        .with_context(|| format!("{}: eos_token_id is no list of tokens", path.display()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn fixtures() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
    }

    fn cases() -> Vec<Value> {
        let path = fixtures().join("qwen3-vl-golden/cases.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn chat(system: Option<&str>) -> Chat {
        let folder = fixtures().join("qwen3-vl-tied");
        Chat::load(&folder, system, outline()).unwrap()
    }

    fn outline() -> Outline {
        Outline::read(&fixtures().join("qwen3-vl-tied"), candle_core::DType::F32).unwrap()
    }

    fn prompt(case: &Value) -> String {
        let question = case["question"].as_str().unwrap();
        super::super::super::endpoint::DEFAULT_PROMPT.replace("{question}", question)
    }

    #[test]
    fn the_form_is_that_of_the_published_template() {
        let all = cases();
        assert!(all.iter().any(|case| case["system"].is_string()));
        for case in &all {
            let expected = case["text"].as_str().unwrap();
            let ours = |prompt: &str, system: Option<&str>| {
                format!("{}{PICTURE_TOKEN}{PICTURE_END}{}", opening(system), rest(prompt))
            };
            assert_eq!(ours(&prompt(case), case["system"].as_str()), expected);
            assert_ne!(ours(prompt(case).trim(), Some("You are a helpful assistant.")), expected);
        }
    }

    #[test]
    fn the_parts_have_the_tokens_of_the_whole() {
        for case in &cases() {
            let chat = chat(case["system"].as_str());
            let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
            let picture = chat.tokenizer.token_to_id(PICTURE_TOKEN).unwrap();
            let (before, after) = chat.tokens_around_image();
            let tokens = ids.iter().filter(|id| **id == picture).count();
            let ours =
                [before, &vec![picture; tokens], after, &chat.question(&prompt(case)).unwrap()];
            assert_eq!(ours.concat(), ids);
            let reply: Vec<u32> = serde_json::from_value(case["reply_ids"].clone()).unwrap();
            assert_eq!(chat.text(&reply).unwrap(), case["reply"]);
        }
    }

    #[test]
    fn tokens_that_say_yes_or_no_and_those_that_end_a_reply_are_known() {
        let chat = chat(None);
        let of = |said: bool| -> Vec<String> {
            let tokens = 0..384u32;
            let of_kind = tokens.filter(|token| chat.said()[*token as usize] == Some(said));
            of_kind.map(|token| chat.text(&[token]).unwrap()).collect()
        };
        assert!(of(true).contains(&"Yes".to_owned()) && of(true).contains(&" yes".to_owned()));
        assert!(of(false).contains(&"No".to_owned()) && of(false).contains(&" no".to_owned()));
        assert!(chat.is_end(chat.tokenizer.token_to_id(END).unwrap()));
        assert!(!chat.is_end(chat.tokenizer.token_to_id(TURN).unwrap()));
    }

    #[test]
    fn a_tokenizer_of_another_model_is_refused() {
        let folder = fixtures().join("qwen3-vl-tied");
        let refused = |vocabulary, token| {
            let outline = Outline { vocabulary, image_token: token, ..outline() };
            Chat::load(&folder, None, outline).unwrap_err().to_string()
        };
        let Outline { vocabulary, image_token, .. } = outline();
        assert!(refused(vocabulary, 1).contains("different models"));
        assert!(refused(100, image_token).contains("different models"));
        let folder = tempfile::tempdir().unwrap();
        let load = || Chat::load(folder.path(), None, outline()).unwrap_err().to_string();
        assert!(load().contains("tokenizer.json: cannot be read"));
        std::fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
        assert!(load().contains("is no tokenizer"));
        let clip = fixtures().join("ella-golden/tokenizer.json");
        std::fs::copy(clip, folder.path().join("tokenizer.json")).unwrap();
        assert!(load().contains("tokenizer.json"));
    }

    #[test]
    fn a_generation_config_names_one_end_or_several() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("generation_config.json");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            ends(&path).map_err(|error| error.to_string())
        };
        assert_eq!(read("{\"eos_token_id\": 5}").unwrap(), Some(vec![5]));
        assert_eq!(read("{\"eos_token_id\": [5, 6]}").unwrap(), Some(vec![5, 6]));
        assert_eq!(read("{}").unwrap(), None);
        assert!(read("{\"eos_token_id\": []}").unwrap_err().contains("eos_token_id"));
        assert!(read("{\"eos_token_id\": \"x\"}").unwrap_err().contains("eos_token_id"));
        assert!(read("{").unwrap_err().contains("is no JSON"));
    }
}
