//! A history as one page for a browser: no script, no request, and everything from outside is escaped. It follows the browser's
//! light or dark scheme, and each drawing has its numbers in the table.

use super::change::Cause;
use super::display::{COLUMNS, NUMBERS};
use super::markup::markup;
use super::plot::{Plot, Point};
use super::{History, Push};
use crate::report::Bytes;

/// Nothing may be loaded: a browser refuses what would slip in.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

const STYLE: &str = "\
:root { color-scheme: light dark; --line: #0b57d0; --grid: #c8c8c8; --soft: #5f6368; }
@media (prefers-color-scheme: dark) { :root { --line: #8ab4f8; --grid: #4a4a4a; --soft: #a8adb3; } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
figure { margin: 1.5rem 0; }
figcaption { font-weight: 600; }
figure > div { overflow-x: auto; }
svg { display: block; width: 100%; min-width: 52rem; height: auto; }
svg text { fill: var(--soft); font-size: 12px; }
svg .value { text-anchor: end; }
svg .date { text-anchor: middle; }
svg .grid { stroke: var(--grid); stroke-width: 1; }
svg polyline { fill: none; stroke: var(--line); stroke-width: 2; }
svg circle { fill: var(--line); }
svg a:focus circle, svg a:hover circle { stroke: currentColor; stroke-width: 3; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
#pushes { color: var(--soft); }
th, td { text-align: start; padding: 0.25rem 0.75rem 0.25rem 0; border-bottom: 1px solid var(--grid); white-space: nowrap; }
td:last-child { white-space: normal; min-width: 16rem; }
tr:target { outline: 2px solid var(--line); }
.number { text-align: end; }
.same { color: var(--soft); }
";

/// The page.
pub(super) fn page(history: &History) -> String {
    let title = markup(&format!("{} for {}", history.image, history.project));
    let drawings: String = [sizes(history), seconds(history)].into_iter().flatten().collect();
    let head = COLUMNS.iter().enumerate().map(|(number, column)| {
        let class = if NUMBERS.contains(&number) { " class=\"number\"" } else { "" };
        format!("<th scope=\"col\"{class}>{}</th>", markup(column))
    });
    let head: Vec<_> = head.collect();
    let rows: String = history.pushes.iter().map(|push| row(history, push)).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n<p>{}</p>\n{drawings}<p id=\"pushes\">The pushes, the newest first. The date leads to the task that has the image.</p>\n<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-labelledby=\"pushes\">\n<table aria-labelledby=\"pushes\">\n<thead>\n<tr>{}</tr>\n</thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n</main>\n</body>\n</html>\n",
        markup(&history.headline()),
        head.concat(),
    )
}

fn sizes(history: &History) -> Option<String> {
    #[expect(clippy::cast_precision_loss, reason = "a drawing is not that exact")]
    let size = |push: &Push| push.build.size.map(|size| size as f64);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between sizes, which are whole numbers"
    )]
    let text = |value: f64| Bytes(value as u64).to_string();
    figure(history, "size", "Size of the image, unpacked", text, size)
}

fn seconds(history: &History) -> Option<String> {
    // The others built nothing.
    let seconds = |push: &Push| push.build.seconds.filter(|_| push.built);
    figure(history, "seconds", "Seconds of the runs that built it", |value| format!("{value:.1} s"), seconds)
}

fn figure(
    history: &History,
    id: &str,
    title: &str,
    text: fn(f64) -> String,
    value: impl Fn(&Push) -> Option<f64>,
) -> Option<String> {
    let oldest_first = history.pushes.iter().rev().enumerate();
    let point = |(number, push): (usize, &Push)| {
        let date = push.date.strftime("%Y-%m-%d").to_string();
        Some(Point { number, date, row: anchor(push), value: value(push)? })
    };
    let plot = Plot { id, title, text, points: oldest_first.filter_map(point).collect() };
    let svg = plot.svg(history.pushes.len())?;
    Some(format!("<figure>\n<figcaption>{}</figcaption>\n<div>{svg}</div>\n</figure>\n", markup(title)))
}

/// The id of a push's row.
fn anchor(push: &Push) -> String {
    push.date.strftime("push-%Y%m%d%H%M%S").to_string()
}

fn row(history: &History, push: &Push) -> String {
    let same = push.change.as_ref().is_some_and(|change| change.cause == Cause::Reused);
    let class = if same { " class=\"same\"" } else { "" };
    let [date, revision, cells @ ..] = push.row();
    let [size, difference, layers, packages, seconds, changed] = cells.map(|cell| markup(&cell));
    let link = markup(&format!("{}/tasks/{}", history.root_url, push.task_id));
    let (time, whole) = (markup(&push.date.to_string()), markup(push.build.revision.as_deref().unwrap_or_default()));
    let (date, revision) = (markup(&date), markup(&revision));
    let numbers: Vec<_> = [size, difference, layers, packages, seconds]
        .iter()
        .map(|number| format!("<td class=\"number\">{number}</td>"))
        .collect();
    format!(
        "<tr id=\"{}\"{class}><th scope=\"row\"><a href=\"{link}\"><time datetime=\"{time}\">{date}</time></a></th><td title=\"{whole}\">{revision}</td>{}<td>{changed}</td></tr>\n",
        anchor(push),
        numbers.concat(),
    )
}
