//! Line charts as SVG, written by hand: one line a series, labelled axes, a legend.
//!
//! Owns what a chart looks like. A [`Figure`] is a column of panels that share nothing but their
//! width; a [`Panel`] has two axes and any number of series. Eight colours that colour-blind
//! readers can tell apart, then the same with dashes; a marker at each point, so that a line
//! through few points does not pretend to be a curve.

use core::fmt::Write as _;

const WIDTH: f64 = 920.0;
const PANEL_HEIGHT: f64 = 340.0;
const TITLE_HEIGHT: f64 = 44.0;
const LEFT: f64 = 84.0;
const LEGEND_WIDTH: f64 = 190.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 58.0;
const LEGEND_LINE: f64 = 20.0;
const TICKS_WANTED: f64 = 6.0;

/// Okabe and Ito's colours, without yellow (unreadable on white), with a grey instead.
const COLOURS: [&str; 8] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#7f7f7f",
];
const DASHES: [&str; 3] = ["", "7 4", "2 4"];

/// A column of charts.
#[derive(Debug, Clone, Default)]
pub struct Figure {
    pub title: String,
    pub panels: Vec<Panel>,
}

#[derive(Debug, Clone)]
pub struct Panel {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
}

#[derive(Debug, Clone)]
pub struct Axis {
    pub label: String,
    pub scale: Scale,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// As far as the points go.
    Linear,
    /// As `Linear`, and zero is always on it.
    FromZero,
    /// Powers of ten; points that are not above zero are left out.
    Logarithmic,
}

#[derive(Debug, Clone)]
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

impl Axis {
    pub fn new(label: impl Into<String>, scale: Scale) -> Self {
        Self {
            label: label.into(),
            scale,
        }
    }
}

