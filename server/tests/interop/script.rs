//! A client in another language, as a process.

use std::{
    env,
    ffi::OsString,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::Mutex,
};

use crate::support::{ms, wait};

/// A script has done its part within this time, on a machine however busy.
const DONE_WITHIN: std::time::Duration = ms(60_000);

/// What of the tests was left out, of which it was told.
static TOLD: Mutex<Vec<&str>> = Mutex::new(Vec::new());

/// A script, and what it needs.
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

/// A script that runs; it ends with this value.
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

    /// Runs one case to its end.
    pub(crate) fn run(self, url: &str, case: &str) {
        if let Some(running) = self.start(url, case) {
            running.finish();
        }
    }

    /// Starts one case; none where the client is not installed.
    pub(crate) fn start(self, url: &str, case: &str) -> Option<Running> {
        self.start_with(&[url, case])
    }

    /// Starts the script with arguments of its own; none where the client is not installed.
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
            .expect("an interpreter that has just run");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        Some(Running { child, stdout })
    }

    fn interpreter(self) -> Command {
        let (variable, default) = match self.language {
            Language::Python => ("TIDEWHEEL_PYTHON", "python3"),
            Language::Node => ("TIDEWHEEL_NODE", "node"),
        };
        Command::new(env::var_os(variable).unwrap_or_else(|| OsString::from(default)))
    }

    /// Whether interpreter and library are there; says so on standard error where they are not.
    fn is_installed(self) -> bool {
        let probe = match self.language {
            Language::Python => ["-c".to_owned(), format!("import {}", self.library)],
            Language::Node => ["-e".to_owned(), format!("require({:?})", self.library)],
        };
        let found = self.interpreter().args(probe).stdin(Stdio::null()).output();
        let why = match found {
            Ok(output) if output.status.success() => return true,
            Ok(_) => format!("`{}` is not installed for it", self.library),
            Err(error) => error.to_string(),
        };
        let interpreter = self
            .interpreter()
            .get_program()
            .to_string_lossy()
            .into_owned();
        left_out(self.library, &format!("{interpreter}: {why}"));
        false
    }
}

/// Says on standard error, once, that what needs `name` is not tested.
///
/// # Panics
/// If it is required.
pub(crate) fn left_out(name: &'static str, why: &str) {
    let required = env::var_os("TIDEWHEEL_INTEROP").is_some_and(|value| value == "required");
    assert!(!required, "{why}, and TIDEWHEEL_INTEROP=required");
    let mut told = TOLD.lock().expect("nobody panics with it");
    if !told.contains(&name) {
        told.push(name);
        // Not by a macro, whose output libtest keeps to itself.
        let line = format!("left out: the client `{name}`; {why}\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

impl Running {
    /// Waits for the line that says that the client is connected.
    pub(crate) fn wait_until_ready(&mut self) {
        self.wait_for("ready");
    }

    /// Waits until the script has told `step`, which it does next.
    pub(crate) fn wait_for(&mut self, step: &str) {
        // The script's own end closes the pipe, so this does not wait for ever.
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .expect("a pipe that is open");
        assert_eq!(line.trim_end(), step, "the client tells how far it is");
    }

    /// Waits until it has done its part.
    pub(crate) fn finish(mut self) {
        let mut status = None;
        wait::until(DONE_WITHIN, "the client has done its part", || {
            status = self.child.try_wait().expect("it is our child");
            status.is_some()
        });
        let status = status.expect("it was waited for");
        assert!(status.success(), "the client says: {status}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, unless a test fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
