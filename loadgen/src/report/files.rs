//! The files of `--out DIR`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::report::{Report, histograms, junit, markdown, plots};

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be written: {error}; --out needs a directory to write to", path.display())]
pub(crate) struct WriteError {
    path: PathBuf,
    error: io::Error,
}

/// Creates `directory` and a temporary file in it, so that a wrong path is found before the run.
///
/// # Errors
/// If the directory cannot be created or written to.
pub(crate) fn check_directory(directory: &Path) -> Result<(), WriteError> {
    fs::create_dir_all(directory)
        .and_then(|()| tempfile::tempfile_in(directory))
        .map(drop)
        .map_err(|error| WriteError {
            path: directory.to_owned(),
            error,
        })
}

/// Writes the files of a run into `directory`, which is created if necessary:
///
/// - `summary.json`, the document of `--json`, which `--baseline` reads;
/// - `summary.md`, for the page of a CI run;
/// - `junit.xml`, a test case for each gate and for the run itself;
/// - `NAME.hgrm` and `NAME.hlog` for each latency: HdrHistogram's percentiles, in milliseconds,
///   and its interval log, a line for each second;
/// - `percentiles.svg`, `rate.svg` and `course.svg`.
///
/// # Errors
/// If a file could not be written. The files before it are complete.
pub(crate) fn write_files(report: &Report, directory: &Path) -> Result<(), WriteError> {
    let failed = |path: PathBuf| move |error| WriteError { path, error };
    fs::create_dir_all(directory).map_err(failed(directory.to_owned()))?;
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.join(name);
        fs::write(&path, bytes).map_err(failed(path))
    };
    let mut json = report.summary.to_json();
    json.push('\n');
    write("summary.json", json.as_bytes())?;
    write("summary.md", markdown::page(report).as_bytes())?;
    write("junit.xml", junit::suite(&report.summary).as_bytes())?;
    for latency in &report.latencies {
        let name = latency.name;
        let hgrm = histograms::percentiles(latency.corrected.histogram());
        write(&format!("{name}.hgrm"), hgrm.as_bytes())?;
        let hlog = histograms::interval_log(latency);
        write(&format!("{name}.hlog"), &hlog)?;
    }
    for (name, plot) in plots::all(report) {
        write(name, plot.as_bytes())?;
    }
    Ok(())
}
