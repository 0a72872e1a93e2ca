//! Lines of text that fit a terminal of 80 columns.

use crate::fleet::outcome::Tally;

/// Width of the report in columns.
const WIDTH: usize = 80;

/// Formats a line for each outcome that occurred.
pub(super) fn outcome_lines(tally: &Tally) -> Vec<String> {
    tally
        .iter()
        .map(|(outcome, count, first)| {
            let line = format!("{count:>12} {outcome}");
            match first {
                Some(first) => clip(&format!("{line} ({first})")),
                None => line,
            }
        })
        .collect()
}

/// Clips a line to the width of the report.
pub(super) fn clip(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    let mut clipped: String = line.chars().take(WIDTH - 3).collect();
    clipped.push_str("...");
    clipped
}

/// Breaks text into lines that can be indented by two columns. A word longer than a line is
/// clipped.
pub(super) fn wrap(text: &str) -> Vec<String> {
    let width = WIDTH - 2;
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.chars().take(width).collect()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words() {
        let text = "word ".repeat(40) + &"x".repeat(100);
        let lines = wrap(&text);
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH - 2));
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(wrap("").is_empty());
    }

    #[test]
    fn a_line_is_clipped_between_characters() {
        assert_eq!(clip("short"), "short");
        assert_eq!(clip(&"é".repeat(100)).chars().count(), WIDTH);
    }
}
