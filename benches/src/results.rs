//! Results of benchmark runs.
//!
//! A run is a JSON file in `benches/results/`: the benchmark, the machine, the commit, the date, the command, and
//! rows of cells. [`documents::render`] writes the tables of `benches/RESULTS.md` and `README.md` from all files.

pub mod documents;
mod goals;
pub mod host;
pub mod import;
mod output;
mod sections;
mod table;

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

pub use self::output::Output;

/// One run of a benchmark.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Name of the benchmark, such as `echo`.
    pub benchmark: String,
    /// Machine, as the table of machines in `benches/RESULTS.md` names it; `None` if it is not known.
    pub machine: Option<String>,
    /// Abbreviated id of the commit; `None` if it is not known.
    pub commit: Option<String>,
    /// Day of the run in UTC, as YYYY-MM-DD; `None` if it is not known.
    pub date: Option<String>,
    /// Command that repeats the run.
    pub command: String,
    /// Names of the cells, in the order of the columns.
    pub columns: Vec<String>,
    /// Rows, in the order of the table.
    pub rows: Vec<Row>,
}

/// One row of a run.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Name of the row, such as `20 B x 200`.
    pub name: String,
    /// Number of measurements behind each figure; `None` if it is not known.
    pub n: Option<u32>,
    /// Cells by the names of their columns; a missing cell was not measured.
    pub cells: BTreeMap<String, Cell>,
}

/// One cell of a row.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Cell {
    /// A figure.
    Figure(Figure),
    /// A result that is not a single figure.
    Text(String),
}

/// A figure of several measurements, in the unit that its row or its column names.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// Median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median: Option<f64>,
    /// Smallest measurement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Largest measurement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// Significant digits of a figure in a file of results.
const STORED_DIGITS: usize = 6;

impl Figure {
    /// Returns the median and the range of measurements.
    ///
    /// # Panics
    /// If there is no measurement.
    pub fn of(measurements: impl IntoIterator<Item = f64>) -> Self {
        let mut all: Vec<f64> = measurements.into_iter().collect();
        all.sort_by(f64::total_cmp);
        let stored = |value: f64| Some(round(value, STORED_DIGITS));
        Self {
            median: stored(all[all.len() / 2]),
            min: stored(all[0]),
            max: stored(all[all.len() - 1]),
        }
    }

    /// Returns a figure of which only the smallest measurement is known.
    pub fn least(value: f64) -> Self {
        Self {
            min: Some(round(value, STORED_DIGITS)),
            ..Self::default()
        }
    }

    /// Returns a median without its range.
    pub fn median(value: f64) -> Self {
        Self {
            median: Some(round(value, STORED_DIGITS)),
            ..Self::default()
        }
    }

    /// Returns the value that stands for the figure: the median, or the only bound that is known.
    pub fn value(&self) -> Option<f64> {
        self.median.or(self.min).or(self.max)
    }
}

/// Returns the number of digits behind the point of a value with `digits` significant digits.
fn decimals(value: f64, digits: usize) -> usize {
    let magnitude = value.abs().max(1e-9).log10().floor() as i32;
    usize::try_from(digits as i32 - 1 - magnitude).unwrap_or(0)
}

/// Rounds a value to a number of significant digits, behind the point only.
fn round(value: f64, digits: usize) -> f64 {
    let scale = 10_f64.powi(decimals(value, digits) as i32);
    (value * scale).round() / scale
}

impl fmt::Display for Figure {
    /// Writes the median, followed by the range in parentheses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = f.precision().unwrap_or(3);
        let value = self.value().unwrap_or_default();
        write!(f, "{value:.precision$}")?;
        match (self.min, self.max) {
            (Some(min), Some(max)) => write!(f, " ({min:.precision$} to {max:.precision$})"),
            _ => Ok(()),
        }
    }
}

