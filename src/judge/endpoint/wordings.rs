//! In: what a server said when it refused a request. Out: what is wrong for this and every other question, where its
//! words tell. The table is that of docs/judges.md.

use std::sync::LazyLock;

use super::cause::Cause;

/// What words of a server mean: one of `first` and one of `second` must be among them (an empty list asks for
/// nothing), in small letters.
struct Wording {
    first: &'static [&'static str],
    second: &'static [&'static str],
    cause: Cause,
}

/// Words of what passes by itself.
const PASSES: &[&str] = &[
    "temporar",
    "try again",
    "overload",
    "busy",
    "is loading",
    "currently loading",
    "not ready",
    "rate limit",
];

const NOT_TAKEN: &[&str] = &[
    "not support",
    "n't support",
    "unsupported",
    "unrecognized",
    "unknown",
    "unexpected",
    "not permitted",
    "not allowed",
    "not accepted",
    "extra inputs",
    "extra_forbidden",
    "additional properties",
    "invalid",
    "only the default",
];

/// In this order: the first that fits counts.
static WORDINGS: LazyLock<Vec<Wording>> = LazyLock::new(|| {
    let of = |cause, first, second| Wording { first, second, cause };
    vec![
        of(Cause::Address, &["unexpected endpoint"], &[]),
        of(
            Cause::Quota,
            &[
                "insufficient_quota",
                "exceeded your current quota",
                "insufficient balance",
                "insufficient credit",
                "credit balance",
                "billing",
                "requires more credits",
            ],
            &[],
        ),
        of(
            Cause::Key,
            &[
                "api key",
                "api_key",
                "api-key",
                "apikey",
                "virtual key",
                "token in request",
                "access token",
            ],
            &[
                "invalid",
                "incorrect",
                "not valid",
                "missing",
                "no api",
                "not provided",
                "provide",
                "expired",
                "not found",
                "revoked",
                "disabled",
                "wrong",
                "expected to start",
                "malformed",
                "passed in",
            ],
        ),
        of(
            Cause::Key,
            &[
                "unauthorized",
                "unauthenticated",
                "not authenticated",
                "authentication error",
                "authentication fail",
                "authentication required",
                "auth credentials",
                "no auth",
                "invalid credentials",
                "invalid authentication",
                "permission_denied",
                // LiteLLM, asked with a key that is not its own.
                "no connected db",
            ],
            &[],
        ),
        of(
            Cause::TooLong,
            &[
                "context length",
                "context size",
                "context window",
                "context_length",
                "maximum model length",
                "max_model_len",
                "prompt is too long",
                "too many tokens",
                "prompt too long",
            ],
            &[],
        ),
        of(
            Cause::NoPictures,
            &[
                "image",
                "picture",
                "multimodal",
                "multi-modal",
                "vision",
                "content type",
                "content.type",
            ],
            &[
                "not a multimodal",
                "not support",
                "n't support",
                "no endpoints found",
                "only supported by certain models",
                "at most 0 image",
                "not compiled for multimodal",
                "text-only",
                "text only",
                "cannot process image",
                "not accept image",
                "mmproj",
                "allowed values",
                "no vision",
                "is not enabled",
            ],
        ),
        of(
            Cause::Picture,
            &["image", "picture", "base64"],
            &[
                "cannot identify",
                "failed to load",
                "failed to decode",
                "unable to decode",
                "cannot decode",
                "could not decode",
                "decoding",
                "could not process",
                "unable to process",
                "invalid",
                "unsupported image",
                "unidentified",
                "incorrect padding",
                "exceeds",
                "too large",
                "too small",
                "truncated",
                "corrupt",
                "not a valid image",
                "broken",
            ],
        ),
        of(
            Cause::Model,
            &["model", "deployment"],
            &[
                "does not exist",
                "doesn't exist",
                "not found",
                "not exist",
                "invalid model",
                "unknown model",
                "no such model",
                "not a valid model",
                "model_not_found",
                "does not have access to model",
                "not a local folder",
                "no healthy deployment",
                "no models loaded",
            ],
        ),
    ]
});

