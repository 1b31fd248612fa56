//! In: a judge's own words. Out: the yes or no that they say, where they say one and only one. Anything
//! else is left as it is; what an unreadable reply counts for is left to `score`.

/// A reply and what it was read as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// `yes`, `no`, or the reply itself (trimmed, without its thinking) where it says neither.
    pub text: String,
    /// The whole reply where it is not the same as `text`.
    pub raw: Option<String>,
}

/// Reads a reply.
///
/// What comes before the last `</think>` is ignored. The rest says `yes` or `no` when that is its first
/// word (after quotes, markdown, brackets and a label such as `Final answer:` or `{"answer":`), and the
/// word is a claim of its own: it ends the reply, or punctuation or a word such as `there` or `it`
/// follows. So `Yes, there is.` is yes; `yesterday`, `no idea` and `no-one` are neither. A reply that
/// also claims the opposite (`yes or no`, `Yes. No.`) says neither. Where the first line says nothing,
/// a last line that begins with an answer label may (`... Answer: no`).
pub fn read_reply(reply: &str) -> Reading {
    let visible = without_thinking(reply);
    let text = match visible.and_then(read_claim) {
        Some(true) => "yes".to_owned(),
        Some(false) => "no".to_owned(),
        None => visible.unwrap_or(reply).trim().to_owned(),
    };
    let raw = (text != reply).then(|| reply.to_owned());
    Reading { text, raw }
}

/// `Some(true)` for a token or word that is `yes`, `Some(false)` for `no`, once case, blanks,
/// punctuation, markdown and the word-start marks of tokenizers are taken off.
pub fn polarity(token: &str) -> Option<bool> {
    let bare = token.trim_matches(|c: char| !c.is_alphanumeric() || matches!(c, 'Ġ' | 'Ċ'));
    if bare.eq_ignore_ascii_case("yes") {
        Some(true)
    } else if bare.eq_ignore_ascii_case("no") {
        Some(false)
    } else {
        None
    }
}

/// Which of a reply's tokens its answer begins with: the first one after any thinking that holds a letter
/// or digit. `None` where there is none, and where the answer that was read (`read`, see [`Reading`]) is
/// a yes or no that does not begin there (`Answer: yes`, `{"answer": "yes"}`).
pub fn answer_token<'t>(tokens: impl Iterator<Item = &'t str>, read: &str) -> Option<usize> {
    let mut so_far = String::new();
    let mut first: Option<(usize, &str)> = None;
    for (index, token) in tokens.enumerate() {
        so_far.push_str(token);
        if so_far.contains("</think>") {
            so_far.clear();
            first = None;
        } else if first.is_none() && token.contains(char::is_alphanumeric) {
            first = Some((index, token));
        }
    }
    let (index, token) = first?;
    let elsewhere = matches!(read, "yes" | "no") && polarity(token).is_none();
    (!elsewhere).then_some(index)
}

/// P(yes) at one token: the probability of all alternatives that are `yes` over that of all that are `yes`
/// or `no`, from each one's [`polarity`] and the logarithm of its probability, to which any one number
/// may have been added. `None` where there are none.
pub fn yes_share(alternatives: impl Iterator<Item = (bool, f64)> + Clone) -> Option<f64> {
    let finite = alternatives.filter(|(_, logarithm)| logarithm.is_finite());
    // Only ratios matter, so the largest is taken out first: tiny masses keep their digits.
    let largest = finite.clone().map(|(_, logarithm)| logarithm).fold(f64::NEG_INFINITY, f64::max);
    let mass = |wanted: bool| -> f64 {
        let of_kind = finite.clone().filter(|(is_yes, _)| *is_yes == wanted);
        of_kind.map(|(_, logarithm)| (logarithm - largest).exp()).sum()
    };
    let (yes, no) = (mass(true), mass(false));
    (yes + no > 0.0).then(|| yes / (yes + no))
}

/// The reply after its thinking; `None` where the thinking never ends. Some servers swallow the
/// opening mark, so the closing one alone counts.
fn without_thinking(reply: &str) -> Option<&str> {
    // ASCII lower-casing keeps every byte in its place.
    let lower = reply.to_ascii_lowercase();
    match lower.rfind("</think>") {
        Some(at) => {
            let rest = at + "</think>".len();
            (!lower[rest..].contains("<think>")).then(|| &reply[rest..])
        }
        None => (!lower.contains("<think>")).then_some(reply),
    }
}

