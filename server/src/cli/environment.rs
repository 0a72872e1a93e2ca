//! Environment variables that look like options but are not.

use std::ffi::OsString;

use super::{command::command, log};

/// The prefix of every variable of this program.
const PREFIX: &str = "TIDEWHEEL_";

/// The minimum Jaro similarity, 0 to 1, at which a name is suggested for another one.
const SIMILARITY_MIN: f64 = 0.8;

/// A warning that names the variables with the prefix that belong to no option; `None` if there are none.
/// They may belong to another program: Kubernetes sets `TIDEWHEEL_PORT` for a service with the name tidewheel.
pub(super) fn unknown(names: impl Iterator<Item = OsString>) -> Option<String> {
    let known = known();
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let is_unknown = |name: &String| name.starts_with(PREFIX) && !known.contains(name);
    let mut unknown: Vec<String> = names.filter(is_unknown).collect();
    unknown.sort();
    for name in &mut unknown {
        let suffixes = known.iter().map(|known| &known[PREFIX.len()..]);
        if let Some(suggestion) = nearest(&name[PREFIX.len()..], suffixes) {
            name.push_str(&format!(" (did you mean {PREFIX}{suggestion}?)"));
        }
    }
    (!unknown.is_empty()).then(|| {
        let names = unknown.join(", ");
        format!("these variables belong to no option and have no effect: {names}")
    })
}

/// The variables of all options, and the variable of the log.
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

/// The known name that is most similar to `name`, if one is similar enough.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let candidates = known.map(|known| (strsim::jaro(name, known), known));
    let candidates = candidates.filter(|(similarity, _)| *similarity >= SIMILARITY_MIN);
    let best = candidates.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning(names: &[&str]) -> Option<String> {
        unknown(names.iter().map(OsString::from))
    }

    #[test]
    fn variables_of_options_and_without_the_prefix_are_not_warned_of() {
        assert_eq!(warning(&[]), None);
        let known: Vec<String> = known();
        assert!(known.iter().any(|name| name == "TIDEWHEEL_PING_INTERVAL"));
        let mut names: Vec<&str> = known.iter().map(String::as_str).collect();
        names.extend(["PATH", "TIDEWHEEL", "LISTEN"]);
        assert_eq!(warning(&names), None);
    }

    #[test]
    fn the_warning_for_a_misspelt_variable_suggests_the_right_one() {
        for (name, suggestion) in [
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
            let hint = suggestion.map(|suggestion| format!(" (did you mean {suggestion}?)"));
            let expected = format!(
                "these variables belong to no option and have no effect: {name}{}",
                hint.unwrap_or_default()
            );
            assert_eq!(warning(&[name]), Some(expected));
        }
    }

    #[test]
    fn several_variables_are_named_in_one_line() {
        let warning = warning(&["TIDEWHEEL_PORT", "TIDEWHEEL_LOGS"]).unwrap();
        assert!(
            warning.ends_with(": TIDEWHEEL_LOGS (did you mean TIDEWHEEL_LOG?), TIDEWHEEL_PORT")
        );
        assert_eq!(warning.lines().count(), 1);
    }
}