impl Run {
    /// Starts the record of a run of this program, on this machine and at the checked-out commit.
    pub fn new(benchmark: &str, command: String) -> Self {
        Self {
            benchmark: benchmark.to_owned(),
            machine: Some(host::machine()),
            commit: host::commit(),
            date: host::date(),
            command,
            columns: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Adds a cell to a row. A new row has `n` measurements behind each figure.
    pub fn add(&mut self, row: &str, n: usize, column: &str, cell: impl Into<Cell>) {
        if !self.columns.iter().any(|known| known == column) {
            self.columns.push(column.to_owned());
        }
        let at = self.rows.iter().position(|known| known.name == row);
        let at = at.unwrap_or_else(|| {
            self.rows.push(Row {
                name: row.to_owned(),
                n: u32::try_from(n).ok(),
                cells: BTreeMap::new(),
            });
            self.rows.len() - 1
        });
        self.rows[at].cells.insert(column.to_owned(), cell.into());
    }

    /// Writes the run into a directory, as `BENCHMARK-MACHINE.json`, and returns the path of the file.
    ///
    /// # Errors
    /// If the file cannot be written.
    fn save(&self, directory: &Path) -> io::Result<PathBuf> {
        let machine = self.machine.as_deref().unwrap_or("unknown");
        let words = machine
            .split(|letter: char| !letter.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty());
        let machine: String = words.collect::<Vec<_>>().join("").to_lowercase();
        fs::create_dir_all(directory)?;
        let path = directory.join(format!("{}-{machine}.json", self.benchmark));
        fs::write(&path, self.to_json())?;
        Ok(path)
    }

    /// Returns the text of the file, with one line for each row.
    pub fn to_json(&self) -> String {
        let head = Self {
            rows: Vec::new(),
            ..self.clone()
        };
        let head = serde_json::to_string_pretty(&head).expect("all keys are strings");
        let row = |row: &Row| serde_json::to_string(row).expect("all keys are strings");
        let rows: Vec<String> = self.rows.iter().map(row).collect();
        let rows = format!("\"rows\": [\n    {}\n  ]", rows.join(",\n    "));
        head.replace("\"rows\": []", &rows) + "\n"
    }

    /// Returns the row of this name.
    fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// Returns the value of a figure.
    fn value(&self, row: &str, column: &str) -> Option<f64> {
        match self.row(row)?.cells.get(column)? {
            Cell::Figure(figure) => figure.value(),
            Cell::Text(_) => None,
        }
    }
}

impl From<Figure> for Cell {
    fn from(figure: Figure) -> Self {
        Self::Figure(figure)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Reads all runs of a directory, in the order of the names of their files.
///
/// # Errors
/// If a file cannot be read, or is not a run.
pub fn load(directory: &Path) -> io::Result<Vec<Run>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            paths.push(path);
        }
    }
    // `echo-zen4` before `echo-zen4-1mib`.
    paths.sort_by(|one, other| one.file_stem().cmp(&other.file_stem()));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path)?;
        serde_json::from_str(&text)
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
    };
    paths.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_median_and_the_range_of_its_measurements() {
        let figure = Figure::of([3.0, 1.0, 2.123_456_789]);
        let [median, min, max] = [figure.median, figure.min, figure.max];
        assert_eq!([median, min, max], [Some(2.12346), Some(1.0), Some(3.0)]);
    }

    #[test]
    fn a_figure_keeps_all_digits_before_the_point() {
        assert_eq!(Figure::median(2_053_444.4).median, Some(2_053_444.0));
        assert_eq!(Figure::median(0.0).median, Some(0.0));
    }

    #[test]
    fn a_run_is_read_back_as_it_was_written() {
        let mut run = Run::new("echo", "a command".to_owned());
        run.add("20 B", 5, "tidewheel", Figure::of([6.0, 6.05, 7.25]));
        run.add("20 B", 5, "note", "held after 10 s".to_owned());
        assert_eq!(run.rows.len(), 1);
        let read: Run = serde_json::from_str(&run.to_json()).unwrap();
        assert_eq!(read, run);
    }
}
