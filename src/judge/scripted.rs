//! In: a file of answers, or a stated rule. Out: those answers, without a look at the picture. For
//! tests, for dry runs, and for answers that were collected elsewhere.

use std::path::Path;

use anyhow::bail;

use super::draw::draw;
use super::options::JudgeOptions;
use super::{Answer, Judge, JudgeRequest};
use crate::benchmark::Question;
use crate::results::Settings;

pub use super::answer_rule::Rule;
pub(crate) use super::scripted_file::{ScriptError, ScriptedAnswers};

/// A judge that answers by a rule or out of a file.
#[derive(Debug, Clone)]
pub struct ScriptedJudge {
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Rule { rule: Rule, seed: u64 },
    File(ScriptedAnswers),
}

impl ScriptedJudge {
    /// The judge that the options describe.
    ///
    /// # Errors
    /// Neither a rule nor a file was named, or both were; the file cannot be read or is no table of answers.
    pub(crate) fn from_options(options: &JudgeOptions) -> anyhow::Result<Self> {
        match (&options.scripted.rule, &options.scripted.answers) {
            (Some(rule), None) => Ok(Self::by_rule(rule.clone(), options.seed.unwrap_or_default())),
            (None, Some(path)) => Ok(Self::from_file(path)?),
            _ => bail!(
                "the judge `scripted` needs either --judge-rule (such as `hash:0.8` or `yes`) or --judge-answers"
            ),
        }
    }

    /// Answers by `rule`; `seed` decides the draws of the rules that draw.
    pub fn by_rule(rule: Rule, seed: u64) -> Self {
        Self { source: Source::Rule { rule, seed } }
    }

    /// Answers out of a CSV file (`item,image,question,answer[,yes_probability]`) or, where the name
    /// ends in `.jsonl`, a file with one such JSON object a line. `*` as the image stands for every
    /// image of the item; a line for the very image goes before it.
    ///
    /// # Errors
    /// The file cannot be read, or a row of it; see [`ScriptError`].
    pub fn from_file(path: &Path) -> Result<Self, ScriptError> {
        Ok(Self { source: Source::File(ScriptedAnswers::read(path)?) })
    }

    fn answer_one(&self, item: &str, image: u32, question: &Question) -> Result<Answer, String> {
        let by_draw = |probability: f64, seed: u64| {
            let yes = draw(seed, item, image, question.id) < probability;
            Ok(if yes { "yes" } else { "no" })
        };
        let said = match &self.source {
            Source::File(answers) => return answers.answer(item, image, question.id),
            Source::Rule { rule: Rule::Yes, .. } => Ok("yes"),
            Source::Rule { rule: Rule::No, .. } => Ok("no"),
            Source::Rule { rule: Rule::Hash(probability), seed } => by_draw(*probability, *seed),
            Source::Rule { rule: Rule::Category(probabilities), seed } => {
                let l1 = question.category.l1();
                match probabilities.get(l1).or_else(|| probabilities.get("*")) {
                    Some(probability) => by_draw(*probability, *seed),
                    None => Err(format!(
                        "the rule names no probability for the category `{l1}`; add `{l1}=P` or `*=P`"
                    )),
                }
            }
        }?;
        Ok(Answer { text: said.to_owned(), ..Answer::default() })
    }
}

impl Judge for ScriptedJudge {
    fn settings(&self) -> Settings {
        let mut settings: Settings = [("judge".to_owned(), "scripted".into())].into();
        match &self.source {
            Source::Rule { rule, seed } => {
                settings.insert("rule".to_owned(), rule.to_string().into());
                settings.insert("seed".to_owned(), (*seed).into());
            }
            Source::File(answers) => {
                settings.insert("answers".to_owned(), answers.len().into());
                settings.insert("answers_sha256".to_owned(), answers.sha256().into());
            }
        }
        settings
    }

    /// Nearly all the time goes into reading and checking pictures, so all threads are welcome.
    fn images_in_flight(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    fn answer(&self, request: &JudgeRequest<'_>) -> anyhow::Result<Vec<Result<Answer, String>>> {
        let one =
            |question: &&Question| self.answer_one(&request.item.id, request.image_index, question);
        Ok(request.questions.iter().map(one).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::benchmark::{Category, DeclaredParent};

    fn question(id: u32, tuple: &str) -> Question {
        Question {
            id,
            text: "Is there a truck?".into(),
            tuple: tuple.into(),
            category: Category::from_tuple(tuple),
            declared_parents: vec![DeclaredParent::None],
            row: 1,
        }
    }

    fn say(rule: &str, id: u32, tuple: &str) -> Result<String, String> {
        let judge = ScriptedJudge::by_rule(rule.parse()?, 7);
        judge.answer_one("item", 2, &question(id, tuple)).map(|answer| answer.text)
    }

    #[test]
    fn rules_say_what_they_state() {
        assert_eq!(say("yes", 1, "entity - whole (x)").unwrap(), "yes");
        assert_eq!(say("no", 1, "entity - whole (x)").unwrap(), "no");
        let share = |rule: &str, tuple: &str| {
            (0..10_000).filter(|id| say(rule, *id, tuple).unwrap() == "yes").count() as f64 / 1e4
        };
        // Three standard deviations of a draw of 10,000 at 0.7 are 0.014.
        assert!((share("hash:0.7", "entity - whole (x)") - 0.7).abs() < 0.014);
        let rule = "category:entity=0.2,*=1";
        assert!((share(rule, "entity - part (x)") - 0.2).abs() < 0.014);
        assert_eq!(share(rule, "global - (x)"), 1.0);
        assert_eq!(share("hash:0", "entity - part (x)"), 0.0);
        let error = say("category:entity=0.2", 1, "global - (x)").unwrap_err();
        assert!(error.contains("`global`"), "{error}");
    }

    #[test]
    fn rules_are_read_and_written_alike_and_bad_ones_refused() {
        let mut seen = HashSet::new();
        for rule in ["yes", "no", "hash:0.7", "category:*=0.5,attribute=0.7,entity=0.9"] {
            assert_eq!(rule.parse::<Rule>().unwrap().to_string(), rule);
            assert!(
                seen.insert(
                    ScriptedJudge::by_rule(rule.parse().unwrap(), 0).settings()["rule"]
                        .clone()
                        .to_string()
                )
            );
        }
        for bad in [
            "",
            "maybe",
            "hash:1.5",
            "hash:NaN",
            "hash:",
            "hash",
            "category:",
            "category:entity",
            "category:a=1,a=0",
        ] {
            assert!(bad.parse::<Rule>().is_err(), "{bad}");
        }
    }
}
