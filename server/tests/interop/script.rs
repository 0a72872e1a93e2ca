//! A client in another language, as a child process.

use std::{
    env,
    ffi::OsString,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::Mutex,
};

use crate::support::{ms, wait};

/// Longest time until a script ends, also on a busy machine.
const SCRIPT_TIMEOUT: std::time::Duration = ms(60_000);

/// Names of the clients whose skip has been printed.
static SKIPPED: Mutex<Vec<&str>> = Mutex::new(Vec::new());

/// A script, its language and the library that it needs.
#[derive(Clone, Copy)]
pub(crate) struct Client {
    library: &'static str,
    script: &'static str,
    language: Language,
}

#[derive(Clone, Copy)]
enum Language {
    Python,
    Node,
}

/// A running script, killed on drop.
pub(crate) struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Client {
    pub(crate) const fn python(library: &'static str, script: &'static str) -> Self {
        Self {
            library,
            script,
            language: Language::Python,
        }
    }

    pub(crate) const fn node(library: &'static str, script: &'static str) -> Self {
        Self {
            library,
            script,
            language: Language::Node,
        }
    }

    /// Runs one case, unless the client is not installed.
    pub(crate) fn run(self, url: &str, case: &str) {
        if let Some(running) = self.start(url, case) {
            running.finish();
        }
    }

    /// Starts one case. Returns `None` if the client is not installed.
    pub(crate) fn start(self, url: &str, case: &str) -> Option<Running> {
        self.start_with(&[url, case])
    }

    /// Starts the script with `arguments`. Returns `None` if the client is not installed.
    pub(crate) fn start_with(self, arguments: &[&str]) -> Option<Running> {
        if !self.is_installed() {
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/interop")
            .join(self.script);
        let mut child = self
            .interpreter()
            .arg(script)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the interpreter starts");
        let stdout = BufReader::new(child.stdout.take().expect("the stream is piped"));
        Some(Running { child, stdout })
    }

    fn interpreter(self) -> Command {
        let (variable, default) = match self.language {
            Language::Python => ("TIDEWHEEL_PYTHON", "python3"),
            Language::Node => ("TIDEWHEEL_NODE", "node"),
        };
        Command::new(env::var_os(variable).unwrap_or_else(|| OsString::from(default)))
    }

    /// Returns whether interpreter and library are installed, and prints the skip if they are not.
    fn is_installed(self) -> bool {
        let probe = match self.language {
            Language::Python => ["-c".to_owned(), format!("import {}", self.library)],
            Language::Node => ["-e".to_owned(), format!("require({:?})", self.library)],
        };
        let found = self.interpreter().args(probe).stdin(Stdio::null()).output();
        let why = match found {
            Ok(output) if output.status.success() => return true,
            Ok(_) => format!("`{}` is not installed", self.library),
            Err(error) => error.to_string(),
        };
        let interpreter = self
            .interpreter()
            .get_program()
            .to_string_lossy()
            .into_owned();
        skip(self.library, &format!("{interpreter}: {why}"));
        false
    }
}

/// Prints on standard error, once, that the tests with `name` are skipped.
///
/// # Panics
/// If `TIDEWHEEL_INTEROP=required`.
pub(crate) fn skip(name: &'static str, why: &str) {
    let required = env::var_os("TIDEWHEEL_INTEROP").is_some_and(|value| value == "required");
    assert!(!required, "{why}, and TIDEWHEEL_INTEROP=required");
    let mut skipped = SKIPPED.lock().expect("the lock is not poisoned");
    if !skipped.contains(&name) {
        skipped.push(name);
        // Not by `eprintln`, whose output libtest captures.
        let line = format!("skipped: tests with `{name}`: {why}\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

impl Running {
    /// Waits until the client prints that it is connected.
    pub(crate) fn wait_until_ready(&mut self) {
        self.wait_for("ready");
    }

    /// Waits until the script prints the line `step`.
    pub(crate) fn wait_for(&mut self, step: &str) {
        // The end of the script closes the pipe, so this does not block for ever.
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .expect("the pipe is readable");
        assert_eq!(line.trim_end(), step, "the next step of the client");
    }

    /// Waits until the script has ended with status 0.
    pub(crate) fn finish(mut self) {
        let mut status = None;
        wait::until(SCRIPT_TIMEOUT, "the client ends", || {
            status = self
                .child
                .try_wait()
                .expect("the client is a child process");
            status.is_some()
        });
        let status = status.expect("the client has ended");
        assert!(status.success(), "the client fails: {status}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails if the script has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
