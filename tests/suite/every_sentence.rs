//! Every sentence with which `src/cli` and `src/session` refuse something stands in one of the snapshots that
//! `words_refused.rs` and `words_refused_work.rs` make, but for those listed here with the reason.

use std::path::Path;

use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Expr, ExprLit, ExprMethodCall, ItemMod, Lit, Macro, Token};

use super::words::SNAPSHOTS;

/// Sentences that no command line brings about quickly, offline and on any machine, by how they begin.
const UNPROVOKED: &[(&str, &str)] = &[
    ("signals cannot be listened to", "the system would have to refuse signals"),
    ("{listed} devices do not round alike", "two kinds of devices are needed"),
    ("no address leads from", "two drives are needed, as Windows has them"),
    ("{} cannot be found", "a folder would have to go between two looks at it"),
    ("cannot find {}", "a folder would have to go between two looks at it"),
    ("{} cannot be removed", "the disk would have to refuse, which it does not for root"),
    ("--{} holds a path that is no UTF-8", "no line of a snapshot can hold one"),
    ("name the runs to compare", "the command line's parser asks for one first"),
    ("a report needs a run", "the command line's parser asks for one first"),
    ("the table of answers cannot be made", "a fault of the program itself"),
    ("the chart cannot be drawn", "a fault of the program itself"),
];

#[test]
fn every_sentence_is_in_a_snapshot() {
    let mut sentences = Vec::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for room in ["cli", "session"] {
        read_file(&source.join(format!("{room}.rs")), &mut sentences);
        read_folder(&source.join(room), &mut sentences);
    }
    assert!(sentences.len() > 80, "only {} sentences found", sentences.len());
    let told = told();
    let mut wrong = Vec::new();
    for (file, sentence) in &sentences {
        let excused = UNPROVOKED.iter().any(|(start, _)| sentence.starts_with(start));
        match (is_told(sentence, &told), excused) {
            (false, false) => wrong.push(format!("in no snapshot: {file}: {sentence}")),
            (true, true) => wrong.push(format!("in a snapshot, and excused: {sentence}")),
            _ => {}
        }
    }
    for (start, _) in UNPROVOKED {
        if !sentences.iter().any(|(_, sentence)| sentence.starts_with(start)) {
            wrong.push(format!("excused, and in no file: {start}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn sentences_are_found_in_code_and_in_what_was_told() {
    let code = "fn f() -> R { ensure!(a, \"{x} is \\
                no {}\", y); g().with_context(|| match h { A => format!(\"no {{}} {n}\"), B => i() })?; bail!(m) }
                #[cfg(test)] mod tests { fn f() { bail!(\"not this\") } }";
    let mut found = Sentences::default();
    found.visit_file(&syn::parse_file(code).unwrap());
    assert_eq!(found.0, ["{x} is no {}", "no {{}} {n}"]);
    let told = vec!["error: a is no b: no {} 5".to_owned()];
    assert!(found.0.iter().all(|sentence| is_told(sentence, &told)));
    assert!(!is_told("{x} is no b c", &told) && !is_told("5 {} no", &told));
}

/// What each command of the snapshots told.
fn told() -> Vec<String> {
    let mut told = Vec::new();
    for entry in std::fs::read_dir(SNAPSHOTS).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let blocks = text.split("\n$ ").filter_map(|block| block.split_once("\n--- stderr\n"));
        told.extend(blocks.map(|(_, stderr)| stderr.to_owned()));
    }
    told
}

/// Whether the words of the format string `sentence` stand in one of the texts, in their order.
fn is_told(sentence: &str, told: &[String]) -> bool {
    let mut parts = vec![String::new()];
    let mut rest = sentence.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '{' | '}' if rest.peek() == Some(&c) => parts[0].extend(rest.next()),
            '{' => {
                rest.by_ref().find(|c| *c == '}');
                parts.insert(0, String::new());
            }
            c => parts[0].push(c),
        }
    }
    told.iter().any(|text| {
        let next = |text: &mut &str, part: &String| {
            text.split_once(part.as_str()).map(|(_, rest)| *text = rest).is_some()
        };
        let mut text = text.as_str();
        parts.iter().rev().all(|part| next(&mut text, part))
    })
}

fn read_folder(folder: &Path, sentences: &mut Vec<(String, String)>) {
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            read_folder(&path, sentences);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            read_file(&path, sentences);
        }
    }
}

fn read_file(path: &Path, sentences: &mut Vec<(String, String)>) {
    let mut found = Sentences::default();
    found.visit_file(&syn::parse_file(&std::fs::read_to_string(path).unwrap()).unwrap());
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    sentences.extend(found.0.into_iter().map(|sentence| (name.clone(), sentence)));
}

/// Format strings of `bail!`, `ensure!`, `anyhow!`, `context` and `with_context`.
#[derive(Default)]
struct Sentences(Vec<String>);

impl Visit<'_> for Sentences {
    fn visit_item_mod(&mut self, module: &ItemMod) {
        if module.ident != "tests" {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_macro(&mut self, call: &Macro) {
        let place = match last_name(call).as_str() {
            "bail" | "anyhow" => 0,
            "ensure" => 1,
            _ => return,
        };
        let arguments = arguments(call);
        self.0.extend(arguments.get(place).and_then(text));
        // A sentence may be put together of others.
        arguments.iter().for_each(|argument| visit::visit_expr(self, argument));
    }

    fn visit_expr_method_call(&mut self, call: &ExprMethodCall) {
        if call.method == "context" || call.method == "with_context" {
            let mut found = Texts::default();
            call.args.iter().for_each(|argument| found.visit_expr(argument));
            self.0.extend(found.0);
        }
        visit::visit_expr_method_call(self, call);
    }
}

/// Format strings and texts inside an expression.
#[derive(Default)]
struct Texts(Vec<String>);

impl Visit<'_> for Texts {
    fn visit_macro(&mut self, call: &Macro) {
        if last_name(call) == "format" {
            self.0.extend(arguments(call).first().and_then(text));
        }
    }

    fn visit_expr(&mut self, expression: &Expr) {
        self.0.extend(text(expression));
        visit::visit_expr(self, expression);
    }
}

fn last_name(call: &Macro) -> String {
    call.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default()
}

fn arguments(call: &Macro) -> Vec<Expr> {
    let parser = Punctuated::<Expr, Token![,]>::parse_terminated;
    parser.parse2(call.tokens.clone()).unwrap().into_iter().collect()
}

fn text(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
        _ => None,
    }
}