impl Figure {
    /// The whole figure as an SVG document.
    pub fn svg(&self) -> String {
        let height = TITLE_HEIGHT + PANEL_HEIGHT * self.panels.len() as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
        );
        text(
            &mut svg,
            LEFT,
            28.0,
            "start",
            "font-size=\"17\" font-weight=\"bold\"",
            &self.title,
        );
        for (index, panel) in self.panels.iter().enumerate() {
            let top = TITLE_HEIGHT + PANEL_HEIGHT * index as f64 + TOP;
            panel.draw(&mut svg, top);
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// An axis with its points: from value to place.
struct Ruler {
    scale: Scale,
    low: f64,
    high: f64,
    /// Places of `low` and `high`.
    from: f64,
    to: f64,
    ticks: Vec<f64>,
}

impl Ruler {
    fn new(scale: Scale, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let usable =
            |value: &f64| value.is_finite() && (scale != Scale::Logarithmic || *value > 0.0);
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(usable) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (0.1, 1.0);
        }
        let ticks = match scale {
            Scale::Logarithmic => powers(low, high),
            Scale::FromZero => multiples(low.min(0.0), high.max(0.0)),
            Scale::Linear => multiples(low, high),
        };
        if scale != Scale::Linear {
            (low, high) = (ticks[0], ticks[ticks.len() - 1]);
        }
        Self {
            scale,
            low,
            high,
            from,
            to,
            ticks,
        }
    }

    fn place(&self, value: f64) -> Option<f64> {
        let measure = |value: f64| match self.scale {
            Scale::Logarithmic => value.log10(),
            Scale::Linear | Scale::FromZero => value,
        };
        if !value.is_finite() || (self.scale == Scale::Logarithmic && value <= 0.0) {
            return None;
        }
        let span = measure(self.high) - measure(self.low);
        let share = if span > 0.0 {
            (measure(value) - measure(self.low)) / span
        } else {
            0.5
        };
        Some(self.from + share * (self.to - self.from))
    }

    fn shown(&self) -> impl Iterator<Item = (f64, f64)> {
        let shown = |&tick: &f64| {
            let tolerance = (self.high - self.low).abs() * 1e-9;
            tick >= self.low - tolerance && tick <= self.high + tolerance
        };
        self.ticks
            .iter()
            .copied()
            .filter(shown)
            .filter_map(|tick| self.place(tick).map(|place| (tick, place)))
    }
}

/// Multiples of 1, 2 or 5 times a power of ten that enclose the range.
fn multiples(low: f64, high: f64) -> Vec<f64> {
    let span = if high > low {
        high - low
    } else {
        low.abs().max(1.0)
    };
    let rough = span / TICKS_WANTED;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let step = step
        .into_iter()
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(power * 10.0);
    let first = (low / step).floor() as i64;
    let last = ((high / step).ceil() as i64).max(first + 1);
    (first..=last)
        .map(|multiple| multiple as f64 * step)
        .collect()
}

/// Powers of ten that enclose the range, with 2 and 5 between them where there are few.
fn powers(low: f64, high: f64) -> Vec<f64> {
    let first = low.log10().floor() as i32;
    let last = (high.log10().ceil() as i32).max(first + 1);
    let few = last - first <= 3;
    let mut ticks = Vec::new();
    for power in first..last {
        let unit = 10_f64.powi(power);
        ticks.push(unit);
        if few {
            ticks.extend([2.0 * unit, 5.0 * unit]);
        }
    }
    ticks.push(10_f64.powi(last));
    let from = ticks.iter().rposition(|tick| *tick <= low).unwrap_or(0);
    let to = ticks
        .iter()
        .position(|tick| *tick >= high)
        .unwrap_or(ticks.len() - 1);
    ticks[from..=to.max(from + 1).min(ticks.len() - 1)].to_vec()
}

impl Panel {
    fn draw(&self, svg: &mut String, top: f64) {
        let right = WIDTH - LEGEND_WIDTH;
        let bottom = top + PANEL_HEIGHT - TOP - BOTTOM;
        let xs = self
            .series
            .iter()
            .flat_map(|series| series.points.iter().map(|point| point.0));
        let ys = self
            .series
            .iter()
            .flat_map(|series| series.points.iter().map(|point| point.1));
        let x = Ruler::new(self.x.scale, xs, LEFT, right);
        let y = Ruler::new(self.y.scale, ys, bottom, top);
        text(
            svg,
            LEFT,
            top - 10.0,
            "start",
            "font-weight=\"bold\"",
            &self.title,
        );
        for (tick, at) in x.shown() {
            line(svg, (at, top), (at, bottom), "#e4e4e4");
            text(svg, at, bottom + 18.0, "middle", "", &number(tick));
        }
        for (tick, at) in y.shown() {
            line(svg, (LEFT, at), (right, at), "#e4e4e4");
            text(svg, LEFT - 8.0, at + 4.5, "end", "", &number(tick));
        }
        line(svg, (LEFT, bottom), (right, bottom), "#444444");
        line(svg, (LEFT, top), (LEFT, bottom), "#444444");
        text(
            svg,
            f64::midpoint(LEFT, right),
            bottom + 40.0,
            "middle",
            "",
            &self.x.label,
        );
        let middle = f64::midpoint(top, bottom);
        let turned = format!("transform=\"rotate(-90 18 {middle:.1})\"");
        text(svg, 18.0, middle, "middle", &turned, &self.y.label);
        for (index, series) in self.series.iter().enumerate() {
            series.draw(svg, index, &x, &y);
            series.legend(
                svg,
                index,
                right + 18.0,
                top + LEGEND_LINE * index as f64 + 8.0,
            );
        }
    }
}

/// Colour and dashes of the n-th series.
fn look(index: usize) -> String {
    let colour = COLOURS[index % COLOURS.len()];
    let dash = DASHES[index / COLOURS.len() % DASHES.len()];
    format!("stroke=\"{colour}\" stroke-dasharray=\"{dash}\"")
}

impl Series {
    fn draw(&self, svg: &mut String, index: usize, x: &Ruler, y: &Ruler) {
        let place = |&(at, value): &(f64, f64)| Some((x.place(at)?, y.place(value)?));
        let places: Vec<(f64, f64)> = self.points.iter().filter_map(place).collect();
        let joined: Vec<String> = places
            .iter()
            .map(|(at, value)| format!("{at:.1},{value:.1}"))
            .collect();
        let name = escaped(&self.name);
        put(
            svg,
            format_args!(
                "<polyline points=\"{}\" fill=\"none\" stroke-width=\"1.8\" {}>\
                 <title>{name}</title></polyline>\n",
                joined.join(" "),
                look(index),
            ),
        );
        let colour = COLOURS[index % COLOURS.len()];
        for (at, value) in places {
            put(
                svg,
                format_args!(
                    "<circle cx=\"{at:.1}\" cy=\"{value:.1}\" r=\"2.6\" fill=\"{colour}\"/>\n"
                ),
            );
        }
    }

