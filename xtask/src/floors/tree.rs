//! A crate's modules, read from its sources: which file each is in, what it calls by other names, and which paths it writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// Number of a module in its [`Tree`]; the root is 0.
pub(super) type ModuleId = usize;

/// A name that a `use` gives to a path.
pub(super) struct Import {
    /// The name; `None` for `*`.
    pub(super) name: Option<String>,
    pub(super) path: Written,
}

/// A path as it is written.
#[derive(Clone)]
pub(super) struct Written {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
}

/// One module, in a file of its own or inline.
pub(super) struct Module {
    /// File, from the folder of the crate's root.
    pub(super) file: String,
    pub(super) parent: Option<ModuleId>,
    pub(super) children: BTreeMap<String, ModuleId>,
    pub(super) items: BTreeSet<String>,
    pub(super) imports: Vec<Import>,
    pub(super) paths: Vec<Written>,
}

/// All modules of a crate, without tests.
pub(super) struct Tree {
    pub(super) modules: Vec<Module>,
    folder: PathBuf,
}

impl Tree {
    /// Reads a crate from its root, a `lib.rs` or `main.rs`.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let folder = root.parent().unwrap_or(Path::new(".")).to_owned();
        let mut tree = Self { modules: Vec::new(), folder: folder.clone() };
        tree.read_file(root, None, &folder)?;
        Ok(tree)
    }

    /// Lists the files, from the folder of the root.
    pub(super) fn files(&self) -> impl Iterator<Item = String> {
        self.modules.iter().map(|module| module.file.clone())
    }

    /// Reads a file as a module, whose children's files stand in `folder`.
    fn read_file(&mut self, file: &Path, parent: Option<ModuleId>, folder: &Path) -> Result<ModuleId> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let parsed = syn::parse_file(&text).with_context(|| format!("cannot parse {}", file.display()))?;
        let name = file.strip_prefix(&self.folder).unwrap_or(file).display().to_string();
        self.add(&name, &parsed.items, parent, folder)
    }

    fn add(
        &mut self,
        file: &str,
        items: &[syn::Item],
        parent: Option<ModuleId>,
        folder: &Path,
    ) -> Result<ModuleId> {
        let id = self.modules.len();
        let mut content = Content::default();
        items.iter().for_each(|item| content.visit_item(item));
        self.modules.push(Module {
            file: file.to_owned(),
            parent,
            children: BTreeMap::new(),
            items: content.items,
            imports: content.imports,
            paths: content.paths,
        });
        for module in items.iter().filter_map(|item| match item {
            syn::Item::Mod(module) if !is_test(&module.attrs) => Some(module),
            _ => None,
        }) {
            let name = module.ident.to_string();
            let below = folder.join(&name);
            let child = match &module.content {
                Some((_, items)) => self.add(file, items, Some(id), &below)?,
                None => {
                    let (plain, inner) = (folder.join(format!("{name}.rs")), below.join("mod.rs"));
                    // A file that is named is looked for from this file's folder.
                    let here = self.folder.join(file);
                    let other = named_file(&module.attrs).map(|other| here.with_file_name(other));
                    let file = other.unwrap_or(if plain.exists() { plain } else { inner });
                    self.read_file(&file, Some(id), &below)?
                }
            };
            self.modules[id].children.insert(name, child);
        }
        Ok(id)
    }
}

