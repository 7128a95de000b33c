//! A history as it is shown. How it is read is tested against a deployment, in integration/commands/history.rs.

use super::build::BuildFacts;
use super::change::{Cause, PackageChanges};
use super::*;

fn push(day: u32, size: Option<u64>, cause: Option<Cause>) -> Push {
    let facts = BuildFacts {
        revision: Some("0123456789abcdef0123".to_owned()),
        size,
        layers: size.map(|_| 3),
        packages: size.map(|_| 312),
        seconds: Some(104.7),
        ..BuildFacts::default()
    };
    let packages = Some(PackageChanges { added: 3, removed: 1, upgraded: 2 });
    Push {
        date: format!("2015-12-{day:02}T12:34:56Z").parse().unwrap(),
        route: "index.x".to_owned(),
        task_id: "fN1SbArXTPSVFNUvaOlinQ".parse().unwrap(),
        run_id: Some(0),
        built: cause != Some(Cause::Reused),
        context_hash: None,
        archive_size: None,
        build: facts,
        change: cause.map(|cause| Change { cause, size: Some(1 << 20), layers: Some(-1), packages }),
    }
}

fn of(pushes: Vec<Push>) -> History {
    let root_url = "https://tc.example.com".to_owned();
    History { image: "builder".parse().unwrap(), project: "try".parse().unwrap(), root_url, pushes, more: true }
}

#[test]
fn a_table_has_a_line_for_each_push() {
    let history = of(vec![
        push(11, Some(4 << 20), Some(Cause::Reused)),
        push(10, Some(4 << 20), Some(Cause::Context)),
        push(9, None, None),
    ]);
    let expected = "\
builder for try: 3 pushes, the newest of more, 2 of which built it
sizes   ▁▁  all 4.00 MiB

push (UTC)           revision          size  difference  layers  packages  seconds  what changed
2015-12-11 12:34:56                4.00 MiB                   3       312           same image
2015-12-10 12:34:56  0123456789ab  4.00 MiB   +1.00 MiB       3       312    104.7  context; layers -1; packages +3 -1, 2 upgraded
2015-12-09 12:34:56  0123456789ab         ?                   ?         ?    104.7  the first push";
    for columns in [None, Some(130)] {
        assert_eq!(history.text(columns), expected);
    }
    let narrow = "
push (UTC)               size  difference  layers  packages  seconds
    revision  what changed
2015-12-11 12:34:56  4.00 MiB                   3       312
    same image
2015-12-10 12:34:56  4.00 MiB   +1.00 MiB       3       312    104.7
    0123456789ab  context; layers -1; packages +3 -1, 2 upgraded
2015-12-09 12:34:56         ?                   ?         ?    104.7
    0123456789ab  the first push";
    assert!(history.text(Some(80)).ends_with(narrow), "{}", history.text(Some(80)));
}

#[test]
fn a_page_loads_nothing_and_escapes_what_comes_from_outside() {
    let mut hostile = push(10, Some(4 << 20), Some(Cause::Context));
    hostile.build.revision = Some("<b>&\"'\u{202e}\n".to_owned());
    let page = of(vec![push(11, Some(5 << 20), Some(Cause::Reused)), hostile]).page();
    for forbidden in ["<script", "<b>", "\u{202e}", "src=", "@import", "url("] {
        assert!(!page.contains(forbidden), "{forbidden:?}");
    }
    assert!(page.contains("title=\"&lt;b&gt;&amp;&quot;&#39;\\u{202e}\\n\""), "{page}");
    assert_eq!(page.matches("<svg").count(), 1, "a single number of seconds is no line");
    assert!(page.contains("href=\"#push-20151211123456\"") && page.contains("<tr id=\"push-20151211123456\""));
    assert!(page.contains("<a href=\"https://tc.example.com/tasks/fN1SbArXTPSVFNUvaOlinQ\">"));
    assert!(page.contains("default-src &#39;none&#39;") || page.contains("default-src 'none'"));
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("lang=\"en\""));
}