/// What `words` of a server, said with `status`, mean for a request with these `fields`; `None` where they may pass,
/// concern this question alone or are not known.
pub(crate) fn cause(status: u16, words: &str, fields: &[String]) -> Option<Cause> {
    // Some repeat what was sent, and with it every word of the request.
    let words = words.to_lowercase();
    let words = words.split("'input':").next().unwrap_or_default();
    let has = |list: &[&str]| list.iter().any(|word| words.contains(word));
    match status {
        401 => return Some(Cause::Key),
        402 => return Some(Cause::Quota),
        // Busy, waking up, or limited in rate: these pass. A quota does not.
        408 | 425 | 429 | 502..=504 => {
            return WORDINGS
                .iter()
                .find(|one| one.cause == Cause::Quota && has(one.first))
                .map(|_| Cause::Quota);
        }
        _ => {}
    }
    if has(PASSES) {
        return None;
    }
    let named = |is_named: &dyn Fn(&str) -> bool| {
        let named = fields.iter().filter(|name| has(NOT_TAKEN) && is_named(&name.to_lowercase()));
        let named: Vec<String> = named.cloned().collect();
        (!named.is_empty()).then_some(Cause::Fields(named))
    };
    // A field between quotes is what is spoken of.
    let quoted = named(&|name| is_quoted(words, name));
    let of_logprobs = |name: &String| name.contains("logprobs");
    if has(&["logprob", "log prob", "log_prob"]) {
        let others = match &quoted {
            Some(Cause::Fields(names)) => names.iter().any(|name| !of_logprobs(name)),
            _ => false,
        };
        return match limit_in(words) {
            _ if others => quoted,
            Some(most) => Some(Cause::FewerLogprobs(most)),
            None => Some(Cause::Logprobs),
        };
    }
    let fits = |one: &&Wording| has(one.first) && (one.second.is_empty() || has(one.second));
    match WORDINGS.iter().find(fits).map(|wording| wording.cause.clone()) {
        // Even where a vision model is named besides.
        Some(cause @ (Cause::NoPictures | Cause::Picture | Cause::Model)) => quoted.or(Some(cause)),
        Some(cause) => Some(cause),
        None if status == 413 => Some(Cause::Picture),
        None => named(&|name| is_word(words, name)),
    }
}

/// Whether `name` stands in `text` between quotes.
fn is_quoted(text: &str, name: &str) -> bool {
    ['\'', '"', '`'].into_iter().any(|quote| text.contains(&format!("{quote}{name}{quote}")))
}

/// Whether words speak of a maximum, and which number below 20 it is, where they say one.
fn limit_in(words: &str) -> Option<Option<u64>> {
    const OF_A_LIMIT: &[&str] = &[
        "maximum",
        "max ",
        "max_",
        "at most",
        "less than",
        "greater than",
        "larger than",
        "above",
        "exceed",
        "between",
        "range",
        "<=",
    ];
    if !OF_A_LIMIT.iter().any(|word| words.contains(word)) {
        return None;
    }
    let numbers =
        words.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok());
    Some(numbers.filter(|number| (1..20).contains(number)).max())
}

