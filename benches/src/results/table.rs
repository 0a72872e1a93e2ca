//! Markdown tables of figures.

use super::{Cell, Figure, Run};

/// Significant digits of a figure in a table.
const DIGITS: usize = 3;

/// Returns a table of the rows of several runs, each with its number of measurements, its machine and its commit.
pub(super) fn of_runs<'a>(runs: impl Iterator<Item = &'a Run> + Clone) -> String {
    let mut columns: Vec<&str> = Vec::new();
    for column in runs.clone().flat_map(|run| &run.columns) {
        if !columns.contains(&column.as_str()) {
            columns.push(column);
        }
    }
    let mut head = vec![""];
    head.extend(&columns);
    head.extend(["n", "machine", "commit"]);
    let rows = runs.flat_map(|run| {
        run.rows.iter().map(|row| {
            let mut cells = vec![row.name.clone()];
            cells.extend(
                columns
                    .iter()
                    .map(|column| row.cells.get(*column).map_or_else(String::new, cell)),
            );
            cells.push(row.n.map_or_else(String::new, |n| number(f64::from(n))));
            cells.push(run.machine.clone().unwrap_or_default());
            cells.push(run.commit.clone().unwrap_or_default());
            cells
        })
    });
    markdown(&head, rows)
}

/// Returns a table: a head, the first column aligned to the left, and the others to the right.
pub(super) fn markdown(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut text = line(head.iter().copied());
    text += "|---|";
    text += &"--:|".repeat(head.len() - 1);
    text.push('\n');
    for row in rows {
        text += &line(row.iter().map(String::as_str));
    }
    text
}

fn line<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::from("|");
    for cell in cells {
        if !cell.is_empty() {
            text.push(' ');
            text += cell;
        }
        text += " |";
    }
    text.push('\n');
    text
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => text.clone(),
        Cell::Figure(figure) => range(figure),
    }
}

/// Returns the value of a figure, followed by its range in parentheses if both are known.
fn range(figure: &Figure) -> String {
    let value = figure.value().map_or_else(String::new, number);
    match *figure {
        Figure {
            median: Some(_),
            min: Some(min),
            max: Some(max),
        } => format!("{value} ({} to {})", number(min), number(max)),
        _ => value,
    }
}

/// Returns a number with [`DIGITS`] significant digits or all digits before the point, and commas between thousands.
///
/// A number never gets more digits than its file has.
pub(super) fn number(value: f64) -> String {
    let stored = value.to_string();
    let stored_decimals = stored.split_once('.').map_or(0, |(_, part)| part.len());
    let decimals = super::decimals(value, DIGITS).min(stored_decimals);
    let text = format!("{:.decimals$}", super::round(value.abs(), DIGITS));
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if value < 0.0 { "-" } else { "" };
    match part {
        "" => format!("{sign}{grouped}"),
        _ => format!("{sign}{grouped}.{part}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_commas() {
        let table = [
            (6.049, "6.05"),
            (0.0577, "0.0577"),
            (23.264, "23.3"),
            (570.526, "571"),
            (2_053_444.0, "2,053,444"),
            (9.2, "9.2"),
            (12.993, "13.0"),
            (7.145, "7.15"),
            (-1.5, "-1.5"),
        ];
        for (value, text) in table {
            assert_eq!(number(value), text);
        }
    }
}
