//! No file of `src` imports another that imports it, over any number of steps: whoever reads a file can read those
//! below it first. Tests inside files aside; a name that is imported through a re-export counts for the file that
//! defines it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree};

/// Path of a module from the crate's root.
type Module = Vec<String>;

#[test]
fn no_two_files_import_each_other() {
    let mut sources = Sources::default();
    sources.read(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs").as_path(), Vec::new());
    assert!(sources.files.len() > 300, "only {} files found", sources.files.len());
    let found = circles(&sources);
    assert!(found.is_empty(), "these files import each other:\n{}", found.join("\n"));
}

#[test]
fn a_planted_circle_is_seen() {
    let planted = |files: &[(&str, &str)]| {
        let mut sources = Sources::default();
        for (module, text) in files {
            let module = module.split("::").filter(|name| !name.is_empty()).map(str::to_owned);
            sources.files.insert(module.collect(), syn::parse_file(text).unwrap());
        }
        circles(&sources)
    };
    let root = ("", "mod a; mod b;");
    let sound = [root, ("a", "pub struct A;"), ("b", "use crate::a::A; pub fn b(_: A) {}")];
    assert_eq!(planted(&sound), Vec::<String>::new());
    // Between two files, by an import, by a path in the code, and by a re-export in a third.
    let two =
        [root, ("a", "use crate::b::B; pub struct A;"), ("b", "use super::a::A; pub struct B;")];
    assert_eq!(planted(&two), ["a -> b -> a"]);
    let inline =
        [root, ("a", "pub fn a() { crate::b::b() }"), ("b", "use crate::a; pub fn b() { a::a() }")];
    assert_eq!(planted(&inline).len(), 1);
    let facade = [
        ("", "mod a; mod b; mod c;"),
        ("a", "use crate::c::B; pub struct A;"),
        ("b", "use crate::a::A; pub struct B;"),
        ("c", "pub use crate::b::B;"),
    ];
    assert_eq!(planted(&facade), ["a -> b -> a"]);
    // A parent and its child.
    let child = [
        ("", "mod a;"),
        ("a", "mod child; pub struct A; pub fn a() { child::of() }"),
        ("a::child", "use super::A; pub fn of() {} pub fn to(_: A) {}"),
    ];
    assert_eq!(planted(&child).len(), 1);
    let tests = [
        root,
        ("a", "pub struct A; #[cfg(test)] mod tests { use crate::b::B; }"),
        ("b", "use crate::a::A; pub struct B;"),
    ];
    assert_eq!(planted(&tests), Vec::<String>::new());
}

/// The crate's files, parsed.
#[derive(Default)]
struct Sources {
    files: BTreeMap<Module, syn::File>,
}

impl Sources {
    /// Reads a module's file and those of its children.
    fn read(&mut self, path: &Path, module: Module) {
        let file = syn::parse_file(&std::fs::read_to_string(path).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let folder = if module.is_empty() {
            path.parent().unwrap().to_owned()
        } else {
            path.with_extension("")
        };
        let children = file.items.iter().filter_map(|item| match item {
            // Of two files for one module, the one that its name leads to.
            Item::Mod(child) if child.content.is_none() && !has(&child.attrs, "path") => {
                Some(child)
            }
            _ => None,
        });
        let children: Vec<_> = children
            .filter(|child| !is_test(&child.attrs))
            .map(|child| child.ident.to_string())
            .collect();
        for child in children {
            let path = folder.join(format!("{child}.rs"));
            self.read(&path, module.iter().cloned().chain([child]).collect());
        }
        self.files.insert(module, file);
    }

    /// The file that defines what `path` names, re-exports followed.
    fn file_of(
        &self,
        path: &[String],
        names: &BTreeMap<Module, Names>,
        steps: usize,
    ) -> Option<Module> {
        let depth =
            (0..=path.len()).rev().find(|depth| self.files.contains_key(&path[..*depth]))?;
        let (module, rest) = path.split_at(depth);
        let Some(name) = rest.first().filter(|_| steps < 9) else { return Some(module.to_vec()) };
        let known = &names[module];
        if known.defined.contains(name) {
            return Some(module.to_vec());
        }
        if let Some(target) = known.imported.get(name) {
            let path: Vec<String> = target.iter().chain(&rest[1..]).cloned().collect();
            return self.file_of(&path, names, steps + 1);
        }
        let through = known.globs.iter().find(|glob| {
            names
                .get(*glob)
                .is_some_and(|own| own.defined.contains(name) || own.imported.contains_key(name))
        });
        match through {
            Some(glob) => {
                let path: Vec<String> = glob.iter().chain(rest).cloned().collect();
                self.file_of(&path, names, steps + 1)
            }
            None => Some(module.to_vec()),
        }
    }
}

/// What a file defines and imports, by name.
#[derive(Default)]
struct Names {
    defined: BTreeSet<String>,
    imported: BTreeMap<String, Vec<String>>,
    globs: Vec<Module>,
}

fn names_of(module: &[String], file: &syn::File, files: &BTreeMap<Module, syn::File>) -> Names {
    let mut names = Names::default();
    for item in &file.items {
        let defined = match item {
            Item::Const(item) => &item.ident,
            Item::Enum(item) => &item.ident,
            Item::Fn(item) => &item.sig.ident,
            Item::Static(item) => &item.ident,
            Item::Struct(item) => &item.ident,
            Item::Trait(item) => &item.ident,
            Item::Type(item) => &item.ident,
            Item::Use(item) => {
                for (path, name) in leaves(&item.tree) {
                    let Some(mut path) = absolute(module, &path, files) else { continue };
                    if name == "*" {
                        path.pop();
                        names.globs.push(path);
                    } else {
                        names.imported.insert(name, path);
                    }
                }
                continue;
            }
            _ => continue,
        };
        names.defined.insert(defined.to_string());
    }
    names
}

/// Every path of an import, with the name that it has here.
fn leaves(tree: &UseTree) -> Vec<(Vec<String>, String)> {
    match tree {
        UseTree::Path(path) => (leaves(&path.tree).into_iter())
            .map(|(rest, name)| {
                let own = path.ident.to_string();
                // `a::{self}` names `a`.
                match rest.as_slice() {
                    [only] if only == "self" => (vec![own.clone()], own),
                    _ => (std::iter::once(own).chain(rest).collect(), name),
                }
            })
            .collect(),
        UseTree::Name(name) => vec![(vec![name.ident.to_string()], name.ident.to_string())],
        UseTree::Rename(name) => vec![(vec![name.ident.to_string()], name.rename.to_string())],
        UseTree::Glob(_) => vec![(vec!["*".to_owned()], "*".to_owned())],
        UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
    }
}

/// `path` from the crate's root; `None` where it leads out of the crate.
fn absolute(
    module: &[String],
    path: &[String],
    files: &BTreeMap<Module, syn::File>,
) -> Option<Vec<String>> {
    let ups = path.iter().take_while(|name| *name == "super").count();
    let (start, rest) = match path[0].as_str() {
        "crate" => (&module[..0], &path[1..]),
        "self" => (module, &path[1..]),
        "super" => (module.get(..module.len().checked_sub(ups)?)?, &path[ups..]),
        _ => {
            let child: Module = module.iter().chain(&path[..1]).cloned().collect();
            files.contains_key(&child).then_some((module, path))?
        }
    };
    Some(start.iter().chain(rest).cloned().collect())
}

/// Collects the absolute paths that a file's code names.
struct Paths<'s> {
    module: Module,
    files: &'s BTreeMap<Module, syn::File>,
    found: Vec<Vec<String>>,
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_test(&item.attrs) && item.content.is_some() {
            self.module.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        for (mut path, name) in leaves(&item.tree) {
            if name == "*" {
                path.pop();
            }
            self.found.extend(absolute(&self.module, &path, self.files));
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        if names.len() > 1 && path.leading_colon.is_none() {
            self.found.extend(absolute(&self.module, &names, self.files));
        }
        visit::visit_path(self, path);
    }
}

/// Each circle once, the shortest way round.
fn circles(sources: &Sources) -> Vec<String> {
    let files = &sources.files;
    let names: BTreeMap<Module, Names> = files
        .iter()
        .map(|(module, file)| (module.clone(), names_of(module, file, files)))
        .collect();
    let imports: BTreeMap<&Module, BTreeSet<Module>> = files
        .iter()
        .map(|(module, file)| {
            let mut paths = Paths { module: module.clone(), files, found: Vec::new() };
            paths.visit_file(file);
            let found = paths.found.iter().filter_map(|path| sources.file_of(path, &names, 0));
            (module, found.filter(|other| other != module).collect())
        })
        .collect();
    let mut told: BTreeSet<Vec<Module>> = BTreeSet::new();
    let mut sentences = Vec::new();
    for start in files.keys() {
        let Some(way) = way_back(start, &imports) else { continue };
        let mut members = way.clone();
        members.sort();
        if told.insert(members) {
            let steps: Vec<String> =
                way.iter().chain([start]).map(|module| shown(module)).collect();
            sentences.push(steps.join(" -> "));
        }
    }
    sentences
}

/// The shortest way from a file over its imports back to itself, without the end.
fn way_back(start: &Module, imports: &BTreeMap<&Module, BTreeSet<Module>>) -> Option<Vec<Module>> {
    let mut from: BTreeMap<&Module, &Module> = BTreeMap::new();
    let mut waiting = VecDeque::from([start]);
    while let Some(at) = waiting.pop_front() {
        for next in &imports[at] {
            if next == start {
                let mut way = vec![at.clone()];
                let mut at = at;
                while let Some(before) = from.get(at) {
                    way.push((*before).clone());
                    at = before;
                }
                way.reverse();
                return Some(way);
            }
            if imports.contains_key(next) && !from.contains_key(next) {
                from.insert(next, at);
                waiting.push_back(next);
            }
        }
    }
    None
}

fn shown(module: &[String]) -> String {
    if module.is_empty() { "lib".to_owned() } else { module.join("::") }
}

fn has(attributes: &[Attribute], name: &str) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident(name))
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}
