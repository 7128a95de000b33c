//! Images with their ancestors, parents first, and their hashes in the index: a hash of an image's context, its arguments, its
//! packages and its parent, so that a parent's change changes its children. docs/decision.md has the formula.

use std::collections::BTreeMap;
use std::convert::Infallible;

use serde_json::{Map, Value, json};

use super::{Image, Tree, TreeError};
use crate::context::ahead::ahead;
use crate::context::collect::Context;
use crate::context::{ContextHash, HashScheme, ImageName};
use crate::net::Digest;

/// What an image is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// The hash of its context.
    pub context: ContextHash,
    /// The hash in the index instead, if the image has arguments or a parent.
    pub index_hash: Option<ContextHash>,
    /// The task image that it is built from.
    pub parent: Option<ImageName>,
}

impl Identified {
    /// The hash in the image's `.hash.` route.
    #[must_use]
    pub fn name_in_index(&self) -> ContextHash {
        self.index_hash.unwrap_or(self.context)
    }
}

/// The digests of other tasks' packages by their names, as the graph of those tasks has them.
pub type PackageDigests = BTreeMap<String, String>;

/// The hash in the index of an image with arguments, a parent, or other input beside its context; none for others, whose context
/// is the only input. `parent` is the parent's hash there.
#[must_use]
pub fn index_hash(
    image: &Image,
    context: ContextHash,
    parent: Option<ContextHash>,
    packages: &PackageDigests,
) -> Option<ContextHash> {
    let Image { args, arch, digest_extra, packages: needed, .. } = image;
    if args.is_empty() && parent.is_none() && arch.is_none() && digest_extra.is_none() && needed.is_empty() {
        return None;
    }
    // Keys in the order of their names and no spaces: what Python's json.dumps writes with sort_keys.
    let mut line = Map::new();
    line.extend(arch.as_ref().map(|arch| ("arch".to_owned(), json!(arch))));
    line.insert("args".to_owned(), json!(args));
    line.insert("context".to_owned(), json!(context.to_string()));
    line.extend(digest_extra.clone().map(|extra| ("digest-extra".to_owned(), extra)));
    if !needed.is_empty() {
        let digests: BTreeMap<_, _> = needed.iter().map(|name| (name, packages.get(name))).collect();
        line.insert("packages".to_owned(), json!(digests));
    }
    line.insert("parent".to_owned(), json!(parent.map(|parent| parent.to_string())));
    let mut line = Value::Object(line);
    line.sort_all_objects();
    Some(ContextHash(Digest::of(line.to_string().as_bytes())))
}

/// Images and all that they are built from, each once.
#[derive(Clone, Debug, Default)]
pub struct Lineage {
    /// Their names, those of parents first.
    pub names: Vec<ImageName>,
    /// What each is built from.
    parents: BTreeMap<ImageName, Option<ImageName>>,
}

impl Lineage {
    /// Whether an image is among them.
    #[must_use]
    pub fn has(&self, name: &ImageName) -> bool {
        self.parents.contains_key(name)
    }

    /// The task image that one of them is built from.
    #[must_use]
    pub fn parent(&self, name: &ImageName) -> Option<&ImageName> {
        self.parents.get(name)?.as_ref()
    }
}

impl Tree {
    /// The images and all that they are built from, each once and after its parent; otherwise in the given order.
    pub fn ancestors(&self, names: &[ImageName]) -> Result<Vec<ImageName>, TreeError> {
        Ok(self.lineage(names)?.names)
    }

    fn lineage(&self, names: &[ImageName]) -> Result<Lineage, TreeError> {
        let mut lineage = Lineage::default();
        names.iter().try_for_each(|name| self.add_to_lineage(name, &mut lineage))?;
        Ok(lineage)
    }

    /// The hashes of the images and of all that they are built from.
    pub fn identify(
        &self,
        names: &[ImageName],
        scheme: HashScheme,
    ) -> Result<BTreeMap<ImageName, Identified>, TreeError> {
        self.identify_each(&self.lineage(names)?, scheme, |_, _| {})
    }

