//! Tests what a rewrite changes and what it keeps, with layers like those of engines, and with random ones.

use std::io::{Read as _, Write as _};

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::*;
use crate::image::layer::{Entry, Kind, Moment};

const EPOCH: u64 = 1_000_000_000;
const LATE: u64 = EPOCH + 77;

/// An entry of a test's layer.
#[derive(Clone, Debug)]
struct Input {
    path: String,
    kind: EntryType,
    data: Vec<u8>,
    link: &'static str,
    mtime: u64,
    user: &'static str,
    mode: u32,
    pax: Vec<(String, Vec<u8>)>,
}

fn input(path: &str, kind: EntryType, mtime: u64) -> Input {
    let mode = if kind == EntryType::Directory { 0o755 } else { 0o644 };
    Input { path: path.into(), kind, data: Vec::new(), link: "", mtime, user: "root", mode, pax: Vec::new() }
}

fn file(path: &str, data: &str, mtime: u64) -> Input {
    Input { data: data.into(), ..input(path, EntryType::Regular, mtime) }
}

fn dir(path: &str) -> Input {
    input(path, EntryType::Directory, LATE)
}

fn tar(entries: &[Input]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for entry in entries {
        if !entry.pax.is_empty() {
            let records = entry.pax.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
            tar.append_pax_extensions(records).unwrap();
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(entry.kind);
        header.set_size(entry.data.len() as u64);
        header.set_mode(entry.mode);
        header.set_mtime(entry.mtime);
        header.set_username(entry.user).unwrap();
        header.set_groupname(entry.user).unwrap();
        if entry.link.is_empty() {
            tar.append_data(&mut header, &entry.path, entry.data.as_slice()).unwrap();
        } else {
            tar.append_link(&mut header, &entry.path, entry.link).unwrap();
        }
    }
    tar.into_inner().unwrap()
}

struct Image {
    file: File,
    config: Vec<u8>,
    layers: Vec<Layer>,
}

impl Image {
    fn new(layers: &[Vec<Input>], mut config: Value) -> Self {
        let mut file = tempfile::tempfile().unwrap();
        let mut position = 0;
        let mut found = Vec::new();
        for entries in layers {
            let bytes = tar(entries);
            let (start, size) = (position, bytes.len() as u64);
            file.write_all(&bytes).unwrap();
            position += size;
            found.push(Layer { diff_id: Digest::of(&bytes), size, pieces: vec![start..position; 1] });
        }
        config["rootfs"] = json!({ "type": "layers", "diff_ids": [] });
        Self { file, config: config.to_string().into(), layers: found }
    }

    fn rewritten(self, base: usize) -> Self {
        let Rewritten { config, layers } = rewritten(&self.file, &self.layers, &self.config, EPOCH, base).unwrap();
        Self { file: self.file, config, layers }
    }

    fn bytes(&self, number: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        ExtentReader::new(&self.file, &self.layers[number].pieces).read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn entries(&self, number: usize) -> Vec<Entry> {
        let mut entries = Vec::new();
        layer::entries(&self.file, &self.layers[number].pieces)
            .each(|entry| {
                entries.push(entry);
                Ok::<_, LayerError>(())
            })
            .unwrap();
        entries
    }

    fn paths(&self, number: usize) -> Vec<String> {
        self.entries(number).into_iter().map(|entry| String::from_utf8(entry.path).unwrap()).collect()
    }

    fn config(&self) -> Value {
        serde_json::from_slice(&self.config).unwrap()
    }
}

/// A history with these steps, each of which made a layer.
fn history(steps: &[&str]) -> Value {
    let steps: Vec<_> = steps.iter().map(|step| json!({ "created_by": step })).collect();
    json!({ "history": steps })
}

fn one(entries: &[Input]) -> Image {
    Image::new(&[entries.to_vec()], json!({})).rewritten(0)
}

#[test]
fn late_times_become_the_epoch_and_early_ones_stay() {
    let pax = |key: &str, value: &str| (key.to_owned(), value.as_bytes().to_vec());
    let late =
        Input { pax: vec![pax("mtime", "1000000000.5"), pax("atime", "1700000000.123")], ..file("b", "x", LATE) };
    let early = Input { pax: vec![pax("mtime", "999999999.5"), pax("uname", "me")], ..file("c", "y", EPOCH - 1) };
    let mixed = Input {
        pax: vec![pax("SCHILY.xattr.user.a", "1\n2"), pax("ctime", "1700000000.1"), pax("uname", "me")],
        ..file("d", "z", LATE)
    };
    let image = one(&[file("a", "", EPOCH - 5), late, early, mixed]);
    let entries = image.entries(0);
    let times: Vec<_> = entries.iter().map(|entry| (entry.mtime.seconds, entry.mtime.nanoseconds)).collect();
    let epoch = EPOCH.cast_signed();
    assert_eq!(times, [(epoch - 5, 0), (epoch, 0), (epoch - 1, 500_000_000), (epoch, 0)]);
    assert!(entries.iter().all(|entry| entry.user.is_empty() && entry.group.is_empty()));
    let extension: Vec<_> = entries.iter().map(|entry| entry.header - entry.start).collect();
    assert_eq!(extension, [0, 0, 1024, 1024], "an extension header that says nothing more is gone");
    assert_eq!(entries[3].xattrs, [(b"user.a".to_vec(), b"1\n2".to_vec())]);
    let text = String::from_utf8_lossy(&image.bytes(0)).into_owned();
    assert!(!text.contains("atime") && !text.contains("ctime") && !text.contains("uname"), "{text}");
}

#[test]
fn two_builds_at_different_times_are_the_same_image() {
    let build = |late: u64, fraction: &str, id: &str| {
        // Image stores give a whiteout another mode, time and link; and some write empty fields, others do not.
        let (mode, link, time) = if late == LATE { (0o600, "a/.wh.b", late) } else { (0, "", 0) };
        let whiteout = Input { link, mode, ..file("etc/.wh.old", "", time) };
        let pax = vec![("mtime".to_owned(), format!("{late}.{fraction}").into_bytes())];
        let layers = [
            vec![file("a", "context", EPOCH - 3)],
            vec![Input { mtime: late, ..dir("etc/") }, whiteout, Input { pax, ..file("etc/new", "n", late) }],
        ];
        let time = |seconds: u64| Timestamp::from_second(i64::try_from(seconds).unwrap()).unwrap().to_string();
        let mut config = json!({
            "created": time(late), "architecture": "amd64", "container": id, "docker_version": "20.10.24",
            "parent": id, "moby.buildkit.cache.v0": late.to_string(),
            "container_config": { "Hostname": id, "Image": id },
            "config": { "Hostname": id, "Domainname": "", "Image": id, "Env": ["A=b"], "Labels": { "io.buildah.version": "1.28" } },
            "history": [
                { "created": time(EPOCH - 9), "created_by": "COPY a /", "comment": "base" },
                { "created": time(late), "created_by": "RUN x", "comment": format!("FROM {}", &id[..12]) },
            ],
        });
        if late == LATE {
            config["config"].as_object_mut().unwrap().extend([
                ("AttachStdin".to_owned(), json!(false)),
                ("Cmd".to_owned(), json!(null)),
                ("User".to_owned(), json!("")),
                ("OnBuild".to_owned(), json!([])),
                ("Volumes".to_owned(), json!({})),
            ]);
        }
        Image::new(&layers, config).rewritten(0)
    };
    let one = build(LATE, "5", &Digest::of(b"one").to_string());
    let other = build(LATE + 86_400, "123456789", &Digest::of(b"other").to_string());
    assert_eq!(one.config(), other.config());
    assert_eq!((one.bytes(0), one.bytes(1)), (other.bytes(0), other.bytes(1)));
    let epoch = "2001-09-09T01:46:40Z";
    let ids: Vec<_> = (0..2).map(|layer| format!("sha256:{}", Digest::of(&one.bytes(layer)))).collect();
    let expected = json!({
        "created": epoch, "architecture": "amd64",
        "config": { "Env": ["A=b"] },
        "history": [
            { "created": "2001-09-09T01:46:31Z", "created_by": "COPY a /", "comment": "base" },
            { "created": epoch, "created_by": "RUN x" },
        ],
        "rootfs": { "type": "layers", "diff_ids": ids },
    });
    assert_eq!(one.config(), expected);
    assert!(one.config.starts_with(br#"{"architecture":"amd64","config""#), "sorted, without spaces");
}

#[test]
fn entries_are_put_in_order_without_moving_a_byte() {
    let entries = [dir("b/"), file("b-c", "1", 1), file("b/d", "2", 1), dir("a/"), file("a/.wh..wh..opq", "", 1)];
    let whiteouts = [file("a/.wh.b", "", 1), file("a/a", "3", 1), file("a/c", "4", 1)];
    let image = one(&[&entries[..], &whiteouts].concat());
    assert_eq!(image.paths(0), ["a", "a/.wh..wh..opq", "a/a", "a/.wh.b", "a/c", "b", "b/d", "b-c"]);
    assert!(image.layers[0].pieces.len() > 3);
    assert_eq!(image.layers[0].diff_id, Digest::of(&image.bytes(0)));
    let ordered = one(&[dir("a/"), file("a/b", "1", LATE), file("a-b", "2", LATE)]);
    assert_eq!(ordered.layers[0].pieces.len(), 1);
}

#[test]
fn a_hard_link_never_comes_before_its_file() {
    let link = Input { link: "z", ..input("a", EntryType::Link, LATE) };
    let image = one(&[file("z", "data", LATE), link.clone(), file("b", "", LATE)]);
    assert_eq!(image.paths(0), ["z", "a", "b"], "the layer keeps its order");
    let other = Input { link: "c", ..input("z", EntryType::Link, LATE) };
    let image = one(&[file("c", "data", LATE), other, file("b", "", LATE)]);
    assert_eq!(image.paths(0), ["b", "c", "z"]);
}

#[test]
fn the_bases_layers_stay_as_they_are() {
    let layers = [vec![file("a", "1", LATE)], vec![file("b", "2", LATE)], vec![file("a", "1", LATE)]];
    let before = Image::new(&layers, json!({}));
    let base = (before.layers[0].clone(), before.bytes(0));
    let image = before.rewritten(1);
    assert_eq!((image.layers[0].clone(), image.bytes(0)), base);
    assert_eq!(image.layers[2].diff_id, base.0.diff_id, "the same layer once more");
    assert_eq!(image.entries(1)[0].mtime.seconds, EPOCH.cast_signed());
    let all = Image::new(&layers, json!({})).rewritten(9);
    assert_eq!(all.layers[1].diff_id, Digest::of(&tar(&layers[1])));
}

#[test]
fn layers_that_differed_in_times_only_become_one() {
    let image = Image::new(&[vec![file("a", "1", LATE)], vec![file("a", "1", LATE + 5)]], json!({})).rewritten(0);
    assert_eq!(image.layers[0], image.layers[1]);
}

#[test]
fn mount_points_of_run_steps_are_taken_out_where_nobody_can_have_made_them() {
    let layer = || {
        let mut entries = vec![dir("dev/"), dir("etc/")];
        entries.extend(["etc/hostname", "etc/hosts", "etc/resolv.conf"].map(|path| file(path, "", LATE)));
        entries.extend([dir("proc/"), dir("run/"), dir("sys/"), file("x", "made", LATE)]);
        entries
    };
    let steps = ["RUN /bin/sh -c x # buildkit", "COPY a / # buildkit"]
        .map(|by| json!({ "created_by": by, "comment": "buildkit.dockerfile.v0" }));
    let image = Image::new(&[layer(), layer()], json!({ "history": steps })).rewritten(0);
    // A step on Docker can create /run itself.
    assert_eq!(image.paths(0), ["run", "x"]);
    assert_eq!(image.paths(1).len(), 9 - 1, "a COPY says what it copies; run/ is there already: {:?}", image.paths(1));
    let classic = Image::new(&[layer(), layer()], history(&["/bin/sh -c x", "/bin/sh -c #(nop) COPY file:a in / "]));
    assert_eq!(classic.rewritten(0).paths(0), ["run", "x"]);
    // The history does not tell what made the layer.
    assert_eq!(one(&layer()).paths(0).len(), 9);
}

#[test]
fn podmans_own_mount_point_is_taken_out_of_podmans_images() {
    let layer = [dir("run/"), file("run/.containerenv", "", LATE), file("x", "made", LATE)];
    let mut config = history(&["/bin/sh -c x"]);
    assert_eq!(Image::new(&[layer.to_vec()], config.clone()).rewritten(0).paths(0), ["run", "run/.containerenv", "x"]);
    config["config"] = json!({ "Labels": { "io.buildah.version": "1.28.2" } });
    assert_eq!(Image::new(&[layer.to_vec()], config.clone()).rewritten(0).paths(0), ["run", "x"]);
    let written = [file("run/.containerenv", "not empty", LATE)];
    assert_eq!(Image::new(&[written.to_vec()], config).rewritten(0).paths(0), ["run/.containerenv"]);
}

#[test]
fn what_a_step_did_to_a_mount_point_stays() {
    let below = vec![dir("etc/"), file("etc/hosts", "127.0.0.1 localhost", 1), dir("run/")];
    let chmod = Input { mode: 0o700, ..dir("run/") };
    let steps = ["/bin/sh -c #(nop) ADD file:a in / ", "/bin/sh -c a", "/bin/sh -c b", "/bin/sh -c c", "/bin/sh -c d"];
    let layers = [
        below,
        vec![chmod, file("etc/hosts", "", LATE)],
        vec![file(".wh.run", "", LATE)],
        vec![dir("run/")],
        vec![dir("etc/"), file("etc/new", "", LATE), dir("run/")],
    ];
    let image = Image::new(&layers, history(&steps)).rewritten(0);
    assert_eq!(image.paths(1), ["etc/hosts", "run"], "there was another one");
    assert_eq!(image.paths(3), ["run"], "it was gone");
    assert_eq!(image.paths(4), ["etc", "etc/new"], "run/ is as it was");
}

#[test]
fn damage_is_told_with_the_layers_number() {
    let image = Image::new(&[vec![file("a", "1", 1)], vec![file("b", "2", 1)]], json!({}));
    crate::image::extents::ExtentWriter::new(&image.file, &image.layers[1].pieces).write_all_at(b"zz", 0).unwrap();
    let error = rewritten(&image.file, &image.layers, &image.config, EPOCH, 0).unwrap_err();
    assert_eq!(error.to_string(), "layer 2 of the image cannot be made reproducible");
    let error = rewritten(&image.file, &[], b"[]", EPOCH, 0).unwrap_err();
    assert_eq!(error.to_string(), "the image's configuration cannot be made reproducible: it is no object");
    let error = rewritten(&image.file, &[], b"{}", u64::MAX, 0).unwrap_err();
    assert_eq!(error.to_string(), format!("SOURCE_DATE_EPOCH={} is no moment that a configuration can name", u64::MAX));
}

/// Kind, data, time, mode, whether the owner has a name, whether there is an extension header.
type Facts = (EntryType, Vec<u8>, u64, u32, bool, bool);

fn any_entry() -> impl Strategy<Value = Facts> {
    let kinds = [EntryType::Regular, EntryType::Directory, EntryType::Symlink, EntryType::Fifo, EntryType::Link];
    let times = prop_oneof![EPOCH - 5..EPOCH + 5, Just(LATE)];
    (
        proptest::sample::select(kinds.to_vec()),
        vec(any::<u8>(), 0..600),
        times,
        0..0o7777_u32,
        any::<bool>(),
        any::<bool>(),
    )
}

fn any_layer() -> impl Strategy<Value = Vec<Input>> {
    let path = "(\\.wh\\.)?[a-c]{1,2}(/[a-c-]{1,2}){0,2}(/\\.wh\\.[a-c])?";
    btree_map(path, any_entry(), 0..12)
        .prop_map(|entries| entries.into_iter().map(any_input).collect::<Vec<_>>())
        .prop_shuffle()
}

fn any_input((path, (kind, data, mtime, mode, named, extended)): (String, Facts)) -> Input {
    let data = if kind == EntryType::Regular { data } else { Vec::new() };
    let link = if matches!(kind, EntryType::Symlink | EntryType::Link) { "a/b" } else { "" };
    let mut pax =
        vec![("SCHILY.xattr.user.x".to_owned(), b"a\nb".to_vec()), ("mtime".to_owned(), format!("{mtime}.25").into())];
    pax.truncate(if extended { 2 } else { 0 });
    Input { path, kind, data, link, mtime, user: if named { "root" } else { "" }, mode, pax }
}

/// The facts of each entry that a rewrite must keep, and the expected values of the others.
fn promised(image: &Image, number: usize, rewritten: bool) -> Vec<String> {
    let bytes = image.bytes(number);
    let mut facts: Vec<_> = image
        .entries(number)
        .into_iter()
        .map(|mut entry| {
            let epoch = Moment { seconds: EPOCH.cast_signed(), nanoseconds: 0 };
            if !rewritten {
                entry.mtime = entry.mtime.min(epoch);
                (entry.mode, entry.mtime) =
                    if entry.whiteout().is_some() { (0, epoch) } else { (entry.mode, entry.mtime) };
                entry.user.clear();
                entry.group.clear();
            }
            let data = &bytes[usize::try_from(entry.data.start).unwrap()..usize::try_from(entry.data.end).unwrap()];
            let Entry { path, kind, link, mode, uid, gid, user, group, mtime, size, xattrs, .. } = entry;
            format!("{:?}", (path, kind, link, mode, (uid, gid, user, group), mtime, size, xattrs, data))
        })
        .collect();
    facts.sort();
    facts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_rewrite_changes_what_is_promised_and_only_once(entries in any_layer()) {
        let before = Image::new(std::slice::from_ref(&entries), json!({}));
        let expected = promised(&before, 0, false);
        let length = before.layers[0].size;
        let image = before.rewritten(0);
        prop_assert_eq!(&promised(&image, 0, true), &expected);
        let bytes = image.bytes(0);
        prop_assert_eq!(image.layers[0].diff_id, Digest::of(&bytes));
        prop_assert_eq!(image.layers[0].size, bytes.len() as u64);
        prop_assert!(bytes.len() as u64 <= length);
        let (config, layers) = (image.config.clone(), image.layers.clone());
        let again = image.rewritten(0);
        prop_assert_eq!((&again.config, again.bytes(0)), (&config, bytes));
        prop_assert_eq!(again.layers[0].diff_id, layers[0].diff_id);
    }

    #[test]
    fn the_order_that_it_came_in_does_not_matter(entries in any_layer(), seed in any::<u64>()) {
        // Other tests cover links: with links, the layer may keep its order.
        let mut entries: Vec<_> = entries.into_iter().filter(|entry| entry.kind != EntryType::Link).collect();
        let one = Image::new(std::slice::from_ref(&entries), json!({})).rewritten(0);
        entries.sort_by_key(|entry| Digest::of(format!("{seed}{}", entry.path).as_bytes()).to_string());
        // A path and its whiteout have the same key, so they keep their order.
        let there: Vec<_> = entries.iter().map(|entry| entry.path.clone()).collect();
        let deleted = |path: &String| {
            let (parent, name) = path.rsplit_once('/').map_or(("", path.as_str()), |(parent, name)| (parent, name));
            let name = name.strip_prefix(".wh.");
            name.is_some_and(|name| there.contains(&[parent, name].join("/").trim_start_matches('/').to_owned()))
        };
        prop_assume!(!there.iter().any(deleted));
        let other = Image::new(&[entries.clone()], json!({})).rewritten(0);
        prop_assert_eq!(one.bytes(0), other.bytes(0));
        let last = one.entries(0).into_iter().filter(|entry| entry.kind == Kind::HardLink).count();
        prop_assert_eq!(last, 0);
    }
}
