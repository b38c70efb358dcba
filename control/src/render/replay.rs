//! What a policy would have done: a table and a picture.

use std::fmt::Write as _;

use weir_autoscaler::UnixMs;
use weir_autoscaler::replay::Report;

use super::{Screen, add, finish, paint, single_line, table, time};

/// Columns of the picture where the screen does not say, and rows at most.
const COLUMNS: u16 = 100;
const ROWS_MAX: u32 = 20;

/// Decisions that are listed.
const DECISIONS_MAX: usize = 50;

fn seconds(at: UnixMs) -> f64 {
    at.0 as f64 / 1000.0
}

/// The sums, the picture, the decisions.
pub(crate) fn replay(report: &Report, screen: Screen) -> String {
    let mut sums = table(&[">MACHINE-HOURS", ">VIOLATION MINUTES", ">OUT", ">IN", ">LEAST", ">MOST"], screen);
    add(
        &mut sums,
        [
            format!("{:.1}", report.machine_hours),
            format!("{:.1}", report.violation_minutes),
            report.outs.to_string(),
            report.ins.to_string(),
            if report.least == u32::MAX { "-".into() } else { report.least.to_string() },
            report.most.to_string(),
        ],
    );
    let mut decisions = table(&["TIME", ">FROM", ">TO", "WHY"], screen);
    for (at, from, to, why) in report.decisions.iter().take(DECISIONS_MAX) {
        add(&mut decisions, [time(seconds(*at)), from.to_string(), to.to_string(), single_line(why)]);
    }
    let more = report.decisions.len().saturating_sub(DECISIONS_MAX);
    let more = if more > 0 { format!("and {more} more; --json has all\n") } else { String::new() };
    let left_out = report.left_out.iter().map(|policy| format!("left out, the table has no data for it: {policy}\n")).collect::<String>();
    format!("{}{left_out}\n{}\n{}{more}", finish(&sums, screen), paint(picture(report, screen), screen), finish(&decisions, screen))
}

/// Machines over time, a column for each share of it.
fn picture(report: &Report, screen: Screen) -> String {
    let columns = u64::from(screen.width.unwrap_or(COLUMNS).saturating_sub(8).max(10));
    let (begin, end) = report.span;
    let span = end.0.saturating_sub(begin.0).max(1);
    let at = |column: u64| report.serving_at(UnixMs(begin.0 + span * column / columns));
    let each = report.most.div_ceil(ROWS_MAX).max(1);
    let mut text = String::new();
    for row in (1..=report.most.div_ceil(each).max(1)).rev() {
        let level = row * each;
        let _ = write!(text, "{level:>5} |");
        (0..columns).for_each(|column| text.push(if at(column) + each > level { '#' } else { ' ' }));
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    let _ = writeln!(text, "      +{}", "-".repeat(columns as usize));
    let _ = writeln!(text, "       {} to {}", time(seconds(begin)), time(seconds(end)));
    text
}

/// The same as a drawing: serving machines as an area, wanted ones as a line.
pub(crate) fn replay_svg(report: &Report) -> String {
    let (width, height) = (1000.0, 300.0);
    let (begin, end) = report.span;
    let span = end.0.saturating_sub(begin.0).max(1) as f64;
    let top = f64::from(report.machines.iter().map(|(_, serving, desired)| *serving.max(desired)).max().unwrap_or(1).max(1));
    let x = |at: UnixMs| at.0.saturating_sub(begin.0) as f64 / span * width;
    let y = |machines: u32| height - f64::from(machines) / top * (height - 10.0);
    let path = |value: &dyn Fn(&(UnixMs, u32, u32)) -> u32| {
        let mut path = String::new();
        let mut before = None;
        for point in &report.machines {
            let (px, py) = (x(point.0), y(value(point)));
            if let Some(before) = before {
                let _ = write!(path, "L{px:.1},{before:.1} ");
            }
            let _ = write!(path, "{}{px:.1},{py:.1} ", if before.is_none() { 'M' } else { 'L' });
            before = Some(py);
        }
        let _ = write!(path, "L{width:.1},{:.1}", before.unwrap_or(height));
        path
    };
    let (serving, desired) = (path(&|point| point.1), path(&|point| point.2));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <path d=\"{serving} L{width:.1},{height:.1} L0,{height:.1} Z\" fill=\"#9cc4e4\"/>\n\
         <path d=\"{desired}\" fill=\"none\" stroke=\"#1b325f\"/>\n\
         <text x=\"4\" y=\"14\">{top} machines; {:.1} machine-hours, {:.1} violation minutes, {} out, {} in</text>\n\
         <text x=\"4\" y=\"{}\">{} to {}</text>\n</svg>\n",
        height + 20.0,
        report.machine_hours,
        report.violation_minutes,
        report.outs,
        report.ins,
        height + 14.0,
        time(seconds(begin)),
        time(seconds(end)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_is_drawn() {
        let at = |minute: u64| UnixMs(1_700_000_000_000 + minute * 60_000);
        let report = Report {
            machines: vec![(at(0), 2, 2), (at(30), 2, 4), (at(31), 4, 4)],
            violation_minutes: 1.0,
            machine_hours: 3.0,
            outs: 1,
            ins: 0,
            most: 4,
            least: 2,
            decisions: vec![(at(30), 2, 4, "4 are wished".into())],
            left_out: vec!["alarm busy: cpu".into()],
            span: (at(0), at(60)),
        };
        let text = replay(&report, Screen { width: Some(108), color: false });
        let (four, two) = (format!("4 |{}{}\n", " ".repeat(52), "#".repeat(48)), format!("2 |{}\n", "#".repeat(100)));
        for part in [&*four, &*two, "4 are wished", "MACHINE-HOURS", "no data for it: alarm busy"] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        let svg = replay_svg(&report);
        assert!(svg.starts_with("<svg") && svg.contains("4 machines; 3.0 machine-hours"), "{svg}");
        assert!(replay(&Report::default(), Screen { width: None, color: false }).contains("MACHINE-HOURS"));
    }
}
