//! The file that a path leads to: through modules, imports and re-exports, to where the thing stands.

use super::graph::Arrow;
use super::tree::{ModuleId, Tree, Written};

/// Imports that are followed for one path, at most: some lead in a circle.
const DEEPEST: u8 = 16;

/// Arrows between the files of a crate, each with the first line that makes it.
pub(super) fn arrows(tree: &Tree) -> Vec<Arrow> {
    let mut arrows = Vec::new();
    for (id, module) in tree.modules.iter().enumerate() {
        let imports = module.imports.iter().map(|import| &import.path);
        for path in imports.chain(&module.paths) {
            let Some(target) = target(tree, id, path) else { continue };
            let to = &tree.modules[target].file;
            if *to != module.file {
                arrows.push(Arrow { from: module.file.clone(), to: to.clone(), line: path.line });
            }
        }
    }
    arrows.sort();
    arrows
}

/// The module in which the thing stands that a path names; `None` for what belongs to another crate.
fn target(tree: &Tree, at: ModuleId, path: &Written) -> Option<ModuleId> {
    lead(tree, at, &path.segments, DEEPEST)
}

/// Follows a path from its first segment, as it is written in a module.
fn lead(tree: &Tree, at: ModuleId, segments: &[String], deepest: u8) -> Option<ModuleId> {
    let deepest = deepest.checked_sub(1)?;
    let (first, rest) = segments.split_first()?;
    let module = &tree.modules[at];
    match first.as_str() {
        "crate" => walk(tree, 0, rest, deepest),
        "self" => walk(tree, at, rest, deepest),
        "super" => walk(tree, module.parent?, rest, deepest),
        name => {
            let named = module.imports.iter().filter(|import| import.name.as_deref() == Some(name));
            // `use self::name` beside `mod name`, or a name that leads to itself, is looked up as a child below.
            for import in
                named.filter(|import| import.path.segments.first().is_some_and(|first| first != name))
            {
                let whole = [&import.path.segments[..], rest].concat();
                if let Some(found) = lead(tree, at, &whole, deepest) {
                    return Some(found);
                }
            }
            match module.children.get(name) {
                Some(child) => walk(tree, *child, rest, deepest),
                None => None,
            }
        }
    }
}

/// Follows the rest of a path from a module on.
fn walk(tree: &Tree, at: ModuleId, segments: &[String], deepest: u8) -> Option<ModuleId> {
    let Some((first, rest)) = segments.split_first() else { return Some(at) };
    let module = &tree.modules[at];
    match first.as_str() {
        "self" => return walk(tree, at, rest, deepest),
        "super" => return walk(tree, module.parent?, rest, deepest),
        _ => {}
    }
    // Something that stands here is no re-export, whatever else has its name.
    if module.items.contains(first) {
        return Some(at);
    }
    if let Some(child) = module.children.get(first) {
        return walk(tree, *child, rest, deepest);
    }
    Some(re_exported(tree, at, first, rest, deepest).unwrap_or(at))
}

/// Looks for a name among a module's imports, those by `*` last.
fn re_exported(tree: &Tree, at: ModuleId, name: &str, rest: &[String], deepest: u8) -> Option<ModuleId> {
    let imports = &tree.modules[at].imports;
    let named = imports.iter().find(|import| import.name.as_deref() == Some(name));
    if let Some(import) = named {
        return lead(tree, at, &[&import.path.segments[..], rest].concat(), deepest);
    }
    imports.iter().filter(|import| import.name.is_none()).find_map(|import| {
        let source = lead(tree, at, &import.path.segments, deepest)?;
        let there = &tree.modules[source];
        let has = there.items.contains(name) || there.children.contains_key(name);
        has.then(|| walk(tree, source, &[&[name.to_owned()], rest].concat(), deepest)).flatten()
    })
}
