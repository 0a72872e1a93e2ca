//! Machine, commit and day of a run, and the command that repeats it.

use std::{env, fs, process::Command};

/// Machines with a name: vendor, family and model of the processor in `/proc/cpuinfo`. Without a model, any matches.
const MACHINES: [(&str, &str, &str, Option<&str>); 3] = [
    ("Zen 4", "AuthenticAMD", "25", Some("17")),
    ("Zen 5", "AuthenticAMD", "26", None),
    ("Xeon", "GenuineIntel", "6", Some("167")),
];

/// Returns the name of this machine, or the name of its processor if the machine has none.
pub fn machine() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    name(&text)
}

fn name(cpuinfo: &str) -> String {
    let field = |key: &str| {
        let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        let value = fields.find_map(|(name, value)| (name.trim() == key).then_some(value.trim()));
        value.unwrap_or_default()
    };
    let (vendor, family, model) = (field("vendor_id"), field("cpu family"), field("model"));
    let is_this = |machine: &&(&str, &str, &str, Option<&str>)| {
        (machine.1, machine.2) == (vendor, family) && machine.3.is_none_or(|its| its == model)
    };
    let known = MACHINES.iter().find(is_this);
    known
        .map_or(field("model name"), |machine| machine.0)
        .to_owned()
}

/// Returns the abbreviated id of the commit that is checked out, followed by `+` if tracked files were changed.
pub fn commit() -> Option<String> {
    let id = output("git", &["rev-parse", "--short=7", "HEAD"])?;
    let changes = output("git", &["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changes.is_empty() { id } else { id + "+" })
}

/// Returns this day in UTC, as YYYY-MM-DD.
pub fn date() -> Option<String> {
    output("date", &["-u", "+%F"])
}

/// Returns the command that repeats the run of this program: how cargo runs it, and the program's arguments.
pub fn command(cargo: &str) -> String {
    let mut command = format!("cargo {cargo}");
    let mut arguments = env::args().skip(1).filter(|it| it != "--bench").peekable();
    if arguments.peek().is_some() {
        command += " --";
    }
    while let Some(argument) = arguments.next() {
        if argument == "--results" {
            arguments.next();
        } else if !argument.starts_with("--results=") {
            command.push(' ');
            command += &argument;
        }
    }
    command
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_found_by_vendor_family_and_model() {
        let text =
            "vendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n";
        assert_eq!(name(text), "Zen 4");
        assert_eq!(name(&text.replace(": 17", ": 1")), "AMD EPYC");
    }
}
