//! The loss curve as an SVG file: the loss of each step as a line, evaluations as points, axes with
//! units. Its colours are told apart by people who see colours otherwise (M. Okabe and K. Ito), and
//! follow a light or a dark page.

use std::fmt::Write as _;

use super::Point;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 52.0;

/// Points of the line: more than its pixels would not be seen.
const DRAWN: usize = 1200;

const STYLE: &str = "\
    .page{fill:#ffffff}.ink{fill:#333333}.grid{stroke:#d8d8d8}.axis{stroke:#666666}\
    .train{stroke:#0072b2}.eval{stroke:#d55e00}circle.eval{fill:#d55e00}\
    text{font:13px system-ui,sans-serif}.title{font-size:15px;font-weight:600}\
    @media(prefers-color-scheme:dark){.page{fill:#16181c}.ink{fill:#dddddd}\
    .grid{stroke:#33373d}.axis{stroke:#999999}.train{stroke:#56b4e9}\
    .eval{stroke:#e69f00}circle.eval{fill:#e69f00}}";

/// The picture. Losses that are no numbers leave a gap at their step.
pub(super) fn svg(points: &[Point], title: &str) -> String {
    let train = points.iter().map(|point| (point.step as f64, point.loss));
    let train: Vec<(f64, f64)> = train.filter(|(_, loss)| loss.is_finite()).collect();
    let eval = points
        .iter()
        .filter_map(|point| Some((point.step as f64, point.eval_loss?)));
    let eval: Vec<(f64, f64)> = eval.filter(|(_, loss)| loss.is_finite()).collect();
    let last = points
        .last()
        .map_or(1.0, |point| point.step as f64)
        .max(1.0);
    let steps = Axis::new(0.0, last);
    let losses = Axis::around(train.iter().chain(&eval).map(|(_, loss)| *loss));
    let x = |step: f64| LEFT + steps.part(step) * (WIDTH - LEFT - RIGHT);
    let y = |loss: f64| HEIGHT - BOTTOM - losses.part(loss) * (HEIGHT - TOP - BOTTOM);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n\
         <text class=\"ink title\" x=\"{LEFT}\" y=\"24\">{title}</text>\n",
        title = escaped(title),
    );
    // Writing to a string does not fail.
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    for loss in losses.ticks() {
        let at = y(loss);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\"/>\
             <text class=\"ink\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            at + 4.5,
            losses.label(loss)
        );
    }
    for step in steps.ticks() {
        let at = x(step);
        let _ = writeln!(
            svg,
            "<line class=\"axis\" x1=\"{at:.1}\" y1=\"{bottom}\" x2=\"{at:.1}\" y2=\"{}\"/>\
             <text class=\"ink\" x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            bottom + 5.0,
            bottom + 20.0,
            steps.label(step)
        );
    }
    let middle = (TOP + bottom) / 2.0;
    let _ = writeln!(
        svg,
        "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{right}\" y2=\"{bottom}\"/>\n\
         <text class=\"ink\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">steps of the optimizer</text>\n\
         <text class=\"ink\" x=\"18\" y=\"{middle}\" text-anchor=\"middle\" \
         transform=\"rotate(-90 18 {middle})\">loss (nats a token)</text>",
        (LEFT + right) / 2.0,
        HEIGHT - 10.0,
    );
    let line = |class: &str, points: &[(f64, f64)]| {
        let points: Vec<String> = points
            .iter()
            .map(|(step, loss)| format!("{:.1},{:.1}", x(*step), y(*loss)))
            .collect();
        format!(
            "<polyline class=\"{class}\" fill=\"none\" stroke-width=\"1.5\" points=\"{}\"/>\n",
            points.join(" ")
        )
    };
    svg += &line("train", &thinned(&train));
    if !eval.is_empty() {
        svg += &line("eval", &eval);
    }
    for (step, loss) in &eval {
        let _ = writeln!(
            svg,
            "<circle class=\"eval\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/>",
            x(*step),
            y(*loss)
        );
    }
    svg += &legend(&train, &eval);
    svg.push_str("</svg>\n");
    svg
}

/// Which line is which, with the last value of each.
fn legend(train: &[(f64, f64)], eval: &[(f64, f64)]) -> String {
    let entries = [("train", "training", train), ("eval", "evaluation", eval)];
    let mut svg = String::new();
    let mut at = WIDTH - RIGHT;
    for (class, name, points) in entries.iter().rev() {
        let Some((_, last)) = points.last() else {
            continue;
        };
        let _ = writeln!(
            svg,
            "<text class=\"ink\" x=\"{at}\" y=\"24\" text-anchor=\"end\">{name} {last:.3}</text>\
             <line class=\"{class}\" stroke-width=\"3\" x1=\"{}\" y1=\"20\" x2=\"{}\" y2=\"20\"/>",
            at - 138.0,
            at - 120.0
        );
        at -= 155.0;
    }
    svg
}

