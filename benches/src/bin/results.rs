//! Writes the tables of `benches/RESULTS.md` and `README.md` from the runs in `benches/results/`.
//!
//! `cargo run -p benches --bin results`; with `--check`, only compares them.

use std::{fs, path::Path, process::ExitCode};

use benches::results::documents::render;
use clap::Parser;

/// Writes the tables of results into the documents
#[derive(Parser)]
struct Arguments {
    /// Write nothing; exit with status 1 if a document differs from its runs
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let documents = match render(&root) {
        Ok(documents) => documents,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut status = ExitCode::SUCCESS;
    for document in documents.iter().filter(|it| it.present != it.rendered) {
        let path = document.path.display();
        if arguments.check {
            eprintln!(
                "{path} differs from benches/results/; run `cargo run -p benches --bin results`"
            );
            status = ExitCode::FAILURE;
        } else if let Err(error) = fs::write(&document.path, &document.rendered) {
            eprintln!("error: {path}: {error}");
            status = ExitCode::FAILURE;
        } else {
            println!("wrote {path}");
        }
    }
    status
}
