//! The report of an image: what a run publishes, and what a browser makes of a page, of hostile names too, at the widths of a telephone
//! and of a desk.

use serde_json::{Value, json};

use crate::harness::archive::Archive;
use crate::harness::browser::{Browser, Served, serve};
use crate::harness::{Job, Repository, path, program};

const REPORT: &str = "public/image-build/report.html";

const HOSTILE: &str = "usr/lib/<img src=x onerror=alert(1)>";

const STATUS: &str = "Package: base-files\nStatus: install ok installed\nVersion: 12.4\nArchitecture: amd64\n\n\
                      Package: libc6\nStatus: install ok installed\nVersion: 2.36-9\nArchitecture: amd64\n";

/// The facts in a page.
fn data(page: &str) -> Value {
    let (_, data) = page.split_once("id=\"data\">").expect("its data");
    serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap()
}

/// The page of an image with hostile names, made by `inspect --html`.
fn hostile_page() -> String {
    let mut image = Archive::new("report-page");
    image.add_layer(HOSTILE, &vec![1; 400_000]);
    image.add_layer("usr/share/doc/copyright", &vec![2; 300_000]);
    image.add_layer("usr/share/</script><script>alert(2)</script>", &vec![3; 90_000]);
    image.add_layer("var/lib/dpkg/status", STATUS.as_bytes());
    let folder = tempfile::tempdir().unwrap();
    let (archive, page) = (folder.path().join("image.tar"), folder.path().join("report.html"));
    std::fs::write(&archive, image.sound("report-page:1")).unwrap();
    program(["inspect", "--html", path(&page), path(&archive)], []).finish().assert_succeeds();
    std::fs::read_to_string(page).unwrap()
}

fn crumbs(browser: &mut Browser) -> Value {
    browser.value("[...document.querySelectorAll('nav li')].map(item => item.textContent)")
}

fn names(browser: &mut Browser) -> Value {
    browser.value("[...document.querySelectorAll('.treemap > *')].map(cell => cell.title.split(': ')[0])")
}