/// The lowest and the highest point of each group of neighbours, so that no spike is lost.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= DRAWN {
        return points.to_vec();
    }
    let group = points.len().div_ceil(DRAWN / 2);
    let mut thinned = Vec::with_capacity(DRAWN + 2);
    for group in points.chunks(group) {
        let by_loss = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let lowest = group.iter().min_by(by_loss);
        let highest = group.iter().max_by(by_loss);
        let mut pair: Vec<_> = lowest.into_iter().chain(highest).copied().collect();
        pair.sort_by(|a, b| a.0.total_cmp(&b.0));
        pair.dedup();
        thinned.extend(pair);
    }
    thinned
}

/// An axis from one round number to another.
struct Axis {
    start: f64,
    end: f64,
    tick: f64,
}

impl Axis {
    /// An axis that ends at the values themselves.
    fn new(start: f64, end: f64) -> Self {
        let tick = round_step((end - start) / 6.0).max(1.0);
        Self { start, end, tick }
    }

    /// An axis around values, that ends at ticks.
    fn around(values: impl Iterator<Item = f64>) -> Self {
        let bounds = values.fold(None, |bounds: Option<(f64, f64)>, value| {
            let (low, high) = bounds.unwrap_or((value, value));
            Some((low.min(value), high.max(value)))
        });
        let (low, high) = bounds.unwrap_or((0.0, 1.0));
        let tick = round_step(((high - low) / 5.0).max(high.abs() * 1e-6).max(1e-9));
        let (start, end) = ((low / tick).floor() * tick, (high / tick).ceil() * tick);
        let end = if end > start { end } else { start + tick };
        Self { start, end, tick }
    }

    /// Where a value lies, from 0 to 1.
    fn part(&self, value: f64) -> f64 {
        (value - self.start) / (self.end - self.start)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        let first = (self.start / self.tick).ceil();
        let count = ((self.end / self.tick + 1e-9).floor() - first).clamp(0.0, 20.0) as u32;
        (0..=count).map(move |at| (first + f64::from(at)) * self.tick)
    }

    /// A value with as many decimals as ticks need.
    fn label(&self, value: f64) -> String {
        let decimals = (-self.tick.log10().floor()).clamp(0.0, 9.0) as usize;
        format!("{value:.decimals$}")
    }
}

/// 1, 2 or 5 times a power of ten, not below `rough`.
fn round_step(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.log10().floor());
    let times = [1.0, 2.0, 5.0, 10.0].into_iter();
    let mut steps = times.map(|times| times * power);
    steps
        .find(|step| *step >= rough * 0.999_999)
        .unwrap_or(10.0 * power)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(step: u64, loss: f64) -> Point {
        Point {
            step,
            tokens: step,
            learning_rate: 1e-3,
            loss,
            eval_loss: None,
            grad_norm: 1.0,
            tokens_per_second: 1.0,
        }
    }

    #[test]
    fn ticks_are_round_numbers_around_the_values() {
        let axis = Axis::around([2.13, 9.7].into_iter());
        let ticks: Vec<String> = axis.ticks().map(|tick| axis.label(tick)).collect();
        assert_eq!(ticks, ["2", "4", "6", "8", "10"]);
        let axis = Axis::around([0.5, 0.61].into_iter());
        let ticks: Vec<String> = axis.ticks().map(|tick| axis.label(tick)).collect();
        assert_eq!(ticks, ["0.50", "0.55", "0.60", "0.65"]);
    }

    #[test]
    fn steps_end_where_the_training_is() {
        let axis = Axis::new(0.0, 1234.0);
        let ticks: Vec<String> = axis.ticks().map(|tick| axis.label(tick)).collect();
        assert_eq!(ticks, ["0", "500", "1000"]);
        assert_eq!(axis.part(1234.0), 1.0);
    }

    #[test]
    fn a_long_training_keeps_its_spikes() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|at| (f64::from(at), 1.0)).collect();
        points[54_321].1 = 99.0;
        let thinned = thinned(&points);
        assert!(thinned.len() <= DRAWN + 2);
        assert!(thinned.contains(&(54_321.0, 99.0)));
        assert!(thinned.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn odd_curves_make_no_odd_numbers() {
        let curves = [
            vec![],
            vec![point(1, 2.0)],
            vec![point(1, 2.0), point(2, 2.0)],
            vec![point(1, f64::NAN), point(2, f64::INFINITY), point(3, 1.0)],
            vec![point(1, 0.0), point(2, 0.0)],
            vec![point(1, 1e30), point(2, -1e-30)],
        ];
        for curve in curves {
            let svg = svg(&curve, "t");
            let drawing = svg.split("</style>").nth(1).unwrap();
            assert!(
                !drawing.contains("NaN") && !drawing.contains("inf"),
                "{svg}"
            );
        }
    }
}
