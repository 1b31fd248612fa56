//! In: a reply as a model wrote it. Out: the part that is its answer, without the marks that models put
//! around thinking and answers. The tables here are those of docs/judges.md; what the answer says is left to
//! the parent module.

/// Marks around thinking, in small letters. What stands before the last closing one is no answer.
const THINKING: &[(&str, &str)] = &[
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<thoughts>", "</thoughts>"),
    ("<reasoning>", "</reasoning>"),
    ("<reason>", "</reason>"),
    ("<analysis>", "</analysis>"),
    ("<reflection>", "</reflection>"),
    ("<seed:think>", "</seed:think>"),
    ("<mm:think>", "</mm:think>"),
    ("<longcat_think>", "</longcat_think>"),
    ("[think]", "[/think]"),
    ("[thinking]", "[/thinking]"),
    ("◁think▷", "◁/think▷"),
    ("<|think|>", "<|/think|>"),
    ("<|start_thinking|>", "<|end_thinking|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel>thought", "<channel|>"),
    ("<unused94>", "<unused95>"),
    ("here is my thought process:", "here is my response:"),
];

/// Marks around an answer, in small letters.
const ANSWERS: &[(&str, &str)] = &[
    ("<answer>", "</answer>"),
    ("<final_answer>", "</final_answer>"),
    ("<final>", "</final>"),
    ("<response>", "</response>"),
    ("<output>", "</output>"),
    ("<result>", "</result>"),
    ("<conclusion>", "</conclusion>"),
    ("[answer]", "[/answer]"),
    ("<|begin_of_box|>", "<|end_of_box|>"),
    ("<|begin_of_solution|>", "<|end_of_solution|>"),
    ("<|start_response|>", "<|end_response|>"),
    ("<|start_text|>", "<|end_text|>"),
];

/// Tokens that end a turn. What follows one is no part of the reply.
const TURN_ENDS: &[&str] = &[
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|return|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|end_of_turn_token|>",
    "<|user|>",
    "</s>",
    "<eos>",
    "<end_of_turn>",
    "<turn|>",
    "<｜end▁of▁sentence｜>",
];

/// Tokens that begin a turn or a text.
const TURN_BEGINNINGS: &[&str] = &[
    "<|im_start|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|begin_of_text|>",
    "<|assistant|>",
    "<|start|>",
    "<|turn>",
    "<start_of_turn>",
    "<｜begin▁of▁sentence｜>",
    "<s>",
    "<bos>",
    "[/inst]",
];

/// What the channels of a reply begin with: `<|channel|>final<|message|>`.
const CHANNEL: &str = "<|channel|>";
const MESSAGE: &str = "<|message|>";
/// Between the channels of a reply whose special tokens were dropped: `analysis...assistantfinalYes`.
const BARE_CHANNELS: (&str, &str) = ("analysis", "assistantfinal");
/// The mark of a boxed answer, without the backslashes of which JSON may have eaten one.
const BOXED: &str = "oxed{";

/// The reply without its thinking and the tokens around its turn. `None` where the thinking never ends, or no
/// channel is the final one: then nothing was answered.
pub(super) fn visible(reply: &str) -> Option<&str> {
    let rest = after_thinking(final_channel(reply)?)?;
    Some(the_turn(rest))
}

/// The answers that stand between marks of their own; `None` where there are no such marks. A mark that is not
/// closed reaches to the end.
pub(super) fn marked_answers(text: &str) -> Option<(&str, Vec<&str>)> {
    let lower = text.to_ascii_lowercase();
    let mut found: Vec<(usize, &str)> = Vec::new();
    for (open, close) in ANSWERS {
        let mut from = 0;
        while let Some(at) = lower[from..].find(open) {
            let start = from + at + open.len();
            let end = lower[start..].find(close).map_or(text.len(), |length| start + length);
            found.push((from + at, &text[start..end]));
            from = end;
        }
    }
    found.extend(boxes(text));
    let first = found.iter().map(|(at, _)| *at).min()?;
    Some((&text[..first], found.into_iter().map(|(_, answer)| answer).collect()))
}

/// Where `\boxed{...}` begins, with its content.
fn boxes(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find(BOXED).map(|at| from + at) {
        let start = at + BOXED.len();
        from = start;
        // `\b` is a backspace to JSON, so that `\boxed` may come as one with `oxed` behind it.
        let before = text[..at].trim_end_matches(['b', '\\', '\u{8}']);
        if before.len() == at {
            continue;
        }
        let mut depth = 1;
        let end = text[start..].find(|c: char| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth == 0
        });
        found.push((before.len(), &text[start..end.map_or(text.len(), |end| start + end)]));
    }
    found
}

/// What is inside one tag around the whole text (`<p>Yes</p>`) or one command of LaTeX (`$\text{Yes}$`).
pub(super) fn unwrapped(text: &str) -> &str {
    let mut text = text.trim();
    loop {
        let inner = within_tag(text).or_else(|| within_latex(text)).map(str::trim);
        match inner {
            Some(inner) if inner.len() < text.len() => text = inner,
            _ => return text,
        }
    }
}

