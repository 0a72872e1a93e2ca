//! The tables in the documents are those of the runs in `benches/results/`.

use std::path::Path;

use benches::results::documents::render;

#[test]
fn the_tables_in_the_documents_are_those_of_the_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for document in render(&root).unwrap() {
        assert!(
            document.present == document.rendered,
            "{} differs from benches/results/; run `cargo run -p benches --bin results`",
            document.path.display()
        );
    }
}
