//! The documents that have tables of results: `benches/RESULTS.md` and `README.md`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{Run, goals, load, sections::SECTIONS, table};

/// Lines between which the tables stand in a document.
const MARKERS: [&str; 2] = [
    "<!-- Start of the tables of `cargo run -p benches --bin results` -->\n",
    "<!-- End of the tables -->\n",
];

/// A document, with its tables written anew.
#[derive(Debug)]
pub struct Document {
    /// Path of the file.
    pub path: PathBuf,
    /// Text of the file.
    pub present: String,
    /// Text with the tables of the runs.
    pub rendered: String,
}

/// Renders all documents of the repository whose root is `root` from the runs in its `benches/results/`.
///
/// # Errors
/// If a run or a document cannot be read, or a document has no markers.
pub fn render(root: &Path) -> io::Result<Vec<Document>> {
    let runs = load(&root.join("benches/results"))?;
    let tables = [
        ("benches/RESULTS.md", results(&runs)),
        ("README.md", comparison(&runs)),
    ];
    let documents = tables.into_iter().map(|(name, tables)| {
        let path = root.join(name);
        let present = fs::read_to_string(&path)?;
        let rendered = replace(&present, &tables);
        let rendered =
            rendered.ok_or_else(|| io::Error::other(format!("{name} has no markers")))?;
        Ok(Document {
            path,
            present,
            rendered,
        })
    });
    documents.collect()
}

/// Replaces the text between the markers.
fn replace(document: &str, tables: &str) -> Option<String> {
    let [begin, end] = MARKERS;
    let (before, rest) = document.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}{tables}{end}{after}"))
}

/// Returns the goals and one table for each section.
fn results(runs: &[Run]) -> String {
    let mut text = format!("## Goals that are missed\n{}", goals::table(runs));
    for section in SECTIONS {
        let benchmarks = section.benchmarks.iter();
        let of_section =
            benchmarks.flat_map(|name| runs.iter().filter(move |run| run.benchmark == *name));
        let mut commands: Vec<String> = Vec::new();
        for run in of_section.clone() {
            let command = format!("`{}`", run.command);
            if !commands.contains(&command) {
                commands.push(command);
            }
        }
        text += &format!(
            "\n## {}\n{} {}\n\n{}",
            section.title,
            section.note,
            commands.join(", "),
            table::of_runs(of_section),
        );
    }
    let is_shown = |run: &Run| {
        SECTIONS
            .iter()
            .any(|section| section.benchmarks.contains(&run.benchmark.as_str()))
    };
    if let Some(run) = runs.iter().find(|run| !is_shown(run)) {
        panic!("no section has the benchmark {:?}", run.benchmark);
    }
    text
}

/// Columns of the comparison in `README.md`: name of the other server in the runs, and machine.
const PEERS: [(&str, &str); 8] = [
    ("echo-loop", "Zen 4"),
    ("echo-loop", "Zen 5"),
    ("fastwebsockets", "Zen 4"),
    ("fastwebsockets", "Zen 5"),
    ("sockudo-ws", "Zen 4"),
    ("actix-ws", "Zen 4"),
    ("tokio-tungstenite", "Zen 4"),
    ("Bun", "Zen 4"),
];

/// Rows of the comparison: title, and name of the row in the runs.
const WORKLOADS: [(&str, &str); 7] = [
    ("echo, 20 B, 200 connections", "echo, 20 B x 200"),
    (
        "echo, 20 B, 200 connections, 16 messages in flight on each",
        "echo, 20 B x 200, 16 in flight",
    ),
    ("echo, 1 KiB, 200 connections", "echo, 1 KiB x 200"),
    ("echo, 16 KiB, 200 connections", "echo, 16 KiB x 200"),
    ("echo, 1 MiB, 8 connections", "echo, 1 MiB x 8"),
    ("opening handshake", "handshake, us"),
    ("memory of an idle connection", "memory, bytes"),
];

/// Returns Tidewheel's figures divided by those of other servers.
fn comparison(runs: &[Run]) -> String {
    let titles = PEERS.map(|(peer, machine)| format!("{peer}, {machine}"));
    let mut head = vec!["workload"];
    head.extend(titles.iter().map(String::as_str));
    let rows = WORKLOADS.iter().map(|(title, row)| {
        let mut cells = vec![(*title).to_owned()];
        cells.extend(PEERS.map(|(peer, machine)| {
            let ratio = ratio(runs, machine, row, peer);
            ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"))
        }));
        cells
    });
    table::markdown(&head, rows)
}

/// Returns the ratio to a server in the last run that has both figures.
fn ratio(runs: &[Run], machine: &str, row: &str, peer: &str) -> Option<f64> {
    let of_machine = runs
        .iter()
        .filter(|run| run.machine.as_deref() == Some(machine));
    let mut ratios =
        of_machine.filter_map(|run| Some(run.value(row, "tidewheel")? / run.value(row, peer)?));
    ratios.next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_outside_of_the_markers_is_kept() {
        let [begin, end] = MARKERS;
        let document = format!("before\n{begin}old\n{end}after\n");
        let replaced = replace(&document, "| new |\n").unwrap();
        assert_eq!(replaced, format!("before\n{begin}| new |\n{end}after\n"));
        assert_eq!(replace("no markers", ""), None);
    }
}
