//! The plots of a run, as SVG.

use std::{error::Error, ops::Range, time::Duration};

use plotters::{
    coord::{
        ranged1d::{DefaultFormatting, KeyPointHint, Ranged},
        types::RangedCoordf64,
    },
    element::DashedPathElement,
    prelude::*,
};

use crate::{
    measure::{
        latency::{Latency, TimeSeries},
        latency_names::{HICCUP, LATENESS, UNREAD},
    },
    report::Report,
};

const SIZE: (u32, u32) = (900, 420);

/// Colours of the lines. The line of a baseline has the colour of its latency, paler.
const COLOURS: [RGBColor; 5] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
    RGBColor(255, 127, 14),
];

/// Length of a dash and of a gap, in pixels.
const DASH_PIXELS: u32 = 6;

/// Highest number of marks on an axis.
const MARKS_MAX: usize = 11;

/// A line of a plot.
struct Line {
    name: String,
    colour: RGBAColor,
    /// Dashed lines are drawn over solid ones, so that both are visible where they coincide.
    dashed: bool,
    points: Vec<(f64, f64)>,
}

/// An axis with marks at given values.
struct Marked {
    range: RangedCoordf64,
    marks: Vec<f64>,
}

impl Ranged for Marked {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.range.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.marks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.range()
    }
}

/// Title, axes and legend of a plot.
struct Axes {
    title: &'static str,
    x: &'static str,
    y: &'static str,
    /// Returns the values of the marks on an axis of this length.
    x_marks: fn(f64) -> Vec<f64>,
    x_label: fn(&f64) -> String,
    /// Position of the legend, where lines are unlikely.
    legend: SeriesLabelPosition,
}

/// Draws the plots that have a line, each with the name of its file.
pub(super) fn all(report: &Report) -> Vec<(&'static str, String)> {
    let plots = [
        ("percentiles.svg", PERCENTILES, percentiles(report)),
        (
            "rate.svg",
            RATE,
            over_time(&answers(&report.latencies), rates),
        ),
        (
            "course.svg",
            LONGEST_LATENCY,
            over_time(&report.latencies.iter().collect::<Vec<_>>(), maxima),
        ),
    ];
    plots
        .into_iter()
        .filter(|(_, _, lines)| lines.iter().any(|line| !line.points.is_empty()))
        .map(|(name, axes, lines)| {
            let mut svg = String::new();
            // Writing to memory cannot fail, and the axes are finite.
            draw(&mut svg, &axes, &lines).expect("a plot in memory cannot fail");
            (name, svg)
        })
        .collect()
}

const PERCENTILES: Axes = Axes {
    title: "latency from the planned moment, by percentile",
    x: "percentile",
    y: "ms",
    x_marks: whole_nines,
    x_label: nines,
    legend: SeriesLabelPosition::UpperLeft,
};

const RATE: Axes = Axes {
    title: "answers per second",
    x: "seconds",
    y: "1/s",
    x_marks: round_numbers,
    x_label: seconds,
    legend: SeriesLabelPosition::UpperRight,
};

const LONGEST_LATENCY: Axes = Axes {
    title: "longest latency over time",
    x: "seconds",
    y: "ms",
    x_marks: round_numbers,
    x_label: seconds,
    legend: SeriesLabelPosition::UpperRight,
};

/// Returns the marks of the percentile axis: whole numbers of nines, whose percentiles are well
/// known.
fn whole_nines(length: f64) -> Vec<f64> {
    (0..=length as u32).map(f64::from).collect()
}

fn round_numbers(length: f64) -> Vec<f64> {
    RangedCoordf64::from(0.0..length).key_points(MARKS_MAX)
}

/// Formats a number of nines as a percentile: 2 is 99 %.
fn nines(count: &f64) -> String {
    let percent = 100.0 - 10_f64.powf(2.0 - count);
    // Enough digits to differ from 100 %.
    let digits = (count.ceil() - 2.0).max(0.0) as usize;
    format!("{percent:.digits$} %")
}

fn seconds(seconds: &f64) -> String {
    format!("{seconds:.3}")
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
}

/// Returns the percentile curves of the run and of the baseline.
fn percentiles(report: &Report) -> Vec<Line> {
    let points = |curve: &[(f64, u64)]| {
        curve
            .iter()
            .map(|&(nines, nanos)| (nines, nanos as f64 / 1e6))
            .collect()
    };
    let mut lines = Vec::new();
    for (latency, style) in report.latencies.iter().zip(styles()) {
        let (colour, dashed) = style;
        lines.push(Line {
            name: latency.name.to_owned(),
            colour: colour.to_rgba(),
            dashed,
            points: points(&latency.corrected.curve()),
        });
        let before = report.baseline.as_ref();
        if let Some(before) = before.and_then(|before| before.latencies.get(latency.name)) {
            lines.push(Line {
                name: format!("{}, baseline", latency.name),
                colour: colour.mix(0.4),
                dashed,
                points: points(&before.curve),
            });
        }
    }
    lines
}

/// Returns the styles of the lines: colour, and dashed for every second one.
fn styles() -> impl Iterator<Item = (RGBColor, bool)> {
    COLOURS
        .into_iter()
        .cycle()
        .zip([false, true].into_iter().cycle())
}

/// Returns the latencies of answers, without those that describe the generator.
fn answers(latencies: &[Latency]) -> Vec<&Latency> {
    let is_answer = |latency: &&Latency| {
        let name = latency.name;
        ![LATENESS, HICCUP].contains(&name) && !name.ends_with(UNREAD)
    };
    latencies.iter().filter(is_answer).collect()
}

