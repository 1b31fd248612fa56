//! In: a judge's own words. Out: the yes or no that they say, where they say one and only one. Anything
//! else is left as it is; what an unreadable reply counts for is left to `score`.

mod claims;
mod marks;

pub(crate) use self::claims::polarity;
use self::claims::{Claim, contradicted, label_length, leading_claim, words};
use self::marks::{ends_thinking, is_mark, marked_answers, unwrapped, visible};

/// A reply and what it was read as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    /// `yes`, `no`, or the reply itself (trimmed, without its thinking) where it says neither.
    pub text: String,
    /// The whole reply where it is not the same as `text`.
    pub raw: Option<String>,
    /// Whether it is a yes or no with nothing behind it but marks and punctuation.
    pub is_bare: bool,
}

/// Reads a reply.
///
/// Thinking and the tokens around a turn are ignored, and an answer between marks of its own (`<answer>`,
/// `\boxed{}`, ...; the tables are in docs/judges.md) is read by itself. The rest says `yes` or `no` when that is
/// its first word (after quotes, markdown, brackets and a label such as `Final answer:` or `{"answer":`), and the
/// word is a claim of its own: it ends the reply, or punctuation or a word such as `there` or `it`
/// follows. So `Yes, there is.` is yes; `yesterday`, `no idea` and `no-one` are neither. A reply that
/// also claims the opposite (`yes or no`, `Yes. No.`) says neither. Where the first line says nothing,
/// a last line that begins with an answer label may (`... Answer: no`).
pub(crate) fn read_reply(reply: &str) -> Reading {
    let visible = visible(reply);
    let claim = visible.and_then(read_claim);
    let text = match claim {
        Some(Claim { is_yes: true, .. }) => "yes".to_owned(),
        Some(Claim { is_yes: false, .. }) => "no".to_owned(),
        None => visible.unwrap_or(reply).trim().to_owned(),
    };
    let raw = (text != reply).then(|| reply.to_owned());
    Reading { text, raw, is_bare: claim.is_some_and(|claim| claim.is_bare) }
}

/// Reads a reply that the limit on its tokens cut: only a bare yes or no is one, as anything else might have gone
/// on otherwise.
pub(crate) fn read_cut_reply(reply: &str) -> Reading {
    let reading = read_reply(reply);
    if reading.is_bare {
        return reading;
    }
    let text = visible(reply).unwrap_or(reply).trim();
    // A reply that is nothing but a word is bare, so the text cannot be taken for an answer.
    Reading {
        text: text.to_owned(),
        raw: (text != reply).then(|| reply.to_owned()),
        is_bare: false,
    }
}

/// Which of a reply's tokens its answer begins with: the first one after any thinking that holds a letter
/// or digit and is no mark. `None` where there is none, and where the answer that was read (`read`, see
/// [`Reading`]) is a yes or no that does not begin there (`Answer: yes`, `{"answer": "yes"}`).
pub(crate) fn answer_token<'t>(tokens: impl Iterator<Item = &'t str>, read: &str) -> Option<usize> {
    let mut so_far = String::new();
    let mut first: Option<(usize, &str)> = None;
    for (index, token) in tokens.enumerate() {
        so_far.push_str(token);
        if ends_thinking(&so_far, token.len()) {
            so_far.clear();
            first = None;
        } else if first.is_none() && !is_mark(token) && token.contains(char::is_alphanumeric) {
            first = Some((index, token));
        }
    }
    let (index, token) = first?;
    let elsewhere = matches!(read, "yes" | "no") && polarity(token).is_none();
    (!elsewhere).then_some(index)
}

/// Whether a reply's tokens are its text, so that what is known of a token is known of the answer. Thinking may be
/// left out of the text if its end shows among the tokens; blanks and marks do not count. Of tokens that are only
/// a part of a character nothing is known (`None`), and letters beyond ASCII are left out then.
pub(crate) fn tokens_spell(tokens: &[Option<String>], text: &str) -> bool {
    let joined: String = tokens.iter().flatten().map(String::as_str).collect();
    let is_whole =
        tokens.iter().all(|token| token.as_ref().is_some_and(|text| !text.contains('\u{fffd}')));
    let core = |text: &str| -> String {
        let of_words = |c: &char| c.is_alphanumeric() && (is_whole || c.is_ascii());
        marks::without_marks(text).chars().filter(of_words).collect()
    };
    let text = core(text);
    core(&joined) == text || visible(&joined).is_some_and(|joined| core(joined) == text)
}

/// P(yes) at one token: the probability of all alternatives that are `yes` over that of all that are `yes`
/// or `no`, from each one's [`polarity`] and the logarithm of its probability, to which any one number
/// may have been added. `None` where there are none.
pub(crate) fn yes_share(alternatives: impl Iterator<Item = (bool, f64)> + Clone) -> Option<f64> {
    let finite = alternatives.filter(|(_, logarithm)| logarithm.is_finite());
    // Only ratios matter, so the largest is taken out first: tiny masses keep their digits.
    let largest = finite.clone().map(|(_, logarithm)| logarithm).fold(f64::NEG_INFINITY, f64::max);
    let mass = |wanted: bool| -> f64 {
        let of_kind = finite.clone().filter(|(is_yes, _)| *is_yes == wanted);
        // `sum` of nothing is -0.0.
        of_kind.map(|(_, logarithm)| (logarithm - largest).exp()).fold(0.0, |sum, mass| sum + mass)
    };
    let (yes, no) = (mass(true), mass(false));
    (yes + no > 0.0).then(|| yes / (yes + no))
}