/// Of `<name>inner</name>`, `inner`, where the first tag is the last one too. A tag named `yes` or `no` is an answer.
fn within_tag(text: &str) -> Option<&str> {
    let (name, rest) = text.strip_prefix('<')?.split_once('>')?;
    let name = name.split_whitespace().next()?;
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':'));
    let says = name.eq_ignore_ascii_case("yes") || name.eq_ignore_ascii_case("no");
    let inner = rest.strip_suffix('>')?.strip_suffix(name)?.strip_suffix("</")?;
    (is_name && !says && !inner.contains(&format!("</{name}>"))).then_some(inner)
}

fn within_latex(text: &str) -> Option<&str> {
    for (open, close) in [("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")] {
        if text.len() >= open.len() + close.len()
            && let Some(inner) = text.strip_prefix(open).and_then(|text| text.strip_suffix(close))
        {
            return Some(inner);
        }
    }
    let (command, rest) = text.strip_prefix('\\')?.split_once('{')?;
    let inner = rest.strip_suffix('}')?;
    (command.chars().all(|c| c.is_ascii_alphabetic()) && !inner.contains(['{', '}']))
        .then_some(inner)
}

/// The final message of a reply in channels; the reply itself where it has none.
fn final_channel(reply: &str) -> Option<&str> {
    if let Some(at) = reply.rfind(CHANNEL) {
        let (name, message) = reply[at + CHANNEL.len()..].split_once(MESSAGE)?;
        return name.trim_start().starts_with("final").then_some(message);
    }
    let (first, last) = BARE_CHANNELS;
    match (reply.trim_start().starts_with(first), reply.rfind(last)) {
        (true, Some(at)) => Some(&reply[at + last.len()..]),
        _ => Some(reply),
    }
}

/// Some servers swallow the opening mark, so the closing one alone counts.
fn after_thinking(reply: &str) -> Option<&str> {
    // ASCII lower-casing keeps every byte in its place.
    let lower = reply.to_ascii_lowercase();
    let rest =
        THINKING.iter().filter_map(|(_, close)| Some(lower.rfind(close)? + close.len())).max();
    let rest = rest.unwrap_or(0);
    let goes_on = THINKING.iter().any(|(open, _)| lower[rest..].contains(open));
    (!goes_on).then(|| &reply[rest..])
}

/// Takes off what begins a turn, and everything from the token that ends it.
fn the_turn(text: &str) -> &str {
    let mut text = text;
    loop {
        let trimmed = text.trim_start();
        let lower = trimmed.to_ascii_lowercase();
        let mark = TURN_BEGINNINGS.iter().find(|mark| lower.starts_with(*mark));
        let role = ["assistant", "model"].into_iter().find(|role| {
            lower.strip_prefix(role).is_some_and(|rest| rest.starts_with(['\n', '\r', '<']))
        });
        match mark.copied().or(role) {
            Some(mark) => text = &trimmed[mark.len()..],
            None => break,
        }
    }
    let lower = text.to_ascii_lowercase();
    let end = TURN_ENDS.iter().filter_map(|mark| lower.find(mark)).min();
    &text[..end.unwrap_or(text.len())]
}

/// Whether `text` ends within `last` bytes of its end with a mark after which the answer may begin.
pub(super) fn ends_thinking(text: &str, last: usize) -> bool {
    let longest =
        THINKING.iter().map(|(_, close)| close.len()).max().unwrap_or(0).max(MESSAGE.len());
    let from = text.len().saturating_sub(longest + last);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let tail = text[from..].to_ascii_lowercase();
    tail.contains(MESSAGE) || THINKING.iter().any(|(_, close)| tail.contains(close))
}

/// Whether a token is a mark of its own, such as `<|begin_of_box|>`.
pub(super) fn is_mark(token: &str) -> bool {
    let token = token.trim();
    let lower = token.to_ascii_lowercase();
    let known = || {
        TURN_ENDS.iter().chain(TURN_BEGINNINGS).any(|mark| lower == *mark)
            || THINKING.iter().chain(ANSWERS).any(|(open, close)| lower == *open || lower == *close)
    };
    (token.len() > 4 && token.starts_with("<|") && token.ends_with("|>")) || known()
}

/// `text` without any marks: what is left when a server drops special tokens.
pub(super) fn without_marks(text: &str) -> String {
    let mut left = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("<|") {
        let Some(length) = rest[at..].find("|>") else { break };
        left.push_str(&rest[..at]);
        rest = &rest[at + length + 2..];
    }
    left.push_str(rest);
    let lower = left.to_ascii_lowercase();
    let of_turn = TURN_ENDS.iter().chain(TURN_BEGINNINGS).filter(|mark| !mark.starts_with("<|"));
    let cut = of_turn.filter(|mark| lower.ends_with(*mark)).map(|mark| mark.len()).max();
    left.truncate(left.len() - cut.unwrap_or(0));
    left
}
