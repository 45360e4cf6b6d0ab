//! `cargo xtask floors`: that arrows between files, and between crates, run one way.
//!
//! [`tree`] reads a crate's modules from their sources, [`names`] finds the file that a path leads to, [`graph`] finds circles,
//! [`table`] is what `floors.toml` allows, [`house`] is the packages of a checkout and what they depend on.

mod graph;
mod house;
mod names;
mod table;
mod tree;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use self::graph::{Arrow, circles};
use self::house::Package;
use self::table::{CrateFloors, Table};
use self::tree::Tree;
use crate::shell::root;

/// Options of `floors`.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Read this checkout instead of the own one, with the own table; what the table does not know is counted only
    checkout: Option<PathBuf>,
    /// List all arrows of this crate
    #[arg(long, value_name = "CRATE")]
    arrows: Option<String>,
}

/// Faults of one crate.
#[derive(Debug, Default, PartialEq, Eq)]
struct Verdict {
    files: usize,
    arrows: usize,
    /// Arrows to a higher floor, or between siblings that must not know each other.
    up: Vec<String>,
    /// Files that lead to each other.
    circles: Vec<Vec<String>>,
    /// Files that the table puts on no floor.
    homeless: Vec<String>,
}

/// Checks this checkout.
pub(crate) fn check() -> Result<()> {
    floors(&Options::default())
}

/// Runs the command.
pub(crate) fn floors(options: &Options) -> Result<()> {
    let checkout = options.checkout.as_deref().unwrap_or_else(|| root());
    let table = Table::read(&root().join("xtask/floors.toml"))?;
    let packages = house::packages(checkout)?;
    let mut faults = 0;
    println!("{:<18} {:>5} {:>7} {:>4} {:>8}", "crate", "files", "arrows", "up", "circles");
    let mut said = Vec::new();
    for package in &packages {
        let floors = table.of(&package.name);
        let arrows = arrows_of(package)?;
        if options.arrows.as_ref() == Some(&package.name) {
            said.extend(arrows.iter().map(|arrow| format!("  {arrow}")));
        }
        let verdict = judge(package, &arrows, floors)?;
        println!(
            "{:<18} {:>5} {:>7} {:>4} {:>8}",
            package.name,
            verdict.files,
            verdict.arrows,
            verdict.up.len(),
            verdict.circles.len()
        );
        let foreign = foreign(package, floors);
        faults += verdict.up.len() + verdict.circles.len() + foreign.len();
        said.extend(foreign);
        said.extend(verdict.up);
        let circle = |files: &Vec<String>| format!("{}: a circle of {}", package.name, files.join(", "));
        said.extend(verdict.circles.iter().map(circle));
        if options.checkout.is_none() {
            faults += verdict.homeless.len();
            said.extend(verdict.homeless);
        }
    }
    if options.checkout.is_none() {
        let unknown = table.unknown(&packages);
        faults += unknown.len();
        said.extend(unknown);
    }
    said.iter().for_each(|line| println!("{line}"));
    if faults > 0 {
        bail!("{faults} arrows run against xtask/floors.toml; move what is used down, or mend the table");
    }
    Ok(())
}

/// Arrows between the files of a package.
fn arrows_of(package: &Package) -> Result<Vec<Arrow>> {
    let mut arrows = Vec::new();
    for target in &package.roots {
        arrows.extend(names::arrows(&Tree::read(target)?));
    }
    arrows.sort();
    arrows.dedup_by(|one, other| (&one.from, &one.to) == (&other.from, &other.to));
    Ok(arrows)
}

/// Holds a package's files against its floors.
fn judge(package: &Package, arrows: &[Arrow], floors: Option<&CrateFloors>) -> Result<Verdict> {
    let mut files = Vec::new();
    for target in &package.roots {
        files.extend(Tree::read(target)?.files());
    }
    files.sort();
    files.dedup();
    let mut verdict =
        Verdict { files: files.len(), arrows: arrows.len(), circles: circles(arrows), ..Verdict::default() };
    let Some(floors) = floors else {
        verdict.homeless.push(format!("{}: xtask/floors.toml does not have it", package.name));
        return Ok(verdict);
    };
    for file in &files {
        if floors.place(file).is_none() {
            verdict.homeless.push(format!("{}: {file} is on no floor", package.name));
        }
    }
    for arrow in arrows {
        if !floors.allows(&arrow.from, &arrow.to) {
            verdict.up.push(format!("{}: {arrow} runs up", package.name));
        }
    }
    Ok(verdict)
}

