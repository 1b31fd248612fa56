//! In: nothing. Out: the kinds of controls, and what they are called.

/// What a judge is asked about in place of the images that a question was written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ControlKind {
    /// The run's own images, asked the questions of other items.
    Swapped,
    /// A grey image for each item.
    Grey,
    /// The images that the prompts describe, which only the demo has.
    True,
}

impl ControlKind {
    /// All, in the order in which they are asked and printed.
    pub const ALL: [Self; 3] = [Self::Swapped, Self::Grey, Self::True];

    /// The name of its folder, on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Swapped => "swapped",
            Self::Grey => "grey",
            Self::True => "true",
        }
    }
}