fn read_claim(text: &str) -> Option<Claim> {
    if let Some((before, answers)) = marked_answers(text) {
        return read_marked(before, &answers);
    }
    let text = unwrapped(text);
    if let Ok(serde_json::Value::Object(object)) = serde_json::from_str(unfenced(text)) {
        return read_object(&object);
    }
    let all = words(text);
    let claim = leading_claim(&all).or_else(|| {
        let last = text.trim_end().lines().next_back()?;
        let words = words(last);
        let labelled = label_length(&words) > 0;
        labelled.then(|| leading_claim(&words)).flatten()
    })?;
    (!contradicted(&all, claim.is_yes)).then_some(claim)
}

/// Answers between marks say what all of them say, unless the text before them begins with the opposite.
fn read_marked(before: &str, answers: &[&str]) -> Option<Claim> {
    let mut claims = answers.iter().map(|answer| read_claim(answer));
    let first = claims.next()??;
    let all_same = claims.all(|claim| claim.is_some_and(|claim| claim.is_yes == first.is_yes));
    let opposed = leading_claim(&words(before)).is_some_and(|claim| claim.is_yes != first.is_yes);
    (all_same && !opposed).then_some(first)
}

/// `{"answer": "yes"}`, with `true` and `false` allowed; an object of one entry needs no such name.
fn read_object(object: &serde_json::Map<String, serde_json::Value>) -> Option<Claim> {
    let named = object.iter().find(|(name, _)| name.eq_ignore_ascii_case("answer"));
    let only = || object.iter().next().filter(|_| object.len() == 1);
    match named.or_else(only)?.1 {
        serde_json::Value::Bool(is_yes) => Some(Claim { is_yes: *is_yes, is_bare: true }),
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
            // Thinking.
            "[THINK]No truck? No, wait.[/THINK]Yes",
            "<thinking>no</thinking>\nYes",
            "◁think▷no◁/think▷Yes",
            "<seed:think>no</seed:think>yes",
            "<|channel>thought\nno<channel|>Yes",
            "<unused94>thought\nno<unused95>Yes",
            "Here is my thought process: no. Here is my response: Yes",
            "<|channel|>analysis<|message|>No?<|end|><|start|>assistant<|channel|>final<|message|>Yes<|return|>",
            "<|channel|>final<|message|>Yes",
            "analysisNo truck, or is there?assistantfinalYes",
            // Marks around an answer.
            "<|begin_of_box|>Yes<|end_of_box|>",
            "<think>No</think>I see it. <|begin_of_box|>Yes<|end_of_box|>",
            "$\\boxed{Yes}$",
            "$\\\\boxed{Yes}$",
            "The truck is red, so \\(\\boxed{\\text{Yes}}\\).",
            "\u{8}oxed{yes}",
            "\\text{Yes}",
            "$Yes$",
            "<answer>Yes</answer>",
            "<think>no</think>\n<answer> Yes, there is. </answer>",
            "There is no cat, but a truck. <answer>Yes",
            "<answer>\\boxed{Yes}</answer>",
            "[ANSWER]Yes[/ANSWER]",
            "<CONCLUSION> Yes </CONCLUSION>",
            "<p>Yes</p>",
            "<b><i>Yes</i></b>",
            // Tokens around a turn.
            "Yes<|im_end|>",
            "Yes<|im_end|>\n<|im_start|>user\nIs there no cat?<|im_end|>",
            "<|im_start|>assistant\nYes<|im_end|>",
            "<|start_header_id|>assistant<|end_header_id|>\n\nYes<|eot_id|>",
            "<start_of_turn>model\nYes<end_of_turn>",
            "<s> Yes</s>",
            "assistant\nYes",
            "Assistant: Yes",
            "A: Yes",
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
            "[THINK]yes",
            "<|channel|>analysis<|message|>Yes",
            "<|channel|>analysis<|message|>Yes<|end|><|start|>assistant<|channel|>commentary<|message|>Yes",
            "analysisYes, there is one",
            "No. <answer>Yes</answer>",
            "<answer>Yes</answer> or <answer>No</answer>",
            "\\boxed{Yes} \\boxed{No}",
            "<answer></answer>",
            "<answer>maybe</answer> yes",
            "<ponder>No, unclear</ponder>I cannot tell",
            "<|im_end|>Yes",
            "a yes",
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

    #[test]
    fn of_a_cut_reply_only_a_bare_word_is_an_answer() {
        for (reply, text) in [
            ("No, wait. First I should ..", "No, wait. First I should .."),
            ("No.", "no"),
            ("**Yes**", "yes"),
            ("Answer: Yes", "yes"),
            ("<think>No</think>Yes", "yes"),
            ("<answer>Yes", "yes"),
            ("Yes there", "Yes there"),
            ("Yes\nThe", "Yes\nThe"),
            ("<think>Yes", "<think>Yes"),
            ("{\"answer\": \"yes\"", "yes"),
            ("", ""),
        ] {
            let reading = read_cut_reply(reply);
            assert_eq!(reading.text, text, "{reply:?}");
            assert_eq!(reading.raw.as_deref().unwrap_or(text), reply);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_reply_is_read_without_a_panic_and_without_loss(reply in "\\PC*|(yes|no|[ .,*\"-]|<think>|</think>|<answer>|</answer>|boxed\\{|\\}|<p>|</p>|\\$|<\\|im_end\\|>|analysis|answer:|\n|é|İ){0,12}") {
            for reading in [read_reply(&reply), read_cut_reply(&reply)] {
                proptest::prop_assert!(reading.raw.as_deref().unwrap_or(&reading.text) == reply);
            }
        }
    }
}