/// Returns a line over time for each latency.
fn over_time(latencies: &[&Latency], values: fn(&TimeSeries) -> Vec<(Duration, f64)>) -> Vec<Line> {
    let starts = latencies.iter();
    let starts = starts.filter_map(|latency| Some(latency.time_series.spans().next()?.0));
    let origin = starts.min().unwrap_or_default();
    latencies
        .iter()
        .zip(styles())
        .map(|(latency, (colour, dashed))| Line {
            name: latency.name.to_owned(),
            colour: colour.to_rgba(),
            dashed,
            points: values(&latency.time_series)
                .into_iter()
                .map(|(start, value)| ((start - origin).as_secs_f64(), value))
                .collect(),
        })
        .collect()
}

fn rates(series: &TimeSeries) -> Vec<(Duration, f64)> {
    series.rates()
}

fn maxima(series: &TimeSeries) -> Vec<(Duration, f64)> {
    let millis = |nanos: u64| nanos as f64 / 1e6;
    series
        .spans()
        .map(|(start, bucket)| (start, millis(bucket.max)))
        .collect()
}

fn draw(svg: &mut String, axes: &Axes, lines: &[Line]) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let points = || lines.iter().flat_map(|line| &line.points);
    // An axis needs a length above zero.
    let x_max = points().map(|point| point.0).fold(1e-3, f64::max);
    let y_max = points().map(|point| point.1).fold(1e-6, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .caption(axes.title, ("sans-serif", 18))
        .margin(12)
        .margin_right(40)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(
            Marked {
                range: (0.0..x_max).into(),
                marks: (axes.x_marks)(x_max),
            },
            0.0..y_max * 1.05,
        )?;
    chart
        .configure_mesh()
        .x_desc(axes.x)
        .y_desc(axes.y)
        .x_label_formatter(&axes.x_label)
        .light_line_style(WHITE)
        .draw()?;
    let (over, under): (Vec<_>, Vec<_>) = lines
        .iter()
        .filter(|line| !line.points.is_empty())
        .partition(|line| line.dashed);
    for line in under.into_iter().chain(over) {
        let style = line.colour.stroke_width(2);
        let points = line.points.iter().copied();
        let gap = if line.dashed { DASH_PIXELS } else { 0 };
        let drawn = match line.dashed {
            true => chart.draw_series(DashedLineSeries::new(
                points,
                DASH_PIXELS,
                DASH_PIXELS,
                style,
            ))?,
            false => chart.draw_series(LineSeries::new(points, style))?,
        };
        drawn.label(&line.name).legend(move |(x, y)| {
            DashedPathElement::new([(x, y), (x + 16, y)], DASH_PIXELS, gap, style)
        });
    }
    chart
        .configure_series_labels()
        .position(axes.legend.clone())
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, dashed: bool, points: &[(f64, f64)]) -> Line {
        Line {
            name: name.to_owned(),
            colour: COLOURS[0].to_rgba(),
            dashed,
            points: points.to_vec(),
        }
    }

    fn drawn(axes: &Axes, lines: &[Line]) -> String {
        let mut svg = String::new();
        draw(&mut svg, axes, lines).unwrap();
        svg
    }

    #[test]
    fn nines_are_formatted_as_percentiles() {
        let expected: Vec<_> = [0.0, 1.0, 2.0, 3.0, 4.0].iter().map(nines).collect();
        assert_eq!(expected, ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
        assert_eq!(nines(&2.5), "99.7 %");
    }

    #[test]
    fn each_percentile_is_on_the_axis_once_and_none_is_rounded_to_100() {
        for tenths in 0..=80 {
            let points = [(0.0, 1.0), (tenths as f64 / 10.0, 2.0)];
            let svg = drawn(&PERCENTILES, &[line("echo", false, &points)]);
            let texts = svg
                .lines()
                .map(str::trim)
                .filter(|text| text.ends_with(" %"));
            let mut labels: Vec<_> = texts.collect();
            assert_eq!(labels.len(), tenths / 10 + 1, "{tenths}: {labels:?}");
            assert!(!labels.contains(&"100 %"), "{tenths}: {labels:?}");
            labels.dedup();
            assert_eq!(labels.len(), tenths / 10 + 1, "{tenths}: {labels:?}");
        }
    }

    #[test]
    fn a_plot_contains_its_lines_and_their_names() {
        let points = [(0.0, 1.0), (1.0, 2.0), (2.0, 30.0)];
        let svg = drawn(&PERCENTILES, &[line("echo <1>", false, &points)]);
        for part in ["<svg", "polyline", "echo &lt;1&gt;", "99 %", "</svg>"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
    }

    #[test]
    fn a_dashed_line_is_drawn_over_the_solid_one_that_it_coincides_with() {
        let points = [(0.0, 1.0), (1.0, 2.0), (2.0, 30.0)];
        let alone = drawn(&RATE, &[line("close", false, &points)]);
        // The dashed line comes first, and is drawn last.
        let lines = [line("fin", true, &points), line("close", false, &points)];
        let both = drawn(&RATE, &lines);
        let count = |svg: &str| svg.matches("<polyline").count();
        assert!(count(&both) > count(&alone) + 10, "{both}");
        let position = |name| both.find(name).unwrap();
        assert!(position("\nclose\n") < position("\nfin\n"), "{both}");
    }

    #[test]
    fn the_rate_plot_has_only_latencies_of_answers() {
        let names = ["close", "fin", LATENESS, UNREAD, "sweep-unread", HICCUP];
        let latencies = names.map(Latency::new);
        let expected: Vec<_> = answers(&latencies).iter().map(|it| it.name).collect();
        assert_eq!(expected, ["close", "fin"]);
    }
}
