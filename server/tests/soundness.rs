//! Holds the list of unsafe code in docs/soundness.md against the code.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The folders with the code of libraries and programs.
const SOURCES: [&str; 4] = ["codec/src", "timerwheel/src", "server/src", "loadgen/src"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Blocks, functions, implementations and traits that are unsafe, in a line of code.
fn count(line: &str) -> usize {
    let code = line.split("//").next().unwrap_or_default();
    let words = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait"];
    words.iter().map(|word| code.matches(word).count()).sum()
}

/// Adds every file below `folder` that has unsafe code.
fn search(folder: &Path, found: &mut BTreeMap<String, usize>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            search(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            let uses: usize = text.lines().map(count).sum();
            if uses > 0 {
                let name = path.strip_prefix(root()).expect("below the root");
                found.insert(name.display().to_string(), uses);
            }
        }
    }
}

#[test]
fn the_list_of_unsafe_code_is_that_of_the_code() {
    let mut found = BTreeMap::new();
    for folder in SOURCES {
        search(&root().join(folder), &mut found);
    }
    let document = fs::read_to_string(root().join("docs/soundness.md")).expect("the document");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: BTreeMap<String, usize> = rows
        .map(|row| {
            let (name, rest) = row.split_once("` | ").expect("a file");
            let (uses, _) = rest.split_once(" | ").expect("a number");
            (name.to_owned(), uses.parse().expect("a number"))
        })
        .collect();
    assert_eq!(listed, found);
}
