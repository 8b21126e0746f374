//! Curves as SVG: just enough for the figures here.

use std::{
    fmt::{self, Write},
    ops::RangeInclusive,
};

/// A figure.
#[derive(Clone, Debug)]
pub struct Plot {
    /// Above it.
    pub title: String,
    /// Below and beside it.
    pub axes: [String; 2],
    /// What is shown of each axis.
    pub ranges: [RangeInclusive<f64>; 2],
    /// Where each axis has a number.
    pub ticks: [Vec<f64>; 2],
    /// Is the second axis logarithmic?
    pub logarithmic: bool,
    /// What is shown.
    pub series: Vec<Series>,
}

/// Points of one kind.
#[derive(Clone, Debug)]
pub struct Series {
    /// What they are.
    pub label: String,
    /// Where they are.
    pub points: Vec<[f64; 2]>,
    /// How they are drawn.
    pub marks: Marks,
    /// One of a few colours, by number.
    pub colour: usize,
}

/// How points are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// Joined.
    Line,
    /// Joined by dashes.
    Dashes,
    /// Joined by dots.
    Dots,
    /// Each alone.
    Circles,
}

/// Told apart also by those who do not see red and green as different (Okabe, Ito 2008).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
/// Around the axes.
const LEFT: f64 = 64.0;
const TOP: f64 = 40.0;
const RIGHT: f64 = 210.0;
const BOTTOM: f64 = 52.0;

impl Plot {
    /// Where a point is on the page.
    fn place(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let scale = |value: f64| if self.logarithmic { value.ln() } else { value };
        let share = |value: f64, start: f64, end: f64| (value - start) / (end - start);
        let [across, up] = &self.ranges;
        [
            LEFT + share(x, *across.start(), *across.end()) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - share(scale(y), scale(*up.start()), scale(*up.end())) * (HEIGHT - TOP - BOTTOM),
        ]
    }
}

impl fmt::Display for Plot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">
<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>
<text x="{LEFT}" y="24" font-size="15">{}</text>"#,
            escaped(&self.title)
        )?;
        let [[left, bottom], [right, top]] = [
            self.place([*self.ranges[0].start(), *self.ranges[1].start()]),
            self.place([*self.ranges[0].end(), *self.ranges[1].end()]),
        ];
        for &tick in &self.ticks[0] {
            let [x, _] = self.place([tick, *self.ranges[1].start()]);
            writeln!(f, r##"<path d="M{x:.1} {bottom:.1}V{top:.1}" stroke="#e4e4e4"/>"##)?;
            writeln!(f, r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{tick}</text>"#, bottom + 18.0)?;
        }
        for &tick in &self.ticks[1] {
            let [_, y] = self.place([*self.ranges[0].start(), tick]);
            writeln!(f, r##"<path d="M{left:.1} {y:.1}H{right:.1}" stroke="#e4e4e4"/>"##)?;
            writeln!(f, r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{tick}</text>"#, left - 8.0, y + 4.0)?;
        }
        writeln!(f, r##"<path d="M{left:.1} {top:.1}V{bottom:.1}H{right:.1}" fill="none" stroke="#444"/>"##)?;
        let [middle, centre] = [(left + right) / 2.0, (top + bottom) / 2.0];
        let [below, beside] = [escaped(&self.axes[0]), escaped(&self.axes[1])];
        writeln!(f, r#"<text x="{middle:.1}" y="{:.1}" text-anchor="middle">{below}</text>"#, HEIGHT - 12.0)?;
        writeln!(f, r#"<text transform="translate(16 {centre:.1}) rotate(-90)" text-anchor="middle">{beside}</text>"#)?;
        for (row, series) in self.series.iter().enumerate() {
            let [x, y] = [right + 14.0, top + 8.0 + 18.0 * row as f64];
            let sample = [[x, y], [x + 22.0, y]];
            series.draw(f, if series.marks == Marks::Circles { &sample[1..] } else { &sample })?;
            writeln!(f, r#"<text x="{:.1}" y="{:.1}">{}</text>"#, x + 30.0, y + 4.0, escaped(&series.label))?;
            let points: Vec<_> = series.points.iter().map(|point| self.place(*point)).collect();
            series.draw(f, &points)?;
        }
        f.write_str("</svg>\n")
    }
}

impl Series {
    fn draw(&self, f: &mut fmt::Formatter<'_>, points: &[[f64; 2]]) -> fmt::Result {
        let colour = COLOURS[self.colour % COLOURS.len()];
        let dashes = match self.marks {
            Marks::Circles => {
                return points.iter().try_for_each(|[x, y]| {
                    writeln!(f, r#"<circle cx="{x:.1}" cy="{y:.1}" r="4" fill="{colour}" fill-opacity=".6"/>"#)
                });
            }
            Marks::Line => "",
            Marks::Dashes => r#" stroke-dasharray="7 4""#,
            Marks::Dots => r#" stroke-dasharray="2 3""#,
        };
        let mut path = String::new();
        for (index, [x, y]) in points.iter().enumerate() {
            write!(path, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' })?;
        }
        writeln!(f, r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"{dashes}/>"#)
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_where_their_axes_say() {
        let mut plot = Plot {
            title: "a < b".into(),
            axes: ["x".into(), "y".into()],
            ranges: [0.0..=10.0, 1.0..=100.0],
            ticks: [vec![0.0], vec![1.0]],
            logarithmic: true,
            series: vec![Series { label: "l".into(), points: vec![[5.0, 10.0]], marks: Marks::Circles, colour: 0 }],
        };
        let middle = [(LEFT + WIDTH - RIGHT) / 2.0, (TOP + HEIGHT - BOTTOM) / 2.0];
        assert!(plot.place([5.0, 10.0]).iter().zip(middle).all(|(a, b)| (a - b).abs() < 1e-9));
        let svg = plot.to_string();
        assert!(svg.contains(&format!(r#"<circle cx="{:.1}" cy="{:.1}""#, middle[0], middle[1])), "{svg}");
        assert!(svg.contains("a &lt; b") && svg.ends_with("</svg>\n"));
        plot.logarithmic = false;
        assert!((plot.place([0.0, 50.5])[1] - middle[1]).abs() < 1e-9);
    }
}
