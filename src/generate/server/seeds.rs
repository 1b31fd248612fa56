//! In: images of one prompt: two of one seed and one of another. Out: what the server makes of seeds, in a word.

use super::wire::WireSettings;

/// Key of the settings that holds the word.
pub(super) const SETTING: &str = "seeds";
/// Prompts of which one is expected to pass a content filter.
pub(crate) const PROMPTS: usize = 5;

/// What a server makes of the seeds that it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seeds {
    /// The same seed gives the same image, another one another.
    Repeats,
    /// Every seed gives the same image.
    Ignored,
    /// The same seed gives another image each time.
    Differs,
    /// The API has no seed.
    None,
    /// Content filters refused the prompts that it was tried with.
    NotKnown,
}

impl Seeds {
    /// What three images tell, each by its digest: two of one seed, one of another.
    pub(super) fn told_by([first, again, other]: [&str; 3]) -> Self {
        match (first == again, first == other) {
            (true, true) => Self::Ignored,
            (true, false) => Self::Repeats,
            (false, _) => Self::Differs,
        }
    }

    /// What needs no trying.
    pub(super) fn of_api(settings: &WireSettings) -> Option<Self> {
        settings.seed_bits().is_none().then_some(Self::None)
    }

    /// The word that the record holds.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Repeats => "repeats",
            Self::Ignored => "ignores the seed",
            Self::Differs => "differs every time",
            Self::None => "has no seed",
            Self::NotKnown => "not known",
        }
    }

    /// That of a record.
    pub(super) fn from_word(word: &str) -> Option<Self> {
        [Self::Repeats, Self::Ignored, Self::Differs, Self::None, Self::NotKnown]
            .into_iter()
            .find(|seeds| seeds.word() == word)
    }

    /// What it means, for people.
    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::Repeats => "the server repeats an image when it is sent the same seed",
            Self::Ignored => {
                "the server ignores the seed: the images of a prompt are the same, and count as one"
            }
            Self::Differs => {
                "the server makes another image of the same seed every time: this run cannot be repeated"
            }
            Self::None => "this API has no seed: this run cannot be repeated",
            Self::NotKnown => {
                "what the server makes of seeds is not known: its content filter refused the first prompts"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_images_tell_what_becomes_of_seeds() {
        for (images, expected) in [
            (["a", "a", "b"], Seeds::Repeats),
            (["a", "a", "a"], Seeds::Ignored),
            (["a", "b", "c"], Seeds::Differs),
            (["a", "b", "a"], Seeds::Differs),
        ] {
            assert_eq!(Seeds::told_by(images), expected);
            assert_eq!(Seeds::from_word(expected.word()), Some(expected));
        }
        assert_eq!(Seeds::from_word("never"), None);
    }
}