fn read_claim(text: &str) -> Option<bool> {
    if let Ok(serde_json::Value::Object(object)) = serde_json::from_str(unfenced(text)) {
        return read_object(&object);
    }
    let words = words(text);
    let claim = leading_claim(&words).or_else(|| {
        let last = text.trim_end().lines().next_back()?;
        let words = self::words(last);
        let labelled = label_length(&words) > 0;
        labelled.then(|| leading_claim(&words)).flatten()
    })?;
    (!contradicted(&words, claim)).then_some(claim)
}

/// `{"answer": "yes"}`, with `true` and `false` allowed; an object of one entry needs no such name.
fn read_object(object: &serde_json::Map<String, serde_json::Value>) -> Option<bool> {
    let named = object.iter().find(|(name, _)| name.eq_ignore_ascii_case("answer"));
    let only = || object.iter().next().filter(|_| object.len() == 1);
    match named.or_else(only)?.1 {
        serde_json::Value::Bool(value) => Some(*value),
        serde_json::Value::String(text) => read_claim(text),
        _ => None,
    }
}

/// Takes a markdown code fence off.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let Some(inner) = text.strip_prefix("```").and_then(|text| text.strip_suffix("```")) else {
        return text;
    };
    inner.trim_start_matches(|c: char| c.is_ascii_alphabetic()).trim()
}

/// A word in lower case and what stands between it and the next one.
struct Word {
    text: String,
    gap: String,
}

/// Cuts a text into words of letters, digits and inner apostrophes. What stands before the first word
/// is dropped.
fn words(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut characters = text.chars().peekable();
    let mut in_word = false;
    while let Some(c) = characters.next() {
        let apostrophe = matches!(c, '\'' | '’')
            && in_word
            && characters.peek().is_some_and(|next| next.is_alphabetic());
        if c.is_alphanumeric() || apostrophe {
            if !in_word {
                words.push(Word { text: String::new(), gap: String::new() });
                in_word = true;
            }
            if let Some(word) = words.last_mut() {
                word.text.extend(c.to_lowercase());
            }
        } else {
            in_word = false;
            if let Some(word) = words.last_mut() {
                word.gap.push(c);
            }
        }
    }
    words
}

/// Words that may follow `yes` or `no` without punctuation and leave it a claim (`no there is not`).
/// `no image shows it` has none of them: there `no` belongs to the noun.
const AFTER_A_CLAIM: &[&str] =
    &["because", "he", "in", "it", "she", "since", "that", "the", "there", "these", "they", "this"];

/// Number of words of an answer label at the start: `answer`, `the final answer is`, and so on.
fn label_length(words: &[Word]) -> usize {
    let is = |index: usize, texts: &[&str]| {
        words.get(index).is_some_and(|word| texts.contains(&word.text.as_str()))
    };
    let mut at = 0;
    while is(at, &["the", "my", "final", "correct", "so", "therefore", "thus"]) {
        at += 1;
    }
    if !is(at, &["answer", "response", "verdict"]) {
        return 0;
    }
    at += 1;
    if is(at, &["is", "would"]) {
        at += 1;
    }
    if is(at, &["be"]) {
        at += 1;
    }
    at
}

fn leading_claim(words: &[Word]) -> Option<bool> {
    let at = label_length(words);
    let claim = polarity(&words.get(at)?.text)?;
    stands_alone(words, at).then_some(claim)
}

/// Whether the yes or no at `at` is a claim rather than a part of what follows.
fn stands_alone(words: &[Word], at: usize) -> bool {
    let Some(next) = words.get(at + 1) else { return true };
    let gap = words[at].gap.as_str();
    // `no-one` and `No. 5` go on; `no – there is none` and `No, five` do not.
    if gap == "-" || gap == "'" || gap == "’" {
        return false;
    }
    if gap.trim() == "." && next.text.starts_with(|c: char| c.is_numeric()) {
        return false;
    }
    !gap.trim().is_empty()
        || gap.contains('\n')
        || AFTER_A_CLAIM.contains(&next.text.as_str())
        || polarity(&next.text).is_some()
}

