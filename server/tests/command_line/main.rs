//! Command line, configuration file and environment: accepted values, error messages and `check`.

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod help;
mod host_limits;
mod log;
mod publish_token;
mod requests;
mod sources;
mod values;

use std::process::{Command, Output};

/// Runs a command that does not serve; returns its exit status, standard output and standard error.
fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("the output is UTF-8");
    (status.code(), text(stdout), text(stderr))
}

/// Asserts that a command exits with `code`, and that its error contains each of `parts`.
#[track_caller]
fn assert_fails(command: &mut Command, code: i32, parts: &[&str]) {
    let (status, stdout, stderr) = output(command);
    assert_eq!(status, Some(code), "{stdout}{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "`{part}` is not in:\n{stderr}");
    }
    assert!(!stdout.contains("listening on"), "{stdout}");
}

/// Writes a configuration file, which is deleted on drop.
fn config_file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("the file is writable");
    file
}
