//! In: the visible text of a reply. Out: its words, and the yes or no that they begin with, where that is a claim of
//! its own. Marks and thinking are taken off before; what is read where is left to the parent module.

/// What a text says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    pub(super) is_yes: bool,
    /// Nothing follows it.
    pub(super) is_bare: bool,
}

/// A word in lower case and what stands between it and the next one.
pub(super) struct Word {
    pub(super) text: String,
    pub(super) gap: String,
}

/// Cuts a text into words of letters, digits and inner apostrophes. What stands before the first word
/// is dropped.
pub(super) fn words(text: &str) -> Vec<Word> {
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
pub(super) const AFTER_A_CLAIM: &[&str] =
    &["because", "he", "in", "it", "she", "since", "that", "the", "there", "these", "they", "this"];

/// Number of words of an answer label at the start: `answer`, `the final answer is`, and so on.
pub(super) fn label_length(words: &[Word]) -> usize {
    let is = |index: usize, texts: &[&str]| {
        words.get(index).is_some_and(|word| texts.contains(&word.text.as_str()))
    };
    let mut at = 0;
    while is(at, &["the", "my", "final", "correct", "so", "therefore", "thus"]) {
        at += 1;
    }
    const NAMES: &[&str] =
        &["answer", "response", "verdict", "conclusion", "judgment", "judgement", "assistant"];
    // `A: yes`, but not `a yes`.
    let letter = at == 0
        && is(at, &["a", "ans"])
        && words.first().is_some_and(|word| word.gap.starts_with([':', '.']));
    if !is(at, NAMES) && !letter {
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

pub(super) fn leading_claim(words: &[Word]) -> Option<Claim> {
    let at = label_length(words);
    let is_yes = polarity(&words.get(at)?.text)?;
    stands_alone(words, at).then_some(Claim { is_yes, is_bare: words.len() == at + 1 })
}

/// Whether the yes or no at `at` is a claim rather than a part of what follows.
pub(super) fn stands_alone(words: &[Word], at: usize) -> bool {
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
pub(super) fn contradicted(words: &[Word], claim: bool) -> bool {
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

/// `Some(true)` for a token or word that is `yes`, `Some(false)` for `no`, once case, blanks,
/// punctuation, markdown and the word-start marks of tokenizers are taken off.
pub(crate) fn polarity(token: &str) -> Option<bool> {
    let bare = token.trim_matches(|c: char| !c.is_alphanumeric() || matches!(c, 'Ġ' | 'Ċ'));
    if bare.eq_ignore_ascii_case("yes") {
        Some(true)
    } else if bare.eq_ignore_ascii_case("no") {
        Some(false)
    } else {
        None
    }
}
