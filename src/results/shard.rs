//! In: how many parts a run is dealt into. Out: which items belong to which part, and where each part lies
//! in the run directory. Joining the parts is left to `merge`.

/// One of `count` parts of a run, numbered from 0. The items are dealt like cards: the one at place `p`
/// of the selection goes to part `p % count`, so that long and short prompts, which stand together in the
/// question files, are spread evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shard {
    // Compared by count first: the shards of one dealing stand together.
    count: u32,
    index: u32,
}

/// A text or a pair of numbers that is no shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// It does not read like one.
    #[error(
        "`{0}` is no shard: it reads like 0/4, the first of four (they are numbered from 0 to 3)"
    )]
    Unreadable(String),
    /// There is no such part.
    #[error(
        "there is no shard {index}/{count}: shards are numbered from 0, so 0 to {} here",
        count.saturating_sub(1)
    )]
    OutOfRange {
        /// Asked for.
        index: u32,
        /// Of so many.
        count: u32,
    },
    /// A run in no parts.
    #[error("a run cannot be dealt into 0 shards")]
    None,
}

impl Shard {
    /// The part `index`, from 0, of `count`.
    ///
    /// # Errors
    /// There is no such part.
    pub fn new(index: u32, count: u32) -> Result<Self, ShardError> {
        match (index, count) {
            (_, 0) => Err(ShardError::None),
            _ if index >= count => Err(ShardError::OutOfRange { index, count }),
            _ => Ok(Self { count, index }),
        }
    }

    /// Which part, from 0.
    pub fn index(self) -> u32 {
        self.index
    }

    /// Of how many.
    pub fn count(self) -> u32 {
        self.count
    }

    /// Its part of what is dealt, in the same order.
    pub fn own_part<T: Clone>(self, all: &[T]) -> Vec<T> {
        all.iter().skip(self.index as usize).step_by(self.count as usize).cloned().collect()
    }

    /// The name of its folder: `0-of-4`.
    pub fn folder(self) -> String {
        format!("{}-of-{}", self.index, self.count)
    }

    /// The shard that a folder of that name holds.
    pub fn of_folder(name: &str) -> Option<Self> {
        let (index, count) = name.split_once("-of-")?;
        let shard = Self::new(index.parse().ok()?, count.parse().ok()?).ok()?;
        // `00-of-4` and `+0-of-4` are nobody's.
        (shard.folder() == name).then_some(shard)
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl std::str::FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let unreadable = || ShardError::Unreadable(text.to_owned());
        let (index, count) = text.split_once('/').ok_or_else(unreadable)?;
        let number = |text: &str| text.trim().parse::<u32>().map_err(|_| unreadable());
        Self::new(number(index)?, number(count)?)
    }
}

impl serde::Serialize for Shard {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Shard {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Where the shards of a run are.
pub(crate) const FOLDER: &str = "shards";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_dealt_like_cards_and_every_one_once() {
        let items: Vec<u32> = (0..10).collect();
        assert_eq!(Shard::new(1, 4).unwrap().own_part(&items), [1, 5, 9]);
        for count in [1, 3, 7, 10, 13] {
            let mut all: Vec<u32> = (0..count)
                .flat_map(|index| Shard::new(index, count).unwrap().own_part(&items))
                .collect();
            all.sort_unstable();
            assert_eq!(all, items, "{count} shards");
        }
        assert!(Shard::new(12, 13).unwrap().own_part(&items).is_empty());
    }

    #[test]
    fn texts_and_folders_are_read_and_others_refused() {
        let shard: Shard = "3/4".parse().unwrap();
        assert_eq!((shard.index(), shard.count(), shard.to_string()), (3, 4, "3/4".to_owned()));
        assert_eq!(Shard::of_folder("3-of-4"), Some(shard));
        for bad in ["", "3", "4/4", "1/0", "-1/4", "a/b", "1/2/3"] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
        let error = "4/4".parse::<Shard>().unwrap_err().to_string();
        assert!(error.contains("numbered from 0, so 0 to 3"), "{error}");
        for bad in ["03-of-4", "4-of-4", "x-of-4", "3 of 4", "3-of-4.old"] {
            assert_eq!(Shard::of_folder(bad), None, "{bad}");
        }
    }
}
