//! An explanation as it is shown. How it is found is tested against a deployment, in integration/commands/why.rs.

use super::compare::{
    ArchitectureChange, ArgumentChange, Explanation, FileChange, FileChangeKind, FileFacts, ParentChange, SideHashes,
};
use super::side::Parent;
use crate::context::{ContextHash, ContextScheme};
use crate::net::Digest;

fn hash(text: &str) -> ContextHash {
    ContextHash(Digest::of(text.as_bytes()))
}

fn side(what: &str, index: &str, context: &str) -> SideHashes {
    let (hash, context_hash) = (Some(hash(index)), hash(context));
    SideHashes { what: what.to_owned(), task_id: None, hash, context_hash, scheme: ContextScheme::Tar }
}

fn facts(mode: &str, size: u64) -> FileFacts {
    FileFacts { kind: "file", mode: mode.to_owned(), size: Some(size), sha256: None, target: None }
}

#[test]
fn an_explanation_says_what_differs_and_escapes_it() {
    let file = |name: &str, change, before, after| FileChange {
        name: name.to_owned(),
        change,
        before,
        after,
        from: None,
        diff: None,
        more: 0,
    };
    let parent = |hash_of: &str| Parent {
        image: Some("base".parse().unwrap()),
        hash: Some(hash(hash_of)),
        task_id: (hash_of == "old").then(|| "fN1SbArXTPSVFNUvaOlinQ".parse().unwrap()),
    };
    let explanation = Explanation {
        image: "builder".parse().unwrap(),
        same: false,
        before: side("task X", "a", "a"),
        after: side("the checkout", "b", "c"),
        files: vec![
            FileChange {
                diff: Some(vec!["@@ -1 +1 @@".to_owned(), "-a\u{1b}[2K".to_owned(), "+b".to_owned()]),
                more: 7,
                ..file("Dockerfile", FileChangeKind::Changed, Some(facts("644", 10)), Some(facts("644", 2048)))
            },
            FileChange {
                from: Some("python/x.py".to_owned()),
                ..file("topsrcdir/python/x.py", FileChangeKind::Added, None, Some(facts("644", 3)))
            },
            file("evil\u{202e}", FileChangeKind::Removed, Some(facts("644", 3)), None),
            file("run.sh", FileChangeKind::Mode, Some(facts("644", 3)), Some(facts("755", 3))),
        ],
        arguments: vec![ArgumentChange { name: "V".to_owned(), before: Some("1\n".to_owned()), after: None }],
        parent: Some(ParentChange { before: Some(parent("old")), after: Some(parent("new")) }),
        architecture: Some(ArchitectureChange { before: None, after: Some("arm64".to_owned()) }),
        notes: vec!["a note".to_owned()],
    };
    let (a, b) = (hash("a"), hash("b"));
    let short = |text: &str| hash(text).to_string()[..12].to_owned();
    let (context, old, new) = (short("c"), short("old"), short("new"));
    let expected = format!(
        "\
builder: the hash has changed
  before  {a}, task X
  after   {b}, the checkout; context {context}
changed: Dockerfile (2.00 KiB, mode 644; was 10 B, mode 644)
    @@ -1 +1 @@
    -a\\u{{1b}}[2K
    +b
    … 7 more lines
added: topsrcdir/python/x.py (3 B, mode 644), included from python/x.py
removed: evil\\u{{202e}} (3 B, mode 644)
mode: run.sh, 755 (was 644)
argument V: gone (was \"1\\n\")
parent base of hash {new} (was base of hash {old}, task fN1SbArXTPSVFNUvaOlinQ); `image-worker why base --task-id fN1SbArXTPSVFNUvaOlinQ` says why
architecture: arm64 (was amd64, by default)
note: a note"
    );
    assert_eq!(explanation.to_string(), expected);
}
