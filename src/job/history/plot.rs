//! A drawing of numbers over pushes, as an SVG inside a page: a point for each push and a line through them. It needs no script;
//! the table of the page has the same numbers.

use std::fmt::Write as _;

use super::markup::markup;

/// The size of a drawing, in its own units, and its margins.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 96.0;
/// Half of a date fits in.
const RIGHT: f64 = 48.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 40.0;

/// How many lines of a grid there are, that of the least and that of the largest number included.
const LINES: u32 = 5;

/// How many dates are written below.
const DATES: usize = 6;

/// The numbers of one drawing.
pub(super) struct Plot<'a> {
    /// A part of ids, which no other drawing of the page has.
    pub(super) id: &'a str,
    /// What is drawn.
    pub(super) title: &'a str,
    /// A number as text.
    pub(super) text: fn(f64) -> String,
    /// The points, the oldest first.
    pub(super) points: Vec<Point>,
}

/// A push with its number.
pub(super) struct Point {
    /// The place of the push among all of the page, the oldest first.
    pub(super) number: usize,
    /// Its day.
    pub(super) date: String,
    /// The id of its row in the table.
    pub(super) row: String,
    pub(super) value: f64,
}

impl Plot<'_> {
    /// The drawing, of `pushes` places; none with fewer than two points.
    pub(super) fn svg(&self, pushes: usize) -> Option<String> {
        let (first, last) = (self.points.first()?, self.points.last()?);
        if self.points.len() < 2 {
            return None;
        }
        let scale = Scale::of(&self.points, pushes);
        let (id, title) = (markup(self.id), markup(self.title));
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"group\" aria-labelledby=\"{id}-title {id}-text\">\n<title id=\"{id}-title\">{title}</title>\n<desc id=\"{id}-text\">{} pushes from {} to {}; from {} to {}. The table below has each number.</desc>\n",
            self.points.len(),
            markup(&first.date),
            markup(&last.date),
            markup(&(self.text)(scale.least)),
            markup(&(self.text)(scale.most)),
        );
        for line in 0..LINES {
            let value = scale.least + (scale.most - scale.least) * f64::from(line) / f64::from(LINES - 1);
            let (y, right, text) = (scale.y(value), WIDTH - RIGHT, markup(&(self.text)(value)));
            // Writing into a string does not fail.
            let _ = writeln!(svg, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
            let _ = writeln!(svg, "<text class=\"value\" x=\"{}\" y=\"{:.1}\">{text}</text>", LEFT - 8.0, y + 4.0);
            if scale.most <= scale.least {
                break;
            }
        }
        for point in self.points.iter().step_by(self.points.len().div_ceil(DATES)) {
            let (x, date) = (scale.x(point.number), markup(&point.date));
            let _ = writeln!(svg, "<text class=\"date\" x=\"{x:.1}\" y=\"{}\">{date}</text>", HEIGHT - 12.0);
        }
        let place = |point: &Point| format!("{:.1},{:.1}", scale.x(point.number), scale.y(point.value));
        let places: Vec<_> = self.points.iter().map(place).collect();
        let _ = writeln!(svg, "<polyline points=\"{}\"/>", places.join(" "));
        for point in &self.points {
            let (x, y) = (scale.x(point.number), scale.y(point.value));
            let (row, text) = (markup(&point.row), markup(&format!("{}: {}", point.date, (self.text)(point.value))));
            let _ = writeln!(
                svg,
                "<a href=\"#{row}\" aria-label=\"{text}\"><circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"><title>{text}</title></circle></a>"
            );
        }
        Some(svg + "</svg>")
    }
}

/// Where numbers are in the drawing.
struct Scale {
    least: f64,
    most: f64,
    /// The number of places from left to right, less one.
    steps: f64,
}

impl Scale {
    fn of(points: &[Point], pushes: usize) -> Self {
        let values = || points.iter().map(|point| point.value);
        let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        Self { least, most, steps: exact(pushes.saturating_sub(1).max(1)) }
    }

    fn x(&self, number: usize) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * exact(number) / self.steps
    }

    fn y(&self, value: f64) -> f64 {
        let range = self.most - self.least;
        let part = if range > 0.0 { (value - self.least) / range } else { 0.5 };
        HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * part
    }
}

/// A number of pushes.
fn exact(count: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "nobody draws so many pushes")]
    let exact = count as f64;
    exact
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(values: &[f64]) -> Plot<'static> {
        let point = |(number, value): (usize, &f64)| Point {
            number,
            date: format!("2015-12-{number:02}"),
            row: format!("p{number}"),
            value: *value,
        };
        Plot {
            id: "size",
            title: "a < b",
            text: |value| format!("{value} B"),
            points: values.iter().enumerate().map(point).collect(),
        }
    }

    #[test]
    fn points_lie_between_the_margins_and_have_texts() {
        let svg = plot(&[10.0, 30.0, 20.0]).svg(3).unwrap();
        assert!(svg.contains("points=\"96.0,220.0 504.0,16.0 912.0,118.0\""), "{svg}");
        assert!(svg.contains("a &lt; b") && svg.contains("<title>2015-12-01: 30 B</title>"), "{svg}");
        assert!(svg.contains("from 10 B to 30 B"), "{svg}");
        assert_eq!(svg.matches("class=\"grid\"").count(), 5);
    }

    #[test]
    fn one_number_is_no_line_and_equal_numbers_are_a_flat_one() {
        assert!(plot(&[1.0]).svg(1).is_none() && plot(&[]).svg(0).is_none());
        let flat = plot(&[5.0, 5.0]).svg(2).unwrap();
        assert!(flat.contains("points=\"96.0,118.0 912.0,118.0\""), "{flat}");
        assert_eq!(flat.matches("class=\"grid\"").count(), 1);
        assert!(!flat.contains("NaN") && !flat.contains("inf"), "{flat}");
    }
}
