//! Pages of hostile images and of large ones. A browser opens pages in `integration/`.

use serde_json::{Value, json};

use super::*;
use crate::image::inventory::{Configuration, LayerContents, SizedPath, Waste, WastedBy, WastedPath};
use crate::job::metrics::{Change, Growth, GrowthSince};
use crate::job::packages::{PackageDifference, PackageUpgrade};
use crate::net::ImageId;

/// What ends a script element, or begins another, in any text of an image.
const HOSTILE: &str = "</script><img src=x onerror=alert(1)><!--<script>\u{2028}&amp;{{script}}";

fn inventory(hostile: &str) -> Inventory {
    let text = || hostile.to_owned();
    let layer = LayerContents { diff_id: text(), step: text(), size: 9, files: 2, visible: 3, wasted: 6 };
    let path = WastedPath { path: text(), bytes: 6, by: WastedBy::Deleted, layer: 1 };
    Inventory {
        image_id: ImageId::of(b"image"),
        names: vec![text()],
        configuration: Configuration { user: Some(text()), labels: vec![text()], ..Configuration::default() },
        size: 9,
        layers: vec![layer],
        files: 1,
        file_bytes: 3,
        largest_files: vec![SizedPath { path: text(), size: 3 }],
        largest_directories: Vec::new(),
        wasted: Waste { bytes: 6, efficiency: 33, paths: vec![path] },
        packages: None,
    }
}

fn page(hostile: &str, tree: SizeTree) -> ReportPage {
    let survey = Survey { inventory: inventory(hostile), tree, packages: Ok(None) };
    let mut page = ReportPage::of(hostile.to_owned(), survey);
    let change = Change { step: hostile.to_owned(), before: None, now: Some(3) };
    let growth = Growth { before: 1, now: 3, changes: vec![change] };
    let upgrade = PackageUpgrade { name: hostile.to_owned(), before: "1".to_owned(), now: "2".to_owned() };
    let packages = PackageDifference { upgraded: vec![upgrade; 10_000], ..PackageDifference::default() };
    page.change = Some(PageChange::of(&GrowthSince { growth, whose: hostile.to_owned(), packages: Some(packages) }));
    page.provenance = vec![Fact::new("Task", hostile)];
    page
}

/// The JSON that a browser would hand to the script.
fn data(html: &str) -> Value {
    let (_, data) = html.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    let (data, _) = data.split_once("</script>").unwrap();
    assert!(!data.contains(['<', '>', '&', '\u{2028}']), "{data}");
    serde_json::from_str(data).unwrap()
}

#[test]
fn no_text_of_an_image_leaves_its_place() {
    let leaf = SizeTree { name: HOSTILE.to_owned(), size: 3, ..SizeTree::default() };
    let tree = SizeTree { size: 3, files: Some(1), children: vec![leaf], ..SizeTree::default() };
    let html = page(HOSTILE, tree).html().unwrap();
    assert!(!html.contains("<img") && !html.contains("onerror=alert(1)>"));
    assert_eq!(html.matches("<script").count(), 2, "the data and the script");
    let data = data(&html);
    for place in ["/title", "/tree/children/0/name", "/inventory/layers/0/step", "/change/steps/0/step"] {
        assert_eq!(data.pointer(place), Some(&json!(HOSTILE)), "{place}");
    }
    let packages = &data["change"]["packages"];
    assert_eq!((&packages["upgraded"], &packages["listed"][0][0]), (&json!(10_000), &json!(escaped(HOSTILE))));
    assert!((100..10_000).contains(&packages["listed"].as_array().unwrap().len()), "as many as there is room for");
    let waste = data.pointer("/warnings/0").unwrap();
    assert_eq!(waste, "6 B are wasted, 67% of all bytes in files");
}

#[test]
fn the_policy_allows_the_pages_own_script_and_style_only() {
    let html = page("x", SizeTree::default()).html().unwrap();
    let (_, policy) = html.split_once("Content-Security-Policy\" content=\"").unwrap();
    let (policy, _) = policy.split_once('"').unwrap();
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    for (tag, directive) in [("<script>", "script-src"), ("<style>", "style-src")] {
        let (_, text) = html.split_once(tag).unwrap();
        let (text, _) = text.split_once("</").unwrap();
        let expected = format!("{directive} 'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
        assert!(policy.contains(&expected), "{policy}");
    }
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(!html.contains("style=\"") && !html.contains("onclick="), "the policy forbids these");
    assert!(!html.contains("{{"), "a placeholder is left");
}

#[test]
fn lists_of_packages_and_labels_are_cut_and_say_so() {
    let name = |number: usize| format!("package-{number}{}", "<".repeat(40));
    let all = (0..20_000).map(|number| [name(number), "1.2.3-4+deb12u1".to_owned(), "dpkg".to_owned()]);
    let few = rows(all, MOST_PACKAGES);
    assert!((1000..5000).contains(&few.len()), "{}", few.len());
    assert!(in_html(&serde_json::to_string(&few).unwrap()).len() <= MOST_PACKAGES);
    let mut long = inventory(&"x".repeat(100_000));
    long.configuration.labels = vec!["label".to_owned(); 5000];
    shorten(&mut long);
    assert_eq!((long.configuration.labels.len(), long.names[0].chars().count()), (100, 501));
    let mut page = page("x", SizeTree::default());
    page.warnings = vec!["x".repeat(LARGEST)];
    assert!(matches!(page.html(), Err(PageError::TooLarge(_))));
}
