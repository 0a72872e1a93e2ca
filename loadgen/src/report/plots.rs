//! Plots, as SVG.

use std::{error::Error, time::Duration};

use plotters::prelude::*;

use super::Report;
use crate::latency::Bucket;

const SIZE: (u32, u32) = (900, 420);

/// Lines are told apart by colour; a baseline has that of its line, pale.
const COLOURS: [RGBColor; 5] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
    RGBColor(255, 127, 14),
];

/// A line of a plot.
struct Line {
    name: String,
    colour: RGBAColor,
    points: Vec<(f64, f64)>,
}

/// What stands on the axes.
struct Axes {
    title: &'static str,
    x: &'static str,
    y: &'static str,
    x_label: fn(&f64) -> String,
    /// Where no line is likely to be.
    legend: SeriesLabelPosition,
}

/// Each plot with the name of its file.
pub(super) fn all(report: &Report) -> Vec<(&'static str, String)> {
    let plots = [
        ("percentiles.svg", PERCENTILES, percentiles(report)),
        ("rate.svg", RATE, over_time(report, rate)),
        ("course.svg", COURSE, over_time(report, maximum)),
    ];
    plots
        .into_iter()
        .filter(|(_, _, lines)| lines.iter().any(|line| !line.points.is_empty()))
        .map(|(name, axes, lines)| {
            let mut svg = String::new();
            // Memory takes all that is written to it, and the axes are finite.
            draw(&mut svg, &axes, &lines).expect("a plot in memory");
            (name, svg)
        })
        .collect()
}

const PERCENTILES: Axes = Axes {
    title: "latency from the planned moment, by percentile",
    x: "percentile",
    y: "ms",
    x_label: nines,
    legend: SeriesLabelPosition::UpperLeft,
};

const RATE: Axes = Axes {
    title: "answers in a second",
    x: "seconds",
    y: "1/s",
    x_label: seconds,
    legend: SeriesLabelPosition::UpperRight,
};

const COURSE: Axes = Axes {
    title: "longest latency in the course of the run",
    x: "seconds",
    y: "ms",
    x_label: seconds,
    legend: SeriesLabelPosition::UpperRight,
};

/// `2` nines are 99 %.
fn nines(count: &f64) -> String {
    let percent = 100.0 - 10_f64.powf(2.0 - count);
    let digits = (count.floor() - 2.0).max(0.0) as usize;
    format!("{percent:.digits$} %")
}

fn seconds(seconds: &f64) -> String {
    format!("{seconds:.3}")
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
}

/// The percentile curves, and those of the baseline.
fn percentiles(report: &Report) -> Vec<Line> {
    let points = |curve: &[(f64, u64)]| {
        curve
            .iter()
            .map(|&(nines, nanos)| (nines, nanos as f64 / 1e6))
            .collect()
    };
    let mut lines = Vec::new();
    for (latency, colour) in report.latencies.iter().zip(COLOURS.iter().cycle()) {
        lines.push(Line {
            name: latency.name.to_owned(),
            colour: colour.to_rgba(),
            points: points(&latency.corrected.curve()),
        });
        let before = report.baseline.as_ref();
        if let Some(before) = before.and_then(|before| before.latencies.get(latency.name)) {
            lines.push(Line {
                name: format!("{}, baseline", latency.name),
                colour: colour.mix(0.4),
                points: points(&before.curve),
            });
        }
    }
    lines
}

/// A value of each span of time, for each latency.
fn over_time(report: &Report, value: fn(&Bucket, Duration) -> f64) -> Vec<Line> {
    let starts = report.latencies.iter();
    let starts = starts.filter_map(|latency| Some(latency.course.spans().next()?.0));
    let origin = starts.min().unwrap_or_default();
    report
        .latencies
        .iter()
        .zip(COLOURS.iter().cycle())
        .map(|(latency, colour)| Line {
            name: latency.name.to_owned(),
            colour: colour.to_rgba(),
            points: latency
                .course
                .spans()
                .map(|(start, bucket)| {
                    (
                        (start - origin).as_secs_f64(),
                        value(bucket, latency.course.width()),
                    )
                })
                .collect(),
        })
        .collect()
}

fn rate(bucket: &Bucket, width: Duration) -> f64 {
    bucket.count as f64 / width.as_secs_f64()
}

fn maximum(bucket: &Bucket, _: Duration) -> f64 {
    bucket.max as f64 / 1e6
}

fn draw(svg: &mut String, axes: &Axes, lines: &[Line]) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let points = || lines.iter().flat_map(|line| &line.points);
    // An axis has a length, whatever was measured.
    let x_max = points().map(|point| point.0).fold(1e-3, f64::max);
    let y_max = points().map(|point| point.1).fold(1e-6, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .caption(axes.title, ("sans-serif", 18))
        .margin(12)
        .margin_right(40)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..x_max, 0.0..y_max * 1.05)?;
    chart
        .configure_mesh()
        .x_desc(axes.x)
        .y_desc(axes.y)
        .x_label_formatter(&axes.x_label)
        .light_line_style(WHITE)
        .draw()?;
    for line in lines.iter().filter(|line| !line.points.is_empty()) {
        let colour = line.colour;
        let series = LineSeries::new(line.points.iter().copied(), colour.stroke_width(2));
        chart
            .draw_series(series)?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
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

    #[test]
    fn nines_are_told_as_percentiles() {
        let told: Vec<_> = [0.0, 1.0, 2.0, 3.0, 4.0].iter().map(nines).collect();
        assert_eq!(told, ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }

    #[test]
    fn a_plot_has_its_lines_and_their_names() {
        let line = Line {
            name: "echo <1>".to_owned(),
            colour: COLOURS[0].to_rgba(),
            points: vec![(0.0, 1.0), (1.0, 2.0), (2.0, 30.0)],
        };
        let mut svg = String::new();
        draw(&mut svg, &PERCENTILES, &[line]).unwrap();
        for part in ["<svg", "polyline", "echo &lt;1&gt;", "99 %", "</svg>"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
    }
}