/// The file that `#[path = "…"]` names.
fn named_file(attrs: &[syn::Attribute]) -> Option<String> {
    attrs.iter().find(|attr| attr.path().is_ident("path")).and_then(|attr| match &attr.meta {
        syn::Meta::NameValue(pair) => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}

/// Whether something is there in tests only.
fn is_test(attrs: &[syn::Attribute]) -> bool {
    attrs.iter().filter(|attr| attr.path().is_ident("cfg")).any(|attr| match &attr.meta {
        syn::Meta::List(list) => {
            let text = list.tokens.to_string();
            text == "test" || text.starts_with("all (test") || text.starts_with("all(test")
        }
        _ => false,
    })
}

/// Collects what a module says, without its children.
#[derive(Default)]
struct Content {
    items: BTreeSet<String>,
    imports: Vec<Import>,
    paths: Vec<Written>,
}

impl Content {
    fn import(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        let mut add = |name: Option<String>, segments: Vec<String>, line| {
            self.imports.push(Import { name, path: Written { segments, line } });
        };
        match tree {
            syn::UseTree::Path(path) => self.import(&path.tree, &with(&path.ident)),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.import(item, before)),
            syn::UseTree::Glob(glob) => add(None, before.to_vec(), glob.star_token.spans[0].start().line),
            syn::UseTree::Name(name) if name.ident == "self" => {
                add(before.last().cloned(), before.to_vec(), name.ident.span().start().line);
            }
            syn::UseTree::Name(name) => {
                add(Some(name.ident.to_string()), with(&name.ident), name.ident.span().start().line);
            }
            syn::UseTree::Rename(rename) => {
                let segments = if rename.ident == "self" { before.to_vec() } else { with(&rename.ident) };
                add(Some(rename.rename.to_string()), segments, rename.ident.span().start().line);
            }
        }
    }

    /// Finds the paths in what a macro is given.
    fn tokens(&mut self, tokens: TokenStream) {
        let (mut segments, mut line, mut colons) = (Vec::new(), 0, 0);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.written(std::mem::take(&mut segments), line);
                        line = ident.span().start().line;
                    }
                    segments.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !segments.is_empty() => colons += 1,
                TokenTree::Group(group) => {
                    self.written(std::mem::take(&mut segments), line);
                    colons = 0;
                    self.tokens(group.stream());
                }
                other => {
                    self.written(std::mem::take(&mut segments), line);
                    colons = 0;
                    if let TokenTree::Literal(literal) = other {
                        self.quoted(&literal);
                    }
                }
            }
        }
        self.written(segments, line);
    }

    /// Takes a path that stands in quotes, as in `#[serde(with = "crate::moment")]`.
    fn quoted(&mut self, literal: &proc_macro2::Literal) {
        let text = literal.to_string();
        let path = text.trim_matches('"');
        if path.starts_with("crate::") || path.starts_with("super::") {
            let segments = path.split("::").map(str::to_owned).collect();
            self.written(segments, literal.span().start().line);
        }
    }

    fn written(&mut self, segments: Vec<String>, line: usize) {
        if segments.len() > 1 {
            self.paths.push(Written { segments, line });
        }
    }

    fn item(&mut self, ident: &syn::Ident) {
        self.items.insert(ident.to_string());
    }
}

/// The attributes of an item.
fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

impl<'ast> Visit<'ast> for Content {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if is_test(attributes(item)) {
            return;
        }
        match item {
            syn::Item::Const(item) => self.item(&item.ident),
            syn::Item::Enum(item) => self.item(&item.ident),
            syn::Item::Fn(item) => self.item(&item.sig.ident),
            syn::Item::Static(item) => self.item(&item.ident),
            syn::Item::Struct(item) => self.item(&item.ident),
            syn::Item::Trait(item) => self.item(&item.ident),
            syn::Item::Type(item) => self.item(&item.ident),
            syn::Item::Mod(_) => return,
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if item.leading_colon.is_none() {
            self.import(&item.tree, &[]);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            let line = path.segments.first().map_or(0, |first| first.ident.span().start().line);
            self.written(segments, line);
        }
        visit::visit_path(self, path);
    }

    // `pub(in crate::a)` uses nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        // Documentation is an attribute as well, and may name anything.
        if attribute.path().is_ident("doc") {
            return;
        }
        match &attribute.meta {
            syn::Meta::List(list) => self.tokens(list.tokens.clone()),
            other => visit::visit_meta(self, other),
        }
    }
}
