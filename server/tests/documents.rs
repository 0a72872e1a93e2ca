//! Lists in the documents agree with the code.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The folders with the code of libraries and programs.
const SOURCES: [&str; 4] = ["codec/src", "timerwheel/src", "server/src", "loadgen/src"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the number of unsafe blocks, functions, implementations and traits in a line of code.
fn count(line: &str) -> usize {
    let code = line.split("//").next().unwrap_or_default();
    let words = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait"];
    words.iter().map(|word| code.matches(word).count()).sum()
}

/// Calls `see` with the path and the text of each source file at `path` or below.
fn each_source(path: &Path, see: &mut impl FnMut(&Path, &str)) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("the folder is readable") {
            each_source(&entry.expect("the folder is readable").path(), see);
        }
    } else if path.extension().is_some_and(|it| it == "rs") {
        see(
            path,
            &fs::read_to_string(path).expect("the file is readable"),
        );
    }
}

fn document(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).expect("the document")
}

#[test]
fn soundness_md_lists_all_unsafe_code() {
    let mut found = BTreeMap::new();
    for folder in SOURCES {
        each_source(&root().join(folder), &mut |path, text| {
            let uses: usize = text.lines().map(count).sum();
            if uses > 0 {
                let name = path.strip_prefix(root()).expect("below the root");
                found.insert(name.display().to_string(), uses);
            }
        });
    }
    let document = document("soundness.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: BTreeMap<String, usize> = rows
        .map(|row| {
            let (name, rest) = row.split_once("` | ").expect("a file name");
            let (uses, _) = rest.split_once(" | ").expect("a number");
            (name.to_owned(), uses.parse().expect("a number"))
        })
        .collect();
    assert_eq!(listed, found);
}

/// Returns the rules, such as `R5`, that the names of tests in a source file cite.
fn rules_cited(text: &str) -> impl Iterator<Item = String> + '_ {
    let names = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("fn "));
    names.flat_map(|name| {
        // A name may cite several rules: r04_r05_...
        let words = name.split('_');
        let numbers = words.map_while(|word| word.strip_prefix('r')?.parse::<u32>().ok());
        numbers
            .map(|number| format!("R{number}"))
            .collect::<Vec<_>>()
    })
}

#[test]
fn every_rule_of_rules_md_has_a_test_in_the_listed_files() {
    let tests = root().join("server/tests");
    let mut cited = BTreeSet::new();
    each_source(&tests, &mut |_, text| cited.extend(rules_cited(text)));
    let document = document("rules.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| R"));
    let mut stated = BTreeSet::new();
    for row in rows {
        let row = row.trim_end_matches(" |");
        let (number, rest) = row.split_once(" | ").expect("a rule");
        let (_, places) = rest.rsplit_once(" | ").expect("the places of its tests");
        let rule = format!("R{number}");
        for place in places.split(", ") {
            let place = tests.join(place.trim_matches('`')).with_extension("rs");
            let text = fs::read_to_string(&place).unwrap_or_default();
            let is_cited = rules_cited(&text).any(|cited| cited == rule);
            assert!(is_cited, "no test of {rule} is in {}", place.display());
        }
        assert!(stated.insert(rule), "R{number} is listed twice");
    }
    assert_eq!(stated, cited);
}

/// The names of options in a text, such as `--listen`.
fn option_names(text: &str) -> impl Iterator<Item = String> + '_ {
    let is_in_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let words = text.split(move |c| !is_in_name(c));
    let names = words.filter(|word| word.starts_with("--"));
    names.map(str::to_owned)
}

/// The options in the help of a command, without `--help` and `--version`.
fn help_options(command: &str) -> BTreeSet<String> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_tidewheel"));
    let output = program.args([command, "--help"]).output();
    let help = output.expect("the program starts").stdout;
    let help = String::from_utf8(help).expect("the help is UTF-8");
    // The indentation of options without a short form.
    let lines = help.lines().filter(|line| line.starts_with("      --"));
    let options: BTreeSet<String> = lines.filter_map(|line| option_names(line).next()).collect();
    assert!(options.contains("--listen"), "{help}");
    options
}

#[test]
fn the_configuration_page_lists_exactly_the_options_of_the_help() {
    let document = document("configuration.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    let mut listed = BTreeSet::new();
    for option in cells.flat_map(option_names) {
        assert!(listed.insert(option.clone()), "{option} is listed twice");
    }
    assert_eq!(listed, help_options("serve"));
    assert_eq!(listed, help_options("echo"));
}