    fn legend(&self, svg: &mut String, index: usize, left: f64, at: f64) {
        let end = left + 30.0;
        put(
            svg,
            format_args!(
                "<line x1=\"{left:.1}\" y1=\"{at:.1}\" x2=\"{end:.1}\" y2=\"{at:.1}\" \
                 stroke-width=\"1.8\" {}/>\n",
                look(index),
            ),
        );
        text(svg, end + 8.0, at + 4.5, "start", "", &self.name);
    }
}

fn put(svg: &mut String, what: core::fmt::Arguments<'_>) {
    svg.write_fmt(what)
        .expect("writing to a string does not fail");
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    put(
        svg,
        format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" \
             stroke=\"{colour}\"/>\n"
        ),
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, more: &str, content: &str) {
    let content = escaped(content);
    put(
        svg,
        format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {more}>{content}</text>\n"
        ),
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// A tick: no more digits than it needs, thousands apart.
fn number(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 {
        return format!("{value:e}");
    }
    let rounded = format!("{value:.4}");
    let trimmed = rounded.trim_end_matches('0').trim_end_matches('.');
    let (whole, fraction) = trimmed.split_once('.').unwrap_or((trimmed, ""));
    let mut grouped = String::new();
    let digits = whole.trim_start_matches('-');
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push('\u{2009}');
        }
        grouped.push(digit);
    }
    let sign = if whole.starts_with('-') { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{grouped}{point}{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(scale: Scale, points: Vec<(f64, f64)>) -> Panel {
        Panel {
            title: "a < b".to_owned(),
            x: Axis::new("memory (MB)", Scale::Linear),
            y: Axis::new("cold (%)", scale),
            series: vec![Series {
                name: "GD".to_owned(),
                points,
            }],
        }
    }

    fn svg(panel: Panel) -> String {
        Figure {
            title: "t".to_owned(),
            panels: vec![panel],
        }
        .svg()
    }

    #[test]
    fn ticks_enclose_the_range_in_round_steps() {
        assert_eq!(multiples(0.0, 43.0), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
        assert_eq!(multiples(5.0, 5.0), [5.0, 6.0]);
        assert_eq!(
            powers(20.0, 640.0),
            [20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0]
        );
        assert_eq!(powers(1.0, 1e5), [1.0, 10.0, 100.0, 1e3, 1e4, 1e5]);
    }

    #[test]
    fn labels_names_and_points_are_in_the_picture() {
        let svg = svg(panel(
            Scale::FromZero,
            vec![(1_000.0, 50.0), (2_000.0, 0.0)],
        ));
        for wanted in [
            "memory (MB)",
            "cold (%)",
            ">GD<",
            "a &lt; b",
            "1\u{2009}000",
        ] {
            assert!(svg.contains(wanted), "{wanted} in {svg}");
        }
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("84.0,78.0 730.0,326.0"), "{svg}");
    }

    #[test]
    fn what_has_no_place_is_left_out() {
        let svg = svg(panel(
            Scale::Logarithmic,
            vec![(1.0, 0.0), (2.0, 10.0), (3.0, f64::NAN)],
        ));
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(!svg.contains("NaN"));
    }
}
