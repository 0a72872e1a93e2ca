//! Writes the tables of `benches/RESULTS.md` and `README.md` from the runs in `benches/results/`.
//!
//! `cargo run -p benches --bin results` writes the tables; with `--check`, it only compares them. The benchmarks of
//! this package write their runs themselves (`--results`). `results loadgen` and `results tests` write those of
//! loadgen and of the tests that measure.

use std::{fs, io, path::Path, process::ExitCode};

use benches::results::{
    documents::render,
    import::{LoadgenCell, Target},
};
use clap::{Parser, Subcommand};

/// Write the tables of results into the documents
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    import: Option<Import>,
    /// Write nothing; exit with status 1 if a document differs from its runs
    #[arg(long)]
    check: bool,
}

#[derive(Subcommand)]
enum Import {
    /// Set a cell of a run to the median and the range of a value in reports of loadgen
    Loadgen {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        cell: LoadgenCell,
    },
    /// Replace the rows of a run by the measurements in the output of a test, read from standard input
    Tests {
        #[command(flatten)]
        target: Target,
        /// Rule whose measurements are taken, such as R5; may be repeated. Without it, all are taken
        #[arg(long = "rule", value_name = "RULE")]
        rules: Vec<String>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.import {
        Some(Import::Loadgen { target, cell }) => target.set_from_loadgen(&cell),
        Some(Import::Tests { target, rules }) => io::read_to_string(io::stdin())
            .and_then(|output| target.set_from_tests(&output, &rules)),
        None => write_tables(arguments.check),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the tables, or only compares them.
fn write_tables(is_check: bool) -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let root = root.expect("the package lies in the workspace");
    for document in render(root)? {
        let path = document.path.display();
        if document.present == document.rendered {
            continue;
        }
        if is_check {
            return Err(io::Error::other(format!(
                "{path} differs from benches/results/; run `cargo run -p benches --bin results`"
            )));
        }
        fs::write(&document.path, &document.rendered)?;
        println!("wrote {path}");
    }
    Ok(())
}
