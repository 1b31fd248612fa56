//! In: what a server replied to one question with the picture and without it. Out: whether the model saw the picture.
//! Some servers drop pictures for a model that takes none, and answer all the same.

use super::reply::Completion;

/// What two replies tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VisionCheck {
    /// The picture made a difference, or nothing speaks against that it was seen.
    Sees,
    /// It made none; what shows it.
    Blind(String),
    /// It cannot be told; why.
    Unknown(String),
}

/// Compares the replies to one question.
///
/// Equal counts of the prompt's tokens mean that the picture has none. Where the server does not count, replies and
/// the probabilities of their tokens that are equal to the last digit mean the same.
pub(super) fn compare(with: &Completion, without: &Completion) -> VisionCheck {
    let same_words = with.said == without.said;
    if let (Some(tokens), Some(fewer)) = (with.prompt_tokens, without.prompt_tokens) {
        if tokens != fewer {
            return VisionCheck::Sees;
        }
        let replies = if same_words { ", and the reply is the same" } else { "" };
        return VisionCheck::Blind(format!(
            "the prompt has {tokens} tokens with the image and {fewer} without it{replies}"
        ));
    }
    let counted = "the server does not count the prompt's tokens (usage.prompt_tokens)";
    match (same_words, with.logprobs.is_null() || without.logprobs.is_null()) {
        (false, _) => VisionCheck::Sees,
        (true, false) if with.logprobs == without.logprobs => VisionCheck::Blind(
            "the reply and the probabilities of its tokens are the same with the image and without it".to_owned(),
        ),
        (true, false) => VisionCheck::Sees,
        (true, true) => VisionCheck::Unknown(counted.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::judge::Answer;

    fn reply(said: &str, prompt_tokens: Option<u64>, logprobs: Value) -> Completion {
        let answer = Answer { text: said.to_owned(), ..Answer::default() };
        Completion { answer, said: said.to_owned(), prompt_tokens, logprobs }
    }

    #[test]
    fn a_picture_leaves_a_trace_or_was_not_seen() {
        let (yes, no) = (json!({"content": [1]}), json!({"content": [2]}));
        let blind = |sight| matches!(sight, VisionCheck::Blind(_));
        assert!(blind(compare(
            &reply("Yes", Some(9), json!(null)),
            &reply("Yes", Some(9), json!(null))
        )));
        assert!(blind(compare(
            &reply("Yes", Some(9), yes.clone()),
            &reply("No", Some(9), no.clone())
        )));
        assert!(blind(compare(&reply("Yes", None, yes.clone()), &reply("Yes", None, yes.clone()))));
        // Some models show a picture as one token.
        for (with, without) in [
            (reply("Yes", Some(10), json!(null)), reply("Yes", Some(9), json!(null))),
            (reply("Yes", None, yes.clone()), reply("Yes", None, no.clone())),
            (reply("Yes", None, json!(null)), reply("No", Some(9), json!(null))),
        ] {
            assert_eq!(compare(&with, &without), VisionCheck::Sees);
        }
        let silent = reply("Yes", None, json!(null));
        assert!(matches!(compare(&silent, &silent.clone()), VisionCheck::Unknown(_)));
    }
}