/// Whether `name` stands in `text` by itself.
fn is_word(text: &str, name: &str) -> bool {
    let of_a_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        !text[..at].ends_with(of_a_name) && !text[at + name.len()..].starts_with(of_a_name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, words: &str) -> Option<Cause> {
        let fields = ["logprobs", "max_tokens", "seed", "temperature", "top_logprobs"];
        cause(status, words, &fields.map(str::to_owned))
    }

    #[test]
    fn refusals_of_many_servers_are_understood() {
        let fields =
            |names: &[&str]| Cause::Fields(names.iter().map(|name| (*name).to_owned()).collect());
        for (status, words, expected) in [
            // Keys.
            (400, "No connected db.", Cause::Key),
            (401, "", Cause::Key),
            (400, "API key not valid. Please pass a valid API key.", Cause::Key),
            (400, "Incorrect API key provided: xa***Y.", Cause::Key),
            (403, "No auth credentials found", Cause::Key),
            (403, "Unauthorized", Cause::Key),
            (
                500,
                "Authentication Error, Invalid proxy server token passed. API key invalid",
                Cause::Key,
            ),
            (
                429,
                "You exceeded your current quota, please check your plan and billing details.",
                Cause::Quota,
            ),
            (402, "Insufficient Balance", Cause::Quota),
            // Models.
            (404, "The model `x` does not exist.", Cause::Model),
            (400, "x is not a valid model ID", Cause::Model),
            (
                400,
                "Invalid model name passed in model=x. Call `/v1/models` to view available models",
                Cause::Model,
            ),
            (400, "Model Not Exist", Cause::Model),
            (404, "model 'x' not found", Cause::Model),
            (
                500,
                "x is not a local folder and is not a valid model identifier listed on the hub",
                Cause::Model,
            ),
            (200, "No models loaded. Please load a model in the developer page", Cause::Model),
            (200, "Unexpected endpoint or method. (POST /chat/completions)", Cause::Address),
            // Logprobs.
            (403, "You are not allowed to request logprobs from this model", Cause::Logprobs),
            (
                400,
                "Unsupported parameter: 'logprobs' is not supported with this model.",
                Cause::Logprobs,
            ),
            (400, "Logprobs is not enabled for models/gemini-2.5-pro", Cause::Logprobs),
            (400, "Argument not supported on this model: logprobs", Cause::Logprobs),
            (422, "logprobs: Extra inputs are not permitted", Cause::Logprobs),
            (
                422,
                "Unexpected fields in the request: {'logprobs', 'top_logprobs'}",
                Cause::Logprobs,
            ),
            (
                400,
                "Requested sample logprobs of 20, which is greater than max allowed: 5",
                Cause::FewerLogprobs(Some(5)),
            ),
            (
                400,
                "Invalid 'top_logprobs': integer above maximum value. Expected a value <= 5, but got 20 instead.",
                Cause::FewerLogprobs(Some(5)),
            ),
            (400, "top_logprobs exceeds what this deployment allows", Cause::FewerLogprobs(None)),
            // Pictures.
            (400, "GLM is not a multimodal model", Cause::NoPictures),
            (
                500,
                "image input is not supported - hint: you may need to provide the mmproj",
                Cause::NoPictures,
            ),
            (404, "No endpoints found that support image input", Cause::NoPictures),
            (400, "At most 0 image(s) may be provided in one prompt.", Cause::NoPictures),
            (
                400,
                "Invalid content type. image_url is only supported by certain models.",
                Cause::NoPictures,
            ),
            (400, "cannot identify image file <_io.BytesIO object at 0x7f>", Cause::Picture),
            (500, "Failed to load image: incorrect padding", Cause::Picture),
            (413, "Request Entity Too Large", Cause::Picture),
            (
                400,
                "This model's maximum context length is 1024 tokens. However, you requested 1376 tokens (1344 in the \
                 messages, 32 in the completion). max_tokens is too large",
                Cause::TooLong,
            ),
            // Fields.
            (
                400,
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'",
                fields(&["max_tokens"]),
            ),
            (
                400,
                "Unsupported value: 'temperature' does not support 0 with this model.",
                fields(&["temperature"]),
            ),
            (
                400,
                "Unsupported value: 'temperature' does not support 0.0 with gpt-vision-preview",
                fields(&["temperature"]),
            ),
            (422, "seed: Extra inputs are not permitted", fields(&["seed"])),
            (
                400,
                "anthropic does not support parameters: ['seed', 'logprobs', 'top_logprobs'], for model=x",
                fields(&["logprobs", "seed", "top_logprobs"]),
            ),
        ] {
            assert_eq!(read(status, words), Some(expected), "{status} {words}");
        }
    }

    #[test]
    fn what_passes_or_is_not_known_is_left() {
        for (status, words) in [
            (429, "Rate limit reached for model x"),
            (503, "Loading model"),
            (503, "The model is not available at the moment"),
            (500, "Internal Server Error"),
            (400, "bad weather"),
            (
                422,
                "[{'type': 'missing', 'loc': ('body', 'tools'), 'input': {'logprobs': True, 'seed': 0}}]",
            ),
            (500, "CUDA out of memory"),
            (500, "The model is overloaded. Please try again later."),
            (200, "Model x not found on this node, it is currently loading"),
            (404, "model x does not exist: temporarily taken down"),
        ] {
            assert_eq!(read(status, words), None, "{status} {words}");
        }
    }
}