/// Crates of this house that a package uses and may not.
fn foreign(package: &Package, floors: Option<&CrateFloors>) -> Vec<String> {
    let may = |used: &&String| floors.is_none_or(|floors| floors.uses.contains(used));
    let all = package.uses.iter().filter(|used| !may(used));
    all.map(|used| format!("{}: depends on {used}, which the table does not allow", package.name)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn house(files: &[(&str, &str)]) -> (tempfile::TempDir, Package) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let package = Package {
            name: "house".to_owned(),
            roots: vec![folder.path().join("lib.rs")],
            uses: vec!["cellar".to_owned(), "attic".to_owned()],
        };
        (folder, package)
    }

    fn verdict(files: &[(&str, &str)], table: &str) -> Verdict {
        let (_folder, package) = house(files);
        let table = Table::parse(table).unwrap();
        judge(&package, &arrows_of(&package).unwrap(), table.of("house")).unwrap()
    }

    const TABLE: &str = r#"
        [house]
        uses = ["cellar"]
        floors = ["crate", "top | other", "middle, beside", "bottom"]
    "#;

    /// Four floors without a fault; the root's re-exports lead to where things stand.
    const SOUND: [(&str, &str); 6] = [
        ("lib.rs", "mod top; mod other; mod middle; mod beside; mod bottom; pub use bottom::deep::Stone;"),
        ("top.rs", "use crate::middle; fn roof() { middle::wall(); }"),
        ("other.rs", "use super::Stone;"),
        ("middle.rs", "pub use crate::bottom::deep::Stone; use crate::beside::x; pub fn wall() {}"),
        ("beside.rs", "pub fn x() {}"),
        ("bottom/mod.rs", "pub mod deep { pub struct Stone; }"),
    ];

    fn with(file: &str, text: &'static str) -> Vec<(&'static str, &'static str)> {
        SOUND.iter().map(|(name, old)| (*name, if *name == file { text } else { old })).collect()
    }

    #[test]
    fn a_sound_house_has_no_fault() {
        let verdict = verdict(&SOUND, TABLE);
        assert_eq!(
            (verdict.files, verdict.arrows),
            (6, 5),
            "a re-export is an arrow to where the thing stands"
        );
        let faults = (verdict.up.len(), verdict.circles.len(), verdict.homeless.len());
        assert_eq!(faults, (0, 0, 0), "{verdict:?}");
    }

    #[test]
    fn an_arrow_up_is_named_whatever_it_is_written_as() {
        for text in [
            "pub mod deep { pub struct Stone; } use crate::top::roof;",
            "pub mod deep { use super::super::top::roof; pub struct Stone; }",
            "pub mod deep { pub struct Stone; } fn f() { crate::top::roof() }",
            "pub mod deep { pub struct Stone; } fn f() { println!(\"{}\", crate::top::roof()) }",
            "pub mod deep { pub struct Stone; } use crate as c; fn f(roof: c::top::Roof) {}",
            "pub mod deep { pub struct Stone; } #[serde(with = \"crate::top\")] struct S;",
        ] {
            let verdict = verdict(&with("bottom/mod.rs", text), TABLE);
            let wanted = "house: bottom/mod.rs → top.rs (line 1) runs up".to_owned();
            assert!(verdict.up.contains(&wanted), "{text}: {verdict:?}");
        }
    }

    #[test]
    fn an_arrow_through_a_re_export_leads_to_the_file_behind_it() {
        // What the root re-exports stands above: using it by the root's name is an arrow up all the same.
        let root = "mod top; mod other; mod middle; mod beside; mod bottom; pub use top::*; pub use bottom::deep::Stone;";
        let mut files = with("lib.rs", root);
        files[5].1 = "pub mod deep { pub struct Stone; } use crate::roof;";
        files[1].1 = "pub fn roof() {}";
        let verdict = verdict(&files, TABLE);
        assert_eq!(verdict.up, ["house: bottom/mod.rs → top.rs (line 1) runs up"]);
    }

    #[test]
    fn siblings_know_each_other_only_where_the_table_says_so() {
        let verdict = verdict(&with("other.rs", "use crate::top::roof;"), TABLE);
        assert_eq!(verdict.up, ["house: other.rs → top.rs (line 1) runs up"]);
    }

    #[test]
    fn a_circle_is_named_with_all_its_files() {
        let verdict = verdict(&with("beside.rs", "use crate::middle::wall; pub fn x() {}"), TABLE);
        assert_eq!(verdict.circles, [["beside.rs", "middle.rs"]]);
        assert_eq!(verdict.up.len(), 0, "the two may know each other, but not in a circle");
    }

    #[test]
    fn tests_and_documentation_may_look_anywhere() {
        let text = "pub mod deep { pub struct Stone; } /// See [`crate::top::roof`].\nstruct S; \
                    #[cfg(test)] mod tests { use crate::top::roof; } pub(in crate::bottom) fn f() {}";
        let verdict = verdict(&with("bottom/mod.rs", text), TABLE);
        assert_eq!(verdict.up.len(), 0, "{verdict:?}");
    }

    #[test]
    fn a_file_without_a_floor_and_a_floor_without_a_file_are_told() {
        let (_folder, package) = house(&SOUND);
        let table = Table::parse(&TABLE.replace("beside", "gone")).unwrap();
        let verdict = judge(&package, &arrows_of(&package).unwrap(), table.of("house")).unwrap();
        assert_eq!(verdict.homeless, ["house: beside.rs is on no floor"]);
        assert_eq!(table.unknown(&[package]), ["house: the table has gone, which is nowhere"]);
    }

    #[test]
    fn a_crate_uses_what_the_table_allows() {
        let (_folder, package) = house(&SOUND);
        let table = Table::parse(TABLE).unwrap();
        let foreign = foreign(&package, table.of("house"));
        assert_eq!(foreign, ["house: depends on attic, which the table does not allow"]);
    }

    #[test]
    fn a_table_that_says_two_things_is_refused() {
        for bad in [
            "[house]\nfloors = [\"a\", \"b, a\"]",
            "[house]\nstoreys = []",
            "[house]\nfloors = [\"a | b, c\"]",
        ] {
            assert!(Table::parse(bad).is_err(), "{bad}");
        }
        assert!(Table::read(Path::new("/nowhere")).is_err());
    }
}
