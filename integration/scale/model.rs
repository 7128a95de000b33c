//! The model of docs/scale.md: how often each kind of run happens in a day and in the worst minute, multiplied with what was
//! counted.

use super::requests::{BUILDS, CHILD, DECIDE, DOCUMENTS, FINDS, Kinds, LOAD, SERVICES, of};

/// How often a kind of run happens.
struct Load {
    kind: &'static str,
    a_day: u64,
    /// Starts in the worst minute. Builds have none: their requests are minutes apart, and those before they build are no more
    /// than those of a start that finds its image.
    worst_minute: u64,
}

/// 1,000 image tasks, 250 pushes, 20,000 consumers a day. In the worst minute ten pushes are decided about, 500 image tasks start, and a
/// tenth of the day's consumers, which have waited for one image.
const MODEL: [Load; 5] = [
    Load { kind: BUILDS, a_day: 400, worst_minute: 0 },
    Load { kind: CHILD, a_day: 400, worst_minute: 0 },
    Load { kind: FINDS, a_day: 200, worst_minute: 500 },
    Load { kind: DECIDE, a_day: 250, worst_minute: 10 },
    Load { kind: LOAD, a_day: 20_000, worst_minute: 2000 },
];

const SECONDS_A_DAY: u64 = 24 * 60 * 60;
/// An image and a context, in bytes.
const IMAGE: u64 = 500 << 20;
const CONTEXT: u64 = 1 << 20;
/// For how many days images are kept: on try, and on a release's branch.
const KEPT: [u64; 2] = [28, 365];

/// The requests of each service.
pub(super) fn requests(kinds: &Kinds) -> Vec<String> {
    let mut lines = vec!["| | a day | in the worst minute |".to_owned(), "| --- | ---: | ---: |".to_owned()];
    for Load { kind, a_day, worst_minute } in &MODEL {
        lines.push(format!("| {kind} | {} times | {} times |", grouped(*a_day), grouped(*worst_minute)));
    }
    for service in SERVICES {
        let sum = |times: &dyn Fn(&Load) -> u64| -> u64 {
            MODEL.iter().map(|load| times(load) * of(kinds, load.kind).of_service(service)).sum()
        };
        let (day, minute) = (sum(&|load| load.a_day), sum(&|load| load.worst_minute));
        lines.push(format!(
            "| **{service}** | {} requests, {} a second | {} requests, {} a second |",
            grouped(day),
            ratio(day, SECONDS_A_DAY),
            grouped(minute),
            ratio(minute, 60)
        ));
    }
    lines
}

/// What is moved and kept.
pub(super) fn bytes(kinds: &Kinds) -> Vec<String> {
    let sum = |count: &dyn Fn(&Load) -> u64| -> u64 { MODEL.iter().map(count).sum() };
    let is_build = |load: &&Load| of(kinds, load.kind).images_up > 0;
    let builds: u64 = MODEL.iter().filter(is_build).map(|load| load.a_day).sum();
    let up = sum(&|load| load.a_day * of(kinds, load.kind).images_up * IMAGE) + builds * DOCUMENTS;
    let is_consumer = |load: &Load| load.kind == LOAD;
    let down = |load: &Load| of(kinds, load.kind).images_down * IMAGE;
    let by_tasks = sum(&|load| if is_consumer(load) { 0 } else { load.a_day * down(load) }) + builds * CONTEXT;
    let by_consumers = sum(&|load| if is_consumer(load) { load.a_day * down(load) } else { 0 });
    let in_minute = sum(&|load| if is_consumer(load) { load.worst_minute * down(load) } else { 0 });
    let rows = |call: &str| sum(&|load| load.a_day * of(kinds, load.kind).of_call(call));
    let mut lines = vec!["| | |".to_owned(), "| --- | ---: |".to_owned()];
    let mut line = |what: &str, value: String| lines.push(format!("| {what} | {value} |"));
    line("uploaded by image tasks", format!("{} a day", size(up)));
    line(
        "downloaded by image tasks: contexts, parents, images of the layer cache",
        format!("{} a day", size(by_tasks)),
    );
    let rates = (by_consumers / SECONDS_A_DAY, in_minute / 60);
    line("downloaded by consumers", format!("{} a day, {} a second", size(by_consumers), size(rates.0)));
    line("downloaded by consumers in the worst minute", format!("{}, {} a second", size(in_minute), size(rates.1)));
    for days in KEPT {
        line(&format!("stored, where images are kept for {days} days"), size(up * days));
    }
    for days in KEPT {
        let (artifacts, entries) = (rows("queue.createArtifact") * days, rows("index.insertTask") * days);
        let rows = format!("{} artifacts, at most {} entries", grouped(artifacts), grouped(entries));
        line(&format!("rows of the queue and the index, kept for {days} days"), rows);
    }
    lines
}

/// `12,345`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let parts: Vec<_> = digits.as_bytes().rchunks(3).rev().map(|part| String::from_utf8_lossy(part)).collect();
    parts.join(",")
}

/// One digit after the point below 100.
fn ratio(number: u64, of: u64) -> String {
    let tenths = number * 10 / of;
    if tenths == 0 {
        "less than 0.1".to_owned()
    } else if tenths < 1000 {
        format!("{}.{}", tenths / 10, tenths % 10)
    } else {
        grouped(tenths / 10)
    }
}

/// Bytes, in the largest unit that gives a number of at least 1.
fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let power = units.iter().enumerate().rposition(|(power, _)| bytes >> (10 * power) > 0).unwrap_or_default();
    format!("{} {}", ratio(bytes, 1 << (10 * power)), units[power])
}