    /// The hashes of images. `on_known` gets each as soon as it is known, in the lineage's order, while the next ones are computed.
    pub fn identify_each(
        &self,
        lineage: &Lineage,
        scheme: HashScheme,
        mut on_known: impl FnMut(&ImageName, &Identified),
    ) -> Result<BTreeMap<ImageName, Identified>, TreeError> {
        let images: Vec<_> = lineage.names.iter().map(|name| self.task_image(name)).collect::<Result<_, _>>()?;
        let one_by_one: Vec<_> = images.chunks(1).collect();
        let mut identified: BTreeMap<ImageName, Identified> = BTreeMap::new();
        let hash = |image: &&Image| self.context(image, scheme)?.hash().map_err(TreeError::from);
        ahead(&one_by_one, hash, |image, context| {
            let (context, parent) = (context?, lineage.parent(&image.name));
            let of_parent = parent.and_then(|parent| identified.get(parent)).map(Identified::name_in_index);
            let index_hash = index_hash(image, context, of_parent, &self.packages);
            let hashes = Identified { context, index_hash, parent: parent.cloned() };
            on_known(&image.name, &hashes);
            identified.insert(image.name.clone(), hashes);
            Ok::<_, TreeError>(())
        })?;
        Ok(identified)
    }

    /// Sets the packages of a task graph, which are part of the hashes of the images that need them.
    pub fn set_packages(&mut self, packages: PackageDigests) {
        self.packages = packages;
    }

    /// Whether an image needs a package that no task graph has set.
    #[must_use]
    pub fn lacks_packages(&self, image: &Image) -> bool {
        !image.packages.iter().all(|name| self.packages.contains_key(name))
    }

    /// The context of an image, its files found and not yet read.
    pub fn context(&self, image: &Image, scheme: HashScheme) -> Result<Context, TreeError> {
        Ok(Context::collect(self.checkout(), &image.directory, &image.args, scheme)?.within(&self.limits)?)
    }

    /// Adds an image and all that it is built from, as far as they are new.
    pub fn add_to_lineage(&self, name: &ImageName, lineage: &mut Lineage) -> Result<(), TreeError> {
        // From the image upwards.
        let mut line: Vec<ImageName> = Vec::new();
        let mut next = Some(name.clone());
        while let Some(name) = next.filter(|name| !lineage.has(name) || line.contains(name)) {
            if let Some(start) = line.iter().position(|other| *other == name) {
                let cycle = line[start..].iter().chain([&name]).map(ImageName::as_str);
                return Err(TreeError::Cycle { cycle: cycle.collect::<Vec<_>>().join(" -> ") });
            }
            if let Some(child) = line.last() {
                let of_child = |error| TreeError::OfChild { child: child.clone(), error: Box::new(error) };
                self.task_image(&name).map_err(of_child)?;
            }
            next = self.parent(&name)?;
            lineage.parents.insert(name.clone(), next.clone());
            line.push(name);
        }
        lineage.names.extend(line.into_iter().rev());
        Ok(())
    }
}

