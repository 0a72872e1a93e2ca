//! Variables that look like options, and are none.

use std::ffi::OsString;

use super::{command, log};

/// The beginning of every variable of this program.
const PREFIX: &str = "TIDEWHEEL_";

/// The likeness of two names, of 1, if one may have been meant by the other.
const LIKENESS_MIN: f64 = 0.8;

/// Names the variables that no option has, if there are any. They may be another program's: Kubernetes sets
/// `TIDEWHEEL_PORT` for a service of the name tidewheel.
pub(super) fn unknown(names: impl Iterator<Item = OsString>) -> Option<String> {
    let known = known();
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let is_unknown = |name: &String| name.starts_with(PREFIX) && !known.contains(name);
    let mut unknown: Vec<String> = names.filter(is_unknown).collect();
    unknown.sort();
    for name in &mut unknown {
        let tails = known.iter().map(|known| &known[PREFIX.len()..]);
        if let Some(meant) = nearest(&name[PREFIX.len()..], tails) {
            name.push_str(&format!(" (did you mean {PREFIX}{meant}?)"));
        }
    }
    (!unknown.is_empty()).then(|| {
        let names = unknown.join(", ");
        format!("no option has these variables, which have no effect: {names}")
    })
}

/// The variables of all options, and that of the log.
fn known() -> Vec<String> {
    let command = command();
    let commands = command.get_subcommands();
    let options = commands.flat_map(clap::Command::get_arguments);
    let variables = options.filter_map(|option| option.get_env()?.to_str());
    variables
        .chain([log::VARIABLE])
        .map(str::to_owned)
        .collect()
}

/// The known name that is most like another one.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let likely = known.map(|known| (strsim::jaro(name, known), known));
    let likely = likely.filter(|(likeness, _)| *likeness >= LIKENESS_MIN);
    let best = likely.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(names: &[&str]) -> Option<String> {
        unknown(names.iter().map(OsString::from))
    }

    #[test]
    fn variables_of_options_and_of_other_programs_are_known() {
        assert_eq!(told(&[]), None);
        let known: Vec<String> = known();
        assert!(known.iter().any(|name| name == "TIDEWHEEL_PING_INTERVAL"));
        let mut names: Vec<&str> = known.iter().map(String::as_str).collect();
        names.extend(["PATH", "TIDEWHEEL", "LISTEN"]);
        assert_eq!(told(&names), None);
    }

    #[test]
    fn a_misspelt_variable_is_told_with_what_is_meant() {
        for (name, meant) in [
            ("TIDEWHEEL_PING_INTERVALL", Some("TIDEWHEEL_PING_INTERVAL")),
            ("TIDEWHEEL_PINGINTERVAL", Some("TIDEWHEEL_PING_INTERVAL")),
            ("TIDEWHEEL_LISTN", Some("TIDEWHEEL_LISTEN")),
            ("TIDEWHEEL_ORIGINS", Some("TIDEWHEEL_ORIGIN")),
            ("TIDEWHEEL_LOGFORMAT", Some("TIDEWHEEL_LOG_FORMAT")),
            ("TIDEWHEEL_PORT", None),
            ("TIDEWHEEL_PORT_8080_TCP", None),
            ("TIDEWHEEL_SERVICE_HOST", None),
            ("TIDEWHEEL_", None),
        ] {
            let hint = meant.map(|meant| format!(" (did you mean {meant}?)"));
            let expected = format!(
                "no option has these variables, which have no effect: {name}{}",
                hint.unwrap_or_default()
            );
            assert_eq!(told(&[name]), Some(expected));
        }
    }

    #[test]
    fn several_stand_in_one_line() {
        let told = told(&["TIDEWHEEL_PORT", "TIDEWHEEL_LOGS"]).unwrap();
        assert!(told.ends_with(": TIDEWHEEL_LOGS (did you mean TIDEWHEEL_LOG?), TIDEWHEEL_PORT"));
        assert_eq!(told.lines().count(), 1);
    }
}