/// Asserts that the page is drawn, asks for nothing, and has nothing to complain of.
fn assert_sound(browser: &mut Browser, served: &Served, width: u32) {
    let wide = browser.value("document.documentElement.scrollWidth");
    assert!(wide.as_u64().unwrap() <= u64::from(width), "wider than the window: {wide}");
    let is_page = |url: &String| *url == served.url || url.starts_with("data:");
    let requests = browser.requests();
    assert!(!requests.is_empty() && requests.iter().all(is_page), "{requests:?}");
    assert_eq!(served.asked(), ["/report.html"]);
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_browser_draws_the_page_and_the_keyboard_leads_through_it() {
    let Some(mut browser) = Browser::start() else { return };
    let served = serve(hostile_page());
    let mut backgrounds = Vec::new();
    for (width, is_dark) in [(1280, false), (400, true)] {
        browser.open(&served.url, width, is_dark);
        assert_eq!(crumbs(&mut browser), json!(["all files"]));
        assert_eq!(names(&mut browser), json!(["bin", "usr", "2 other files"]));
        assert_eq!(browser.value("document.title"), "report-page:1");
        let warned = browser.value("document.querySelectorAll('h2').length");
        assert_eq!(warned, 6, "sizes, layers, waste, packages, provenance, configuration");
        backgrounds.push(browser.value("getComputedStyle(document.body).backgroundColor"));

        // By the keyboard into /usr, into /usr/share, and one up.
        browser.value("[...document.querySelectorAll('button.cell')].find(it => it.title.startsWith('usr:')).focus()");
        browser.press("Enter", 13);
        assert_eq!(crumbs(&mut browser), json!(["all files", "usr"]));
        assert_eq!(names(&mut browser), json!(["lib", "share"]));
        assert_eq!(browser.value("location.hash"), "#/usr");
        browser
            .value("[...document.querySelectorAll('button.cell')].find(it => it.title.startsWith('share:')).focus()");
        browser.press("Enter", 13);
        assert_eq!(crumbs(&mut browser), json!(["all files", "usr", "share"]));
        browser.value("document.querySelector('button.cell').focus()");
        browser.press("Escape", 27);
        assert_eq!(crumbs(&mut browser), json!(["all files", "usr"]));
        // The table has the same, and leads too.
        let row = browser.value("[...document.querySelectorAll('#sizes tbody tr')].map(row => row.textContent)[1]");
        assert!(row.as_str().unwrap().starts_with("share/380.86 KiB"), "{row}");
        browser.value("document.querySelector('#sizes tbody button').click()");
        assert_eq!(crumbs(&mut browser), json!(["all files", "usr", "lib"]));
        assert_eq!(names(&mut browser), json!(["<img src=x onerror=alert(1)>"]), "a name is text");
        assert_eq!(browser.value("document.images.length"), 0);
        browser.value("document.querySelector('nav button').click()");
        assert_eq!(crumbs(&mut browser), json!(["all files"]));

        browser.value("filter.value = 'LIBC'; filter.dispatchEvent(new Event('input'))");
        let found = browser.value("[...document.querySelectorAll('#packages tbody tr')].map(row => row.textContent)");
        assert_eq!(found, json!(["libc62.36-9dpkg"]));
        assert_sound(&mut browser, &served, width);
    }
    assert_ne!(backgrounds[0], backgrounds[1], "dark is another scheme");

    // A link into a directory, and one into nowhere.
    browser.open(&format!("{}#/usr/share", served.url), 1280, false);
    assert_eq!(crumbs(&mut browser), json!(["all files", "usr", "share"]));
    browser.open(&format!("{}#/usr/nothing/%zz", served.url), 1280, false);
    assert_eq!(crumbs(&mut browser), json!(["all files"]));
    browser.value("location.hash = '#/usr/nothing'; new Promise(done => setTimeout(done))");
    assert_eq!(crumbs(&mut browser), json!(["all files", "usr"]));
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_run_publishes_the_report_of_its_image() {
    let steps = "RUN dd if=/dev/zero of=/made bs=1048576 count=2\nRUN rm /made\n";
    let Some(job) = Job::ready("report-run", steps) else { return };
    job.run().assert_succeeds();
    let (task, root_url) = (&job.claim.task_id, job.taskcluster.root_url());
    let page = String::from_utf8(job.taskcluster.artifact_bytes(task, 0, REPORT).expect("the report")).unwrap();
    let shown = data(&page);
    assert_eq!(shown["title"], "report-run for mozilla-central");
    let entry = job.taskcluster.index_entry(&job.routes()[2]).unwrap()["data"].clone();
    assert_eq!(shown["inventory"]["imageId"], entry["imageId"]);
    let layers = shown["inventory"]["layers"].as_array().unwrap();
    let made = layers.iter().find(|layer| layer["step"].as_str().unwrap().contains("count=2")).unwrap();
    assert_eq!((&made["wasted"], &made["visible"]), (&json!(2 << 20), &json!(0)));
    let facts = shown["provenance"].as_array().unwrap();
    let fact = |name: &str| facts.iter().find(|fact| fact["name"] == name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(fact("Task")["link"], format!("{root_url}/tasks/{task}/runs/0"));
    assert!(fact("Context hash")["value"].as_str().unwrap().starts_with(&job.hash), "{facts:?}");
    assert!(fact("Archive")["value"].as_str().unwrap().contains(entry["sha256"].as_str().unwrap()), "{facts:?}");
    let stages = shown["time"]["stages"].as_array().unwrap();
    let began = |name: &str| stages.iter().find(|stage| stage["name"] == name).unwrap()["began"].as_f64().unwrap();
    assert!(began("looking the image up") < began("building"));
    assert!(began("building") < began("exporting the image"));
    assert_eq!(shown["change"], Value::Null, "there is no image before it");
    job.assert_engine_is_clean();

    let Some(mut browser) = Browser::start() else { return };
    let served = serve(page);
    browser.open(&served.url, 1280, true);
    let stages_shown = browser.value("document.querySelectorAll('#time tbody tr').length");
    assert_eq!(stages_shown, stages.len());
    assert_sound(&mut browser, &served, 1280);
}

/// A step that installs these packages, as far as a list of packages sees.
fn installs(packages: &[(&str, &str)]) -> String {
    let status = packages.iter().map(|(name, version)| {
        format!("Package: {name}\\nStatus: install ok installed\\nVersion: {version}\\nArchitecture: amd64\\n\\n")
    });
    format!("RUN mkdir -p /var/lib/dpkg && printf '{}' > /var/lib/dpkg/status\n", status.collect::<String>())
}

#[test]
fn a_report_lists_the_packages_that_differ_from_the_previous_image() {
    let Some(first) = Job::ready("report-packages", &installs(&[("kept", "1"), ("gone", "1"), ("curl", "7.88")]))
    else {
        return;
    };
    first.run().assert_succeeds();
    let repository = Repository::new(&first.name, &installs(&[("kept", "1"), ("curl", "8.5"), ("new", "2")]));
    let second = Job::on(first.taskcluster, &repository);
    let finished = second.run_with(vec![("PUSHDATE", "20151210000000")]);
    finished.assert_succeeds();
    assert!(finished.stderr.contains("packages: 1 added, 1 removed, 1 upgraded\n"), "{}", finished.stderr);
    let page = second.taskcluster.artifact_bytes(&second.claim.task_id, 0, REPORT).expect("the report");
    let page = String::from_utf8(page).unwrap();
    let listed = json!([["curl", "7.88", "8.5"], ["new", "", "2"], ["gone", "1", ""]]);
    let expected = json!({ "added": 1, "removed": 1, "upgraded": 1, "listed": listed });
    assert_eq!(data(&page)["change"]["packages"], expected);
    second.assert_engine_is_clean();

    let Some(mut browser) = Browser::start() else { return };
    let served = serve(page);
    browser.open(&served.url, 400, false);
    let rows = "[...document.querySelectorAll('[aria-label=\"Changed packages\"] tbody tr')].map(row => row.innerText)";
    assert_eq!(browser.value(rows), json!(["curl\t7.88\t8.5", "new\t–\t2", "gone\t1\t–"]));
    assert_sound(&mut browser, &served, 400);
}
