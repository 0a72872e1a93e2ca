//! A JUnit XML document: a test case for the run, and one for each gate.

use std::fmt::Write;

use crate::report::{judgement::Verdict, summary::Summary};

/// Formats the document.
pub(super) fn suite(summary: &Summary) -> String {
    let mut cases = String::new();
    let mut failures = 0;
    let mut errors = 0;
    let reasons = || {
        let own = |reason: &&String| !reason.starts_with("gate ");
        let own: Vec<_> = summary.reasons.iter().filter(own).cloned().collect();
        own.join("\n")
    };
    let run = match summary.verdict {
        _ if summary.invalid.is_some() => {
            errors += 1;
            Some(("error", reasons()))
        }
        Verdict::Invalid => {
            errors += 1;
            Some(("error", reasons()))
        }
        Verdict::Failed if !reasons().is_empty() => {
            failures += 1;
            Some(("failure", reasons()))
        }
        Verdict::Failed | Verdict::Passed => None,
    };
    case(&mut cases, &summary.scenario, "run", run);
    for gate in &summary.gates {
        let result = (!gate.passed).then(|| ("failure", gate.to_string()));
        failures += u32::from(!gate.passed);
        case(&mut cases, &summary.scenario, &gate.gate, result);
    }
    let tests = 1 + summary.gates.len();
    let seconds = summary.figures.get("window_seconds").copied();
    let seconds = seconds.unwrap_or_default();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuites>\n\
         <testsuite name=\"loadgen {}\" tests=\"{tests}\" failures=\"{failures}\" \
         errors=\"{errors}\" time=\"{seconds:.3}\">\n{cases}</testsuite>\n</testsuites>\n",
        escape(&summary.scenario)
    )
}

fn case(out: &mut String, class: &str, name: &str, result: Option<(&str, String)>) {
    let (class, name) = (escape(class), escape(name));
    let written = match result {
        None => writeln!(
            out,
            "  <testcase classname=\"loadgen.{class}\" name=\"{name}\"/>"
        ),
        Some((kind, text)) => {
            let text = escape(&text);
            let first = text.lines().next().unwrap_or_default();
            writeln!(
                out,
                "  <testcase classname=\"loadgen.{class}\" name=\"{name}\">\
                 <{kind} message=\"{first}\">{text}</{kind}></testcase>"
            )
        }
    };
    written.expect("writing to a String cannot fail");
}

/// Escapes text for an attribute or between tags.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(character),
            // XML 1.0 cannot represent other control characters.
            control if control.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{metric_names::tests::names, summary::tests::summary};

    #[test]
    fn each_gate_is_a_test_case() {
        let mut summary = summary(10);
        for gate in ["echo.p99<50ms", "lost>0"] {
            let result = summary.evaluate(&gate.parse().unwrap(), None, &names());
            summary.gates.push(result);
        }
        summary.verdict = Verdict::Failed;
        summary.reasons = vec!["gate FAILS  lost>0".to_owned()];
        let text = suite(&summary);
        assert!(
            text.contains("tests=\"3\" failures=\"1\" errors=\"0\""),
            "{text}"
        );
        assert!(text.contains("name=\"echo.p99&lt;50ms\"/>"), "{text}");
        assert!(text.contains("name=\"lost&gt;0\"><failure"), "{text}");
    }

    #[test]
    fn an_invalid_run_is_an_error() {
        let mut summary = summary(10);
        summary.verdict = Verdict::Invalid;
        summary.reasons = vec!["the generator was \"the\" limit & more".to_owned()];
        let text = suite(&summary);
        assert!(text.contains("failures=\"0\" errors=\"1\""), "{text}");
        assert!(
            text.contains("&quot;the&quot; limit &amp; more</error>"),
            "{text}"
        );
    }
}
