//! In: the text of a rule. Out: how the judge `scripted` comes to its answers.

use std::collections::BTreeMap;

/// How the answers come about.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// `yes` to everything.
    Yes,
    /// `no` to everything.
    No,
    /// `hash:P`: yes with probability P, drawn by a digest of seed, item, image and question.
    Hash(f64),
    /// `category:entity=0.9,attribute=0.7,*=0.5`: the same with a probability per L1 category; `*`
    /// stands for all that are not named.
    Category(BTreeMap<String, f64>),
}

impl std::str::FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "yes" => Ok(Self::Yes),
            None if text == "no" => Ok(Self::No),
            Some(("hash", probability)) => Ok(Self::Hash(parse_probability(probability)?)),
            Some(("category", list)) => {
                let mut probabilities = BTreeMap::new();
                for entry in list.split(',') {
                    let (name, probability) = entry.split_once('=').ok_or_else(|| {
                        format!("`{entry}` is no entry of a category rule; write `entity=0.9`")
                    })?;
                    let probability = parse_probability(probability)?;
                    if probabilities.insert(name.trim().to_owned(), probability).is_some() {
                        return Err(format!("the rule names `{}` twice", name.trim()));
                    }
                }
                Ok(Self::Category(probabilities))
            }
            _ => Err(format!(
                "`{text}` is no rule; there are `yes`, `no`, `hash:0.7` and \
                 `category:entity=0.9,attribute=0.7,*=0.5`"
            )),
        }
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Yes => write!(f, "yes"),
            Self::No => write!(f, "no"),
            Self::Hash(probability) => write!(f, "hash:{probability}"),
            Self::Category(probabilities) => {
                let entries: Vec<String> =
                    probabilities.iter().map(|(name, p)| format!("{name}={p}")).collect();
                write!(f, "category:{}", entries.join(","))
            }
        }
    }
}

fn parse_probability(text: &str) -> Result<f64, String> {
    text.trim()
        .parse()
        .ok()
        .filter(|probability| (0.0..=1.0).contains(probability))
        .ok_or_else(|| format!("`{text}` is no probability; it must be a number from 0 to 1"))
}
