//! In: a checkpoint's folder. Out: a refusal where its chat template lets every reply begin with a thought. The form
//! in `chat` is that of the Instruct models; the Thinking models have the same networks and files, and would be
//! asked otherwise than they were taught, without a word.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Where publishers and transformers put the template: by itself, or in a JSON object.
const FILES: [&str; 3] = ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"];

/// How such a template opens a reply: as Jinja writes it, and with the line end itself.
const OPENINGS: [&str; 2] = ["assistant\\n<think>", "assistant\n<think>"];

/// Looks at the templates that are in `folder`; a folder without any is taken as it is.
///
/// # Errors
/// A reply would begin with a thought, or a file cannot be read.
pub(crate) fn refuse_thinking(folder: &Path) -> Result<()> {
    for path in FILES.map(|name| folder.join(name)).into_iter().filter(|path| path.is_file()) {
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("{}: cannot be read", path.display()))?;
        let template = if path.extension().is_some_and(|extension| extension == "json") {
            let file: Value = serde_json::from_str(&text)
                .with_context(|| format!("{}: is no JSON", path.display()))?;
            file["chat_template"].as_str().map(str::to_owned).unwrap_or_default()
        } else {
            text
        };
        ensure!(
            !OPENINGS.iter().any(|opening| template.contains(opening)),
            "{}: its replies begin with a thought, as those of the Thinking models; this judge asks the \
             Instruct models: take one of them, or --judge endpoint",
            path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_that_opens_a_thought_is_refused_wherever_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let prompt = r"{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}";
        let thinking = prompt.replace(r"assistant\n", r"assistant\n<think>\n");
        let look = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
            let found = refuse_thinking(folder.path()).map_err(|error| error.to_string());
            std::fs::remove_file(folder.path().join(name)).unwrap();
            found
        };
        let in_json = |template: &str| serde_json::json!({"chat_template": template}).to_string();
        refuse_thinking(folder.path()).unwrap();
        for name in FILES {
            let form = |template: &str| match name {
                "chat_template.jinja" => template.to_owned(),
                _ => in_json(template),
            };
            look(name, &form(prompt)).unwrap();
            let error = look(name, &form(&thinking)).unwrap_err();
            assert!(error.contains(name) && error.contains("Thinking"), "{error}");
        }
        // A thought in an earlier turn opens none now; no template is none.
        look("chat_template.jinja", "{{ '</think>' }}").unwrap();
        look("tokenizer_config.json", "{}").unwrap();
        assert!(look("chat_template.json", "{").unwrap_err().contains("is no JSON"));
    }
}
