//! The option of all benchmarks for the file of results.

use std::path::PathBuf;

use clap::Args;

use super::Run;

/// Option `--results`.
#[derive(Args, Clone, Debug, Default)]
pub struct Output {
    /// Directory for the JSON file of the run, such as benches/results
    #[arg(long, value_name = "DIRECTORY")]
    results: Option<PathBuf>,
}

impl Output {
    /// Saves a run, if a directory was given.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn save(&self, run: &Run) {
        if let Some(directory) = &self.results {
            let path = run
                .save(directory)
                .expect("the file of results is writable");
            eprintln!("wrote {}", path.display());
        }
    }
}
