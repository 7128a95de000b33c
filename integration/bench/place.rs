//! The engines that are measured, through their own API by curl, which is as fast as it can be: what we are compared with,
//! and what we are given. Everything that is made in them has a name of this process's own, and is removed.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::measure::{Environment, run};
use crate::conformance::builder::{name, place};
use crate::harness::{Builder, path, place_of};

/// A builder, and how curl finds its engine.
pub(super) struct Engine {
    pub(super) builder: Builder,
    host: String,
    name: &'static str,
}

impl Engine {
    pub(super) fn of(builder: Builder) -> Self {
        Self { builder, host: place(builder), name: name(builder) }
    }

    /// The newer Docker of `scripts/engine docker-28-containerd`.
    pub(super) fn containerd() -> Self {
        let host = place_of("docker-28-containerd");
        Self { builder: Builder::BuildKit, host, name: "Docker 28, containerd image store" }
    }

    /// The newer Podman of `scripts/engine podman-5`.
    pub(super) fn podman_5() -> Self {
        Self { builder: Builder::Podman, host: place_of("podman-5"), name: "Podman 5" }
    }

    /// What it is called in documentation.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// The environment that leads our program to it.
    pub(super) fn environment(&self) -> Environment {
        let builder = match self.builder {
            Builder::Docker => "classic",
            Builder::BuildKit => "buildkit",
            Builder::Podman => "auto",
        };
        [("DOCKER_HOST", self.host.as_str()), ("IMAGE_WORKER_BUILDER", builder)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    /// Where it is, for docker and skopeo.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The beginning of every call, for a shell: curl, and where the API is.
    pub(super) fn curl(&self) -> (String, String) {
        let curl = "curl --silent --show-error --fail-with-body -H Expect:";
        match self.host.strip_prefix("unix://") {
            Some(socket) => (format!("{curl} --unix-socket '{socket}'"), "http://engine".to_owned()),
            None => (curl.to_owned(), self.host.replace("tcp://", "http://")),
        }
    }

    /// A script that builds the image `$tag` of the context in the file `$context`, without a cache.
    pub(super) fn build_script(&self) -> String {
        let (curl, api) = self.curl();
        let version = if self.builder == Builder::BuildKit { "&version=2" } else { "" };
        format!(
            "{curl} -X POST -H 'Content-Type: application/x-tar' -T \"$context\" \
             \"{api}/build?t=$tag&nocache=1&rm=1&forcerm=1{version}\" >\"$out.log\"\n\
             if grep errorDetail \"$out.log\"; then exit 1; fi"
        )
    }

    /// A script that writes the image `$tag` to the file `$out`.
    pub(super) fn get_script(&self) -> String {
        let (curl, api) = self.curl();
        format!("{curl} -o \"$out\" \"{api}/images/$tag/get\"")
    }

    /// Builds an image of a directory with a `Dockerfile`. It is there as long as what is given back.
    pub(super) fn image(&self, what: &str, directory: &Path) -> Image<'_> {
        let image = Image { engine: self, tag: tag(what) };
        let scratch = TempDir::with_prefix("bench-").unwrap();
        let out = scratch.path().join("out");
        let script = "context=$out.tar; tar --create --file \"$context\" --directory \"$directory\" .";
        let script = format!("tag=$1 directory=$2 out=$3\n{script}\n{}", self.build_script());
        run(&script, &[&image.tag, path(directory), path(&out)]);
        image
    }

    /// An image of four layers of bytes that nothing can compress, of so many MiB in total, on `base`.
    pub(super) fn random_image(&self, what: &str, base: &str, mib: u64) -> Image<'_> {
        let directory = TempDir::with_prefix("bench-").unwrap();
        std::fs::copy("/bin/busybox", directory.path().join("busybox")).expect("busybox-static; run scripts/packages");
        let layers: String = (0..4).map(|layer| random_step(&format!("/{layer}"), mib / 4 + 1)).collect();
        let dockerfile = format!("FROM {base}\nCOPY busybox /bin/busybox\n{layers}");
        std::fs::write(directory.path().join("Dockerfile"), dockerfile).unwrap();
        eprintln!("bench: making {what} with {}", self.name());
        self.image(what, directory.path())
    }

    /// Names an image that will be there, so that it is removed, however that ends.
    pub(super) fn named(&self, what: &str) -> Image<'_> {
        Image { engine: self, tag: tag(what) }
    }

    /// The answer to GET, as it is.
    pub(super) fn get(&self, call: &str) -> String {
        let (curl, api) = self.curl();
        run(&format!("{curl} \"{api}$1\""), &[call])
    }

    /// A call without a body.
    pub(super) fn post(&self, call: &str) -> String {
        let (curl, api) = self.curl();
        run(&format!("{curl} -X POST \"{api}$1\""), &[call])
    }
}

/// A step that makes a file of so many MiB that nothing can compress.
pub(super) fn random_step(file: &str, mib: u64) -> String {
    format!("RUN [\"/bin/busybox\", \"dd\", \"if=/dev/urandom\", \"of={file}\", \"bs=1M\", \"count={mib}\"]\n")
}

/// A name that no other process has, by which scripts/bench finds what a killed one has left.
fn tag(what: &str) -> String {
    format!("image-worker-bench-{what}:{}", std::process::id())
}

/// An image in an engine; dropping this value removes it.
pub(super) struct Image<'e> {
    engine: &'e Engine,
    pub(super) tag: String,
}

impl Image<'_> {
    /// Where it is.
    pub(super) fn engine(&self) -> &Engine {
        self.engine
    }

    /// Removes it, if it is there; what it was built of goes with it.
    pub(super) fn remove(&self) {
        let (curl, api) = self.engine.curl();
        let script = format!("{curl} -X DELETE '{api}/images/{}?force=1'", self.tag);
        // Also while a row fails: a second panic would abort everything, and what is not there need not be removed.
        let _ = Command::new("bash").args(["-c", &script]).stdin(Stdio::null()).output();
    }
}

impl Drop for Image<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}