/// Does the work for each item, on as many threads as the machine runs at once; the results are in the items' order.
pub(super) fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let one_by_one: Vec<_> = items.chunks(1).collect();
    let mut results = Vec::with_capacity(items.len());
    let Ok(()) = ahead(&one_by_one, work, |_, result| {
        results.push(result);
        Ok::<(), Infallible>(())
    });
    results
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::fixture::{self, Files};
    use super::super::listed::Listed;
    use super::*;

    const DOCUMENT: &str = include_str!("../../docs/decision.md");

    fn hash(text: &str) -> ContextHash {
        text.parse().unwrap()
    }

    fn names(names: &[&str]) -> Vec<ImageName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    /// The hash of an image that only has arguments.
    fn of_args(
        context: ContextHash,
        args: &BTreeMap<String, String>,
        parent: Option<ContextHash>,
    ) -> Option<ContextHash> {
        index_hash(&image(&json!({ "args": args })), context, parent, &PackageDigests::new())
    }

    /// The image `i` with this entry in a `kind.yml`.
    fn image(listed: &Value) -> Image {
        Listed::read(listed.clone()).unwrap().image("i".parse().unwrap(), "i".into())
    }

    /// `name`, built from `parent`, or from a registry's image.
    fn tree(images: &[(&str, Option<&str>)]) -> (Files, Tree) {
        let files = Files::new(&[]);
        for (name, parent) in images {
            let base = parent.unwrap_or("debian:12");
            let dockerfile = format!("ARG DOCKER_IMAGE_PARENT={base}\nFROM $DOCKER_IMAGE_PARENT\n# {name}\n");
            files.write(&format!("testing/docker/{name}/Dockerfile"), &dockerfile);
        }
        let tree = fixture::read(files.root(), None).unwrap();
        (files, tree)
    }

    /// The worked example's lines: `name: value`.
    fn example(name: &str) -> &'static str {
        let line = DOCUMENT.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("docs/decision.md has no line `{name}: …`"))
    }

    #[test]
    fn the_documents_example_is_true() {
        let args: BTreeMap<String, String> = serde_json::from_str(example("args")).unwrap();
        let (context, parent) = (hash(example("context")), hash(example("parent")));
        let json = example("json");
        assert_eq!(hash(example("sha256")), ContextHash(Digest::of(json.as_bytes())));
        assert_eq!(of_args(context, &args, Some(parent)), Some(hash(example("sha256"))));
    }

    #[test]
    fn the_hash_is_that_of_pythons_json() {
        // As hashlib.sha256(json.dumps(…, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()) has them.
        let context = ContextHash(Digest::of(b"context"));
        let parent = ContextHash(Digest::of(b"parent"));
        let args = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let none = args(&[]);
        let nasty = args(&[
            ("\u{ff5e}", "\u{1f600}\u{2028}\u{7f}"),
            ("\u{1f600}", "a/b<&>'"),
            ("Z", "\"\\\u{8}\u{c}\n\r\t\0\u{1f}"),
            ("a", ""),
        ]);
        assert_eq!(of_args(context, &none, None), None);
        assert_eq!(of_args(context, &none, Some(parent)), Some(hash(PARENT_ONLY)));
        assert_eq!(of_args(context, &args(&[("A", "b")]), None), Some(hash(ARGS_ONLY)));
        assert_eq!(of_args(context, &nasty, Some(parent)), Some(hash(NASTY)));
    }

    #[test]
    fn what_the_context_does_not_say_is_in_the_hash() {
        let context = ContextHash(Digest::of(b"context"));
        let packages = [("a".to_owned(), "packages.v1/a/0".to_owned())].into();
        let hash = |listed: Value| index_hash(&image(&listed), context, None, &packages);
        assert_eq!(hash(json!({ "symbol": "x", "cache": true, "packages": [] })), None);
        let line = |line: &str| Some(ContextHash(Digest::of(line.replace("CONTEXT", &context.to_string()).as_bytes())));
        assert_eq!(
            hash(json!({ "packages": ["b", "a"], "arch": "arm64", "digest-extra": { "z": 1, "a": [2] } })),
            line(
                r#"{"arch":"arm64","args":{},"context":"CONTEXT","digest-extra":{"a":[2],"z":1},"packages":{"a":"packages.v1/a/0","b":null},"parent":null}"#
            )
        );
        assert_eq!(
            hash(json!({ "arch": "arm64" })),
            line(r#"{"arch":"arm64","args":{},"context":"CONTEXT","parent":null}"#)
        );
    }

    #[test]
    fn parents_come_first_and_once() {
        let (_files, tree) =
            tree(&[("a", Some("b")), ("b", Some("c")), ("c", None), ("d", Some("b:latest")), ("e", None)]);
        let ancestors = |of: &[&str]| tree.ancestors(&names(of)).unwrap();
        assert_eq!(ancestors(&["d", "a", "e", "b"]), names(&["c", "b", "d", "a", "e"]));
        assert_eq!(ancestors(&["e", "e"]), names(&["e"]));
        assert_eq!(ancestors(&[]), []);
    }

    #[test]
    fn a_cycle_is_named_in_order() {
        let (_files, tree) = tree(&[("x", Some("a")), ("a", Some("b")), ("b", Some("a")), ("own", Some("own"))]);
        let cycle = |of: &str| tree.ancestors(&names(&[of])).unwrap_err().to_string();
        assert_eq!(cycle("x"), "the images a -> b -> a are built from each other; one of them needs another parent");
        assert!(cycle("own").contains(" own -> own "));
    }

    #[test]
    fn an_unknown_parent_is_named_with_its_child() {
        let files = Files::new(&[
            ("taskcluster/docker/a/Dockerfile", "FROM $DOCKER_IMAGE_PARENT"),
            ("kind.yml", "tasks: {a: {parent: zzz}}"),
        ]);
        let tree = fixture::with_kind(files.root(), None, &files.at("kind.yml")).unwrap();
        let error = tree.identify(&names(&["a"]), HashScheme::Tar).unwrap_err().to_string();
        assert_eq!(error, "the parent of the image a: unknown image zzz: taskcluster/docker has no such directory");
        let unknown = tree.ancestors(&names(&["zzz"])).unwrap_err().to_string();
        assert_eq!(unknown, "unknown image zzz: taskcluster/docker has no such directory");
    }

    #[test]
    fn a_parents_change_is_its_childrens() {
        let (files, tree) = tree(&[("a", None), ("b", Some("a")), ("c", Some("b")), ("d", None)]);
        let identify = || tree.identify(&names(&["c", "d"]), HashScheme::Tar).unwrap();
        let before = identify();
        assert_eq!(before.keys().cloned().collect::<Vec<_>>(), names(&["a", "b", "c", "d"]));
        let of = |all: &BTreeMap<ImageName, Identified>, name: &str| all[&name.parse().unwrap()].clone();
        let (a, b) = (of(&before, "a"), of(&before, "b"));
        assert_eq!((a.index_hash, a.parent.clone(), a.name_in_index()), (None, None, a.context));
        assert_eq!(b.parent, Some("a".parse().unwrap()));
        assert_eq!(b.index_hash, of_args(b.context, &BTreeMap::new(), Some(a.context)));
        assert_eq!(
            of(&before, "c").name_in_index(),
            of_args(of(&before, "c").context, &BTreeMap::new(), b.index_hash).unwrap()
        );
        let directory = files.at("testing/docker/a");
        let alone = Context::collect(&files.root().into(), &directory, &BTreeMap::new(), HashScheme::Tar).unwrap();
        assert_eq!(a.context, alone.hash().unwrap());

        files.write("testing/docker/a/more", "");
        let after = identify();
        for (name, changed) in [("a", true), ("b", true), ("c", true), ("d", false)] {
            assert_eq!(of(&before, name).name_in_index() != of(&after, name).name_in_index(), changed, "{name}");
            assert_eq!(of(&before, name).context != of(&after, name).context, name == "a", "{name}");
        }
    }

    #[test]
    fn the_scheme_and_the_arguments_count() {
        let files = Files::new(&[
            ("taskcluster/docker/x/Dockerfile", "# %ARG V\nFROM debian:$V\n"),
            ("kind.yml", "tasks: {a: {definition: x, args: {V: '12'}}, b: {definition: x, args: {V: '13'}}}"),
        ]);
        let tree = fixture::with_kind(files.root(), None, &files.at("kind.yml")).unwrap();
        let of =
            |scheme, name: &str| tree.identify(&names(&["a", "b"]), scheme).unwrap()[&name.parse().unwrap()].clone();
        let (a, b) = (of(HashScheme::Tar, "a"), of(HashScheme::Tar, "b"));
        assert_ne!(a.context, b.context);
        let args = |value: &str| [("V".to_owned(), value.to_owned())].into();
        assert_eq!(a.index_hash, of_args(a.context, &args("12"), None));
        // The raw files are the same; the arguments are not.
        let (a, b) = (of(HashScheme::Contents, "a"), of(HashScheme::Contents, "b"));
        assert_eq!(a.context, b.context);
        assert_ne!(a.name_in_index(), b.name_in_index());
    }

    #[test]
    fn many_contexts_at_once_and_the_first_error() {
        let many: Vec<_> = (0..100).map(|number| format!("i{number:02}")).collect();
        let images: Vec<_> = many.iter().map(|name| (name.as_str(), None)).collect();
        let (files, tree) = tree(&images);
        let wanted: Vec<_> = many.iter().map(|name| name.parse().unwrap()).collect();
        let identified = tree.identify(&wanted, HashScheme::Tar).unwrap();
        let different: BTreeSet<_> = identified.values().map(Identified::name_in_index).collect();
        assert_eq!((identified.len(), different.len()), (100, 100));
        for broken in ["i70", "i20"] {
            std::os::unix::fs::symlink("nowhere", files.at(&format!("testing/docker/{broken}/link"))).unwrap();
        }
        let error = tree.identify(&wanted, HashScheme::Tar).unwrap_err().to_string();
        assert!(error.contains("/i20/link is a link that leads nowhere"), "{error}");
        assert_eq!(in_parallel(&[3, 1, 2], |number| number * 2), [6, 2, 4]);
        assert!(in_parallel(&[], |number: &u8| *number).is_empty());
    }

    const PARENT_ONLY: &str = "0b9d44cc40c931982b8f3834a7b812d12ea4012829855b547c137dd0684c13ad";
    const ARGS_ONLY: &str = "c3e77483037cce4b0045043e463063e37425341fec427b40a74785cfd20f9ad5";
    const NASTY: &str = "0fdc26be076f348ec1d6b1c174ae88665c6f64b09e781328808a774665d9be0e";
}
