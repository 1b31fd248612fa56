//! In: what is wrong with a server, model or request. Out: that in words, and what to do about it. How a server's
//! words are understood is left to `wordings`; whether the run stops, to the judge.

/// What is wrong, as a server's words tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The key is missing or wrong.
    Key,
    /// The account has no money or quota left.
    Quota,
    /// The server has no such model.
    Model,
    /// The server answers, but not at this address.
    Address,
    /// The model takes no pictures.
    NoPictures,
    /// This picture cannot be read by the server, or is too large for it.
    Picture,
    /// The picture and the question have more tokens than the model takes.
    TooLong,
    /// There are no logprobs.
    Logprobs,
    /// There are logprobs, but not so many; the most that it gives, where it says so.
    FewerLogprobs(Option<u64>),
    /// Fields of the request are not taken; their names.
    Fields(Vec<String>),
}

impl Cause {
    /// Whether it holds for all questions, whatever was answered before.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Key | Self::Quota | Self::Model | Self::Address)
    }

    /// Whether it may be this picture or question alone.
    pub(crate) fn may_be_single(&self) -> bool {
        matches!(self, Self::Picture | Self::TooLong)
    }

    /// What the server does, and what to do about it; `model` is the one that was asked for.
    pub(super) fn words(&self, model: &str) -> (String, String) {
        let (what, advice) = match self {
            Self::Key => (
                "refuses the key",
                "put a valid one into the environment variable that --judge-key-env names",
            ),
            Self::Quota => {
                ("has no quota left for this key", "look at the account's balance and limits")
            }
            Self::Model => {
                let what = format!("does not know the model `{model}`");
                return (
                    what,
                    "check --judge-model; GET /v1/models lists those that there are".to_owned(),
                );
            }
            Self::Address => (
                "is a server, but answers no chat completions there",
                "check the path of --judge-url; most servers want it to end in /v1",
            ),
            Self::NoPictures => (
                "takes no images for this model",
                "choose a model that sees images, or start the server with its vision part (llama.cpp: --mmproj)",
            ),
            Self::Picture => (
                "cannot take the image",
                "see what it says of format and size; images are sent as they are stored, as PNG",
            ),
            Self::TooLong => (
                "has no room for image and question",
                "raise the model's context length (vLLM: --max-model-len, llama.cpp: -c), or make smaller images",
            ),
            Self::Logprobs => {
                ("refuses to give logprobs", "use --judge-no-logprobs; there is no P(yes) then")
            }
            Self::FewerLogprobs(most) => {
                let most = most.map_or_else(|| "N".to_owned(), |most| most.to_string());
                let advice = format!("use --judge-body '{{\"top_logprobs\": {most}}}'");
                return ("gives fewer logprobs than were asked for".to_owned(), advice);
            }
            Self::Fields(names) => {
                let without = |name: &String| match name.as_str() {
                    "max_tokens" => {
                        "\"max_tokens\": null, \"max_completion_tokens\": 2000".to_owned()
                    }
                    name => format!("\"{name}\": null"),
                };
                let body: Vec<String> = names.iter().map(without).collect();
                return (
                    format!("does not take {} of the request", names.join(", ")),
                    format!("use --judge-body '{{{}}}'", body.join(", ")),
                );
            }
        };
        (what.to_owned(), advice.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_names_the_flag() {
        for (cause, expected) in [
            (Cause::Key, "--judge-key-env"),
            (Cause::Model, "--judge-model"),
            (Cause::Address, "--judge-url"),
            (Cause::Logprobs, "--judge-no-logprobs"),
            (Cause::FewerLogprobs(Some(5)), "--judge-body '{\"top_logprobs\": 5}'"),
            (Cause::FewerLogprobs(None), "--judge-body '{\"top_logprobs\": N}'"),
            (Cause::Fields(vec!["seed".to_owned()]), "--judge-body '{\"seed\": null}'"),
            (
                Cause::Fields(vec!["max_tokens".to_owned(), "seed".to_owned()]),
                "'{\"max_tokens\": null, \"max_completion_tokens\": 2000, \"seed\": null}'",
            ),
        ] {
            let (what, advice) = cause.words("some/model");
            assert!(advice.contains(expected), "{what}: {advice}");
        }
        assert!(Cause::Model.words("some/model").0.contains("`some/model`"));
    }
}
