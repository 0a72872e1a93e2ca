//! The browser is `TIDEWHEEL_BROWSER`, or a headless Chromium by one of its names.

use std::{
    env,
    ffi::OsString,
    process::{Command, Stdio},
};

use crate::script::left_out;

/// What a headless Chromium is called.
const NAMES: [&str; 4] = [
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
];

/// A browser that starts; says so where there is none.
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
        left_out("headless Chromium", &format!("none of {names:?} starts"));
    }
    found.map(|name| name.to_string_lossy().into_owned())
}
