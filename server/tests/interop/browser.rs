//! The browser of the tests: `TIDEWHEEL_BROWSER`, or a headless Chromium.

use std::{
    env,
    ffi::OsString,
    process::{Command, Stdio},
};

use crate::script::skip;

/// Names of the program.
const NAMES: [&str; 4] = [
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
];

/// Returns a browser that starts. Prints the skip if there is none.
pub(crate) fn find() -> Option<String> {
    let named = env::var_os("TIDEWHEEL_BROWSER");
    let names = match named {
        Some(name) => vec![name],
        None => NAMES.into_iter().map(OsString::from).collect(),
    };
    let starts = |name: &OsString| {
        let version = Command::new(name)
            .arg("--version")
            .stdin(Stdio::null())
            .output();
        version.is_ok_and(|output| output.status.success())
    };
    let found = names.iter().find(|name| starts(name)).cloned();
    if found.is_none() {
        skip("headless Chromium", &format!("none of {names:?} starts"));
    }
    found.map(|name| name.to_string_lossy().into_owned())
}
