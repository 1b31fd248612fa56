//! In: an item's question graph. Out: a tree for the terminal, or Graphviz text.

use std::fmt::Write;

use crate::benchmark::{Item, QuestionGraph};

/// Narrowest column of text; a deep tree on a narrow terminal runs over rather than break each word.
const NARROWEST: usize = 24;

/// The questions as a tree of at most `width` columns. A question stands under its first parent; its
/// other parents refer to it.
pub(crate) fn tree(graph: &QuestionGraph, width: usize) -> String {
    let mut below: Vec<Vec<Branch>> = vec![Vec::new(); graph.len()];
    let mut roots = Vec::new();
    for index in 0..graph.len() {
        match graph.parents(index) {
            [] => roots.push(Branch::Question(index)),
            [first, others @ ..] => {
                below[*first].push(Branch::Question(index));
                for &other in others {
                    below[other].push(Branch::Reference { to: index, under: *first });
                }
            }
        }
    }
    let mut text = String::new();
    let mut stack: Vec<(Branch, String, Place)> =
        roots.iter().rev().map(|&root| (root, String::new(), Place::Root)).collect();
    while let Some((branch, indent, place)) = stack.pop() {
        let (mark, rest) = match place {
            Place::Root => ("", ""),
            Place::Inner => ("├── ", "│   "),
            Place::Last => ("└── ", "    "),
        };
        let below_it: &[Branch] = match branch {
            Branch::Question(index) => &below[index],
            Branch::Reference { .. } => &[],
        };
        let words = label(graph, branch);
        let inner = format!("{indent}{rest}");
        let hanging = if below_it.is_empty() { "    " } else { "│   " };
        let room = width.saturating_sub(inner.chars().count() + 4).max(NARROWEST);
        for (line, words) in wrap(&words, room).into_iter().enumerate() {
            let _ = match line {
                0 => writeln!(text, "{indent}{mark}{words}"),
                _ => writeln!(text, "{inner}{hanging}{words}"),
            };
        }
        for (position, &child) in below_it.iter().enumerate().rev() {
            let place = if position + 1 == below_it.len() { Place::Last } else { Place::Inner };
            stack.push((child, inner.clone(), place));
        }
    }
    text
}

#[derive(Clone, Copy)]
enum Branch {
    Question(usize),
    Reference { to: usize, under: usize },
}

#[derive(Clone, Copy)]
enum Place {
    Root,
    Inner,
    Last,
}

fn label(graph: &QuestionGraph, branch: Branch) -> String {
    let questions = graph.questions();
    match branch {
        Branch::Question(index) => {
            let question = &questions[index];
            format!("{} {} ({})", question.id, question.text, question.category.l2())
        }
        Branch::Reference { to, under } => {
            format!("-> {} (see under {})", questions[to].id, questions[under].id)
        }
    }
}

/// Breaks at blanks, into lines of at most `width` characters where words allow it. Control characters
/// do not reach the terminal.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in clean.split_whitespace() {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            lines.push(String::new());
            used = 0;
        }
        if let Some(line) = lines.last_mut() {
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += length;
        }
    }
    lines
}

/// The graph in Graphviz's language, parents pointing at their children.
pub(crate) fn dot(item: &Item) -> String {
    let graph = &item.graph;
    let mut text = format!("digraph {} {{\n  node [shape=box];\n", quoted(&item.id));
    for question in graph.questions() {
        let label = format!("{}. {}\n{}", question.id, question.text, question.category.l2());
        let _ = writeln!(text, "  q{} [label={}];", question.id, quoted(&label));
    }
    for (index, question) in graph.questions().iter().enumerate() {
        for &parent in graph.parents(index) {
            let _ = writeln!(text, "  q{} -> q{};", graph.questions()[parent].id, question.id);
        }
    }
    text.push_str("}\n");
    text
}

/// A double-quoted string: backslashes and quotes escaped, line ends as `\n`, no other control.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            other if other.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmark::Benchmark;

    fn item(rows: &[(&str, &str, &str)]) -> Item {
        let mut file =
            "item_id,text,proposition_id,dependency,tuple,question_natural_language\n".to_owned();
        for (number, dependency, question) in rows {
            file.push_str(&format!(
                "a,p,{number},\"{dependency}\",entity - whole (x),\"{question}\"\n"
            ));
        }
        Benchmark::from_csv(file.as_bytes(), "memory").unwrap().items.remove(0)
    }

    #[test]
    fn a_question_stands_under_its_first_parent_and_is_referred_to_by_the_others() {
        let item = item(&[
            ("1", "0", "Is there a truck?"),
            ("2", "1", "Is it red?"),
            ("3", "4,1", "Is the truck on the shore?"),
            ("4", "0", "Is there a shore?"),
            ("5", "3", "Is it early?"),
            ("6", "0", "Is it calm?"),
        ]);
        let expected = "\
1 Is there a truck? (entity - whole)
├── 2 Is it red? (entity - whole)
└── -> 3 (see under 4)
4 Is there a shore? (entity - whole)
└── 3 Is the truck on the shore? (entity - whole)
    └── 5 Is it early? (entity - whole)
6 Is it calm? (entity - whole)
";
        assert_eq!(tree(&item.graph, 100), expected);
        let narrow = tree(&item.graph, 30);
        assert!(narrow.lines().all(|line| line.chars().count() <= 34), "{narrow}");
        assert!(
            narrow.contains("│   (entity - whole)\n") && narrow.contains("├── 2 Is it red?"),
            "{narrow}"
        );
    }

    #[test]
    fn graphviz_text_cannot_be_broken_out_of() {
        let item = item(&[("1", "0", "Does it say \"\"A\\B\"\"?"), ("7", "1", "Two\nlines?")]);
        let expected = "digraph \"a\" {\n  node [shape=box];\n  \
            q1 [label=\"1. Does it say \\\"A\\\\B\\\"?\\nentity - whole\"];\n  \
            q7 [label=\"7. Two\\nlines?\\nentity - whole\"];\n  q1 -> q7;\n}\n";
        assert_eq!(dot(&item), expected);
    }
}
