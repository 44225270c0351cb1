//! Charts as inline SVG: pure functions of numbers. None holds text beside its title and description: numbers and labels
//! stand in the table that a chart is set into, row by row.

use maud::{Markup, html};

/// Where a number lies between two ends, in hundredths of the width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    pub low: f64,
    pub high: f64,
}

impl Scale {
    /// The scale that has room for all of these.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.into_iter().filter(|value| value.is_finite()) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            return Self { low: 0.0, high: 1.0 };
        }
        if low == high {
            let room = if low == 0.0 { 1.0 } else { low.abs() / 2.0 };
            return Self { low: low - room, high: high + room };
        }
        Self { low, high }
    }

    /// With zero on it.
    pub fn with_zero(self) -> Self {
        Self { low: self.low.min(0.0), high: self.high.max(0.0) }
    }

    pub fn x(&self, value: f64) -> f64 {
        // Halves first: the difference of two huge numbers may be none.
        let width = self.high / 2.0 - self.low / 2.0;
        let share = if width > 0.0 { (value / 2.0 - self.low / 2.0) / width } else { 0.5 };
        1.0 + 98.0 * share.clamp(0.0, 1.0)
    }
}

/// A mark in a row, from and to in hundredths of the width.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Mark {
    /// A bar; the class says what it means.
    Bar(f64, f64, &'static str),
    /// A thin line in the middle of the row: an interval.
    Line(f64, f64),
    /// A short upright stroke: a value.
    Tick(f64, &'static str),
    /// A stroke over the whole height of the row: what is asked for.
    Bound(f64),
    /// A thin line down to the next row: where it goes on.
    Join(f64),
}

/// The classes of marks, in the order in which they are drawn over one another.
const LAYERS: &[&str] = &["band", "pale", "bar", "total", "up", "down", "join", "line", "tick", "tick bad", "bound"];

/// Rows of marks below one another, to be set beside the rows of a table: stretched to the width, never in height. Marks
/// of a class are one path, which keeps a page of many segments light.
pub(crate) fn strip(title: &str, desc: &str, height: u32, rows: &[Vec<Mark>], rule: Option<f64>) -> Markup {
    let total = height * rows.len() as u32;
    let layer = |class: &str| -> String {
        let of = |(i, marks): (usize, &Vec<Mark>)| -> String {
            let top = f64::from(height) * i as f64;
            marks.iter().filter(|mark| mark.class() == class).map(|mark| mark.path(top, f64::from(height))).collect()
        };
        rows.iter().enumerate().map(of).collect()
    };
    html! {
        svg.strip role="img" viewBox=(format!("0 0 100 {total}")) height=(total) preserveAspectRatio="none" {
            title { (title) }
            desc { (desc) }
            @if let Some(x) = rule { path.rule d=(format!("M{} 0V{total}", short(x))) {} }
            @for class in LAYERS {
                @let d = layer(class);
                @if !d.is_empty() { path class=(class) d=(d) {} }
            }
        }
    }
}

impl Mark {
    fn class(&self) -> &'static str {
        match self {
            Self::Bar(.., class) | Self::Tick(_, class) => class,
            Self::Line(..) => "line",
            Self::Bound(_) => "bound",
            Self::Join(_) => "join",
        }
    }

    fn path(&self, top: f64, height: f64) -> String {
        let at = |x: f64, y: f64| format!("M{} {}", short(x), short(top + height * y));
        match self {
            Self::Bar(from, to, _) => {
                let (x, width) = (from.min(*to), (from - to).abs().max(0.4));
                format!("{}h{}v{}h-{}z", at(x, 0.22), short(width), short(height * 0.56), short(width))
            }
            Self::Line(from, to) => format!("{}H{}", at(*from, 0.5), short(*to)),
            Self::Tick(x, _) => format!("{}v{}", at(*x, 0.24), short(height * 0.52)),
            Self::Bound(x) => format!("{}v{}", at(*x, 0.1), short(height * 0.8)),
            Self::Join(x) => format!("{}v{}", at(*x, 0.22), short(height)),
        }
    }
}

/// A line of values over the nights; a gap where there is none. In half pixels, each point from the one before.
pub(crate) fn spark(title: &str, desc: &str, values: &[Option<f64>]) -> Markup {
    const WIDTH: f64 = 240.0;
    const HEIGHT: f64 = 48.0;
    let scale = Scale::of(values.iter().flatten().copied());
    let step = if values.len() > 1 { (WIDTH - 16.0) / (values.len() - 1) as f64 } else { 0.0 };
    let point = |i: usize, value: f64| {
        let y = 6.0 + (HEIGHT - 12.0) * (99.0 - scale.x(value)) / 98.0;
        ((8.0 + step * i as f64).round() as i64, y.round() as i64)
    };
    let mut line = String::new();
    let (mut last, mut drawn): (Option<(i64, i64)>, bool) = (None, false);
    for (i, value) in values.iter().enumerate() {
        let Some(value) = value else {
            drawn = false;
            continue;
        };
        let (x, y) = point(i, *value);
        match last.filter(|_| drawn) {
            // A minus parts two numbers as well as a blank.
            Some((left, above)) if y < above => line.push_str(&format!("l{}{}", x - left, y - above)),
            Some((left, above)) => line.push_str(&format!("l{} {}", x - left, y - above)),
            None => line.push_str(&format!("M{x} {y}")),
        }
        last = Some((x, y));
        drawn = true;
    }
    html! {
        svg.spark role="img" viewBox="0 0 240 48" {
            title { (title) }
            desc { (desc) }
            path d=(line) {}
            @if let Some((x, y)) = last { circle cx=(x) cy=(y) r="4" {} }
        }
    }
}

/// One decimal at most: a tenth of a pixel is enough.
fn short(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_never_leaves_the_width() {
        let scale = Scale::of([3.0, -2.0, 10.0]);
        assert_eq!((scale.x(-2.0), scale.x(10.0), scale.x(1e300)), (1.0, 99.0, 99.0));
        assert!((Scale::of([5.0, 5.0]).x(5.0) - 50.0).abs() < 1e-9);
        assert!(Scale::of([f64::MAX, f64::MIN]).x(0.0).is_finite());
        assert_eq!(Scale::of([]).with_zero(), Scale { low: 0.0, high: 1.0 });
    }

    #[test]
    fn a_line_has_gaps() {
        let svg = spark("t", "d", &[Some(1.0), None, Some(2.0), Some(3.0)]).into_string();
        assert_eq!(svg.matches('M').count(), 2);
        assert!(svg.contains("role=\"img\"") && svg.contains("<title>t</title><desc>d</desc>"));
    }
}