/// Whether the reply also claims the opposite: any `yes` beside a no, and beside a yes any `no` that
/// stands alone (`Yes, there is no truck` has one that does not).
fn contradicted(words: &[Word], claim: bool) -> bool {
    words.iter().enumerate().any(|(index, word)| match polarity(&word.text) {
        Some(found) if found != claim => {
            found || {
                let last_or_cut =
                    words.get(index + 1).is_none() || !words[index].gap.trim().is_empty();
                last_or_cut && words[index].gap != "-"
            }
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reply: &str) -> String {
        read_reply(reply).text
    }

    #[test]
    fn replies_that_say_yes_or_no() {
        for reply in [
            "yes",
            "Yes",
            " YES.\n",
            "Yes!",
            "\"yes\"",
            "“Yes”",
            "**Yes**",
            "**Yes.** There is a truck.",
            "- Yes",
            "`yes`",
            "(yes)",
            "Yes, there is.",
            "Yes there is",
            "Yes it is",
            "Yes\nThe truck is red.",
            "Answer: yes",
            "**Answer:** Yes",
            "The answer is yes.",
            "Final answer: yes",
            "answer: Yes, it is",
            "{\"answer\":\"yes\"}",
            "{\"Answer\": true}",
            "```json\n{\"answer\": \"Yes\"}\n```",
            "{'answer': 'yes'}",
            "{\"result\": \"yes\"}",
            "{\"reason\": \"no cat\", \"answer\": \"yes\"}",
            "<think>No, hmm, no.</think>\n\nYes",
            "no no no</think>yes",
            "<THINK>x</THINK> Yes.",
            "Yes, there is no truck but a car.",
            "Yes — clearly",
            "Yes; it is",
            "yes yes",
            "The truck is on the left.\nAnswer: yes",
        ] {
            assert_eq!(read(reply), "yes", "{reply:?}");
        }
        for reply in [
            "no",
            "No.",
            "No, there is no truck.",
            "NO",
            "no there is not",
            "No it isn't",
            "**No**",
            "Answer: No.",
            "{\"answer\":\"no\"}",
            "{\"answer\": false}",
            "<think>yes?</think>no",
            "No, it's a car.",
            "no - it is a car",
            "I looked closely.\n\n**Final answer: No**",
            "No! None.",
            "No, five.",
            "_no_",
            "No\n\nThere is nothing.",
        ] {
            assert_eq!(read(reply), "no", "{reply:?}");
        }
    }

    #[test]
    fn replies_that_say_neither_are_kept() {
        for reply in [
            "",
            "yesterday",
            "no idea",
            "No idea.",
            "nothing",
            "none",
            "not sure",
            "No one is there.",
            "no-one",
            "No-brainer: red",
            "yes or no",
            "Yes/No",
            "Yes. No.",
            "No. Yes.",
            "no, yes",
            "No, the answer is yes",
            "Yes, or rather no.",
            "I cannot tell",
            "There is a truck, yes",
            "maybe",
            "y",
            "n",
            "Noted.",
            "No. 5 is painted on the door",
            "no visible truck",
            "<think>yes",
            "<think>a</think><think>yes",
            "{\"answer\": \"maybe\"}",
            "{\"answer\": 1}",
            "{\"a\": \"yes\", \"b\": \"no\"}",
            "{}",
            "答案",
            "Yesterday, yes",
            "nо", // the last with a Cyrillic letter
        ] {
            let reading = read_reply(reply);
            assert!(
                reading.text != "yes" && reading.text != "no",
                "{reply:?} read as {}",
                reading.text
            );
            assert!(reading.text.is_empty() || reply.contains(&reading.text), "{reply:?}");
        }
    }

    #[test]
    fn the_whole_reply_is_kept_where_it_is_not_the_text() {
        assert_eq!(read_reply("yes").raw, None);
        assert_eq!(read_reply("Yes").raw.as_deref(), Some("Yes"));
        assert_eq!(read_reply("maybe").raw, None);
        let thought = read_reply("<think>long</think>\nmaybe\n");
        assert_eq!(thought.text, "maybe");
        assert_eq!(thought.raw.as_deref(), Some("<think>long</think>\nmaybe\n"));
    }

    #[test]
    fn tokens_are_read_without_their_marks() {
        for token in ["yes", " Yes", "▁yes", "ĠYes", "Yes,", "\"yes\"", "**Yes", "YES"] {
            assert_eq!(polarity(token), Some(true), "{token:?}");
        }
        for token in [" no", "No", "ĠNo", "no."] {
            assert_eq!(polarity(token), Some(false), "{token:?}");
        }
        for token in ["", " ", "yess", "not", "n", "yesno", "no no", "**"] {
            assert_eq!(polarity(token), None, "{token:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_reply_is_read_without_a_panic_and_without_loss(reply in "\\PC*|(yes|no|[ .,*\"-]|<think>|</think>|answer:|\n|é){0,12}") {
            let reading = read_reply(&reply);
            proptest::prop_assert!(reading.raw.as_deref().unwrap_or(&reading.text) == reply);
        }
    }
}
