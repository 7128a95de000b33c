//! The directory of a managed engine: its layout, the command line of the service in it, and its removal when no process uses
//! it any more. `managed` finds out which storage driver works.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Resource, getrlimit};

use super::system::unmount;
use crate::engine::Podman;

/// The size of a path in `sockaddr_un`, without the zero at its end.
pub(super) const MAX_SOCKET_PATH: usize = 107;

/// Docker's rule for names without a registry, which Podman does not have by default. It goes into a file that is read after
/// the system's files.
const REGISTRIES: &str = "unqualified-search-registries = [\"docker.io\"]\nshort-name-mode = \"permissive\"\n";

/// Used if the system has no policy, because Podman needs one. Docker has no policy either.
const POLICY: &str = "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}\n";

/// A name means a local image first, as with Docker, and not always the image of docker.io.
const CONTAINERS_CONF: &str = "[engine]\ncompat_api_enforce_docker_hub = false\n";

/// The limit that Podman 5 gives to RUN steps as root at least. It fails if its own limit may be lower.
const DEFAULT_LIMIT: u64 = 1 << 20;

/// The setting for limits that are lower than usual: steps get the limits of this process.
fn limits(files: Option<u64>, processes: Option<u64>) -> String {
    let low = [("nofile", files), ("nproc", processes)].into_iter().filter_map(|(name, limit)| {
        let limit = limit.filter(|limit| *limit < DEFAULT_LIMIT)?;
        Some(format!("\"{name}={limit}:{limit}\""))
    });
    format!("[containers]\ndefault_ulimits = [{}]\n", low.collect::<Vec<_>>().join(", "))
}

/// The storage driver, for images and steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Driver {
    /// The kernel's overlay file system: fast, and refused on top of another overlay. If /dev/fuse may be opened, Podman uses
    /// fuse-overlayfs by itself.
    Overlay,
    /// Copies: works everywhere, and needs the space of all lower layers again for each step.
    Vfs,
}

impl Driver {
    /// All storage drivers, the best first.
    pub(super) const ALL: [Self; 2] = [Self::Overlay, Self::Vfs];
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overlay => "overlay",
            Self::Vfs => "vfs",
        })
    }
}

/// Options for namespaces of its own: all processes there end at once with the first one, other processes do not see its
/// mounts, and a RUN step as root finds no process of the machine to kill.
const UNSHARE_OPTIONS: [&str; 5] = ["--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"];

/// The command that starts another one in a pid namespace of its own, if that is permitted: for root with all privileges.
/// Without them Podman creates a user namespace itself, and containers refuse to mount another /proc.
pub(super) fn unshare_command(podman: &Podman) -> Vec<OsString> {
    let Some(unshare) = podman.beside("unshare") else { return Vec::new() };
    let output = Command::new(&unshare).args(UNSHARE_OPTIONS).arg("true").stdin(Stdio::null()).output();
    if output.is_ok_and(|output| output.status.success()) {
        std::iter::once(unshare.into()).chain(UNSHARE_OPTIONS.map(OsString::from)).collect()
    } else {
        Vec::new()
    }
}

/// The directory of a managed engine.
#[derive(Clone, Debug)]
pub(super) struct EngineDir(PathBuf);

impl EngineDir {
    /// Resolves only the parent: the directory itself may not exist yet, and the list of mounts has resolved paths.
    pub(super) fn at(path: &Path) -> Self {
        let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
        let name = path.file_name().unwrap_or_default();
        Self(parent.map_or_else(|| path.to_owned(), |parent| parent.join(name)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.0.join("podman.sock")
    }

    /// The log file of the service.
    pub(super) fn log(&self) -> io::Result<File> {
        File::options().read(true).append(true).create(true).open(self.0.join("service.log"))
    }

    /// Creates the directory and the files that the service reads.
    pub(super) fn make(&self, driver: Driver) -> io::Result<()> {
        let settings = self.0.join("home/.config/containers");
        for name in ["run", "tmp", "home/.config/containers/registries.conf.d"] {
            DirBuilder::new().recursive(true).mode(0o700).create(self.0.join(name))?;
        }
        fs::write(settings.join("registries.conf.d/99-image-worker.conf"), REGISTRIES)?;
        if !Path::new("/etc/containers/policy.json").exists() {
            fs::write(settings.join("policy.json"), POLICY)?;
        }
        let [files, processes] = [Resource::Nofile, Resource::Nproc].map(|resource| getrlimit(resource).maximum);
        fs::write(self.0.join("containers.conf"), format!("{CONTAINERS_CONF}{}", limits(files, processes)))?;
        // The system's settings are for the system's storage.
        let storage = self.0.join("storage").into_os_string().into_string();
        let storage = storage.map_err(|_| io::Error::other("its path is no UTF-8"))?;
        let settings =
            format!("[storage]\ndriver = \"{driver}\"\ngraphroot = {storage:?}\nrunroot = \"run/storage\"\n");
        fs::write(self.0.join("storage.conf"), settings)
    }

    /// The command line of the service.
    pub(super) fn service(&self, podman: &Path, driver: Driver) -> Vec<OsString> {
        let mut command = self.podman(podman, "storage", "run");
        command.extend(["--storage-driver".into(), driver.to_string().into()]);
        let words = ["--cgroup-manager", "cgroupfs", "--events-backend", "none", "system", "service", "--time=0"];
        command.extend(words.map(OsString::from));
        let mut address = OsString::from("unix://");
        address.push(self.socket());
        command.push(address);
        command
    }

    /// The command line of Podman, with all of its own files below the directory.
    fn podman(&self, podman: &Path, storage: &str, run: &str) -> Vec<OsString> {
        // Relative to the directory, in which the service is started: Podman refuses a path of more than 50 bytes, because of
        // the sockets of containers, which a chroot does not have.
        let runroot = Path::new(run).join("storage");
        let paths =
            [("--root", self.0.join(storage)), ("--runroot", runroot), ("--tmpdir", self.0.join(run).join("libpod"))];
        let options = paths.into_iter().flat_map(|(option, path)| [option.into(), path.into()]);
        std::iter::once(podman.into()).chain(options).collect()
    }

    /// The environment of the service: nothing else is inherited.
    pub(super) fn environment(&self, podman: &Podman) -> Vec<(OsString, OsString)> {
        let own = [
            ("HOME", self.0.join("home")),
            ("TMPDIR", self.0.join("tmp")),
            ("XDG_RUNTIME_DIR", self.0.join("run")),
            ("CONTAINERS_CONF", self.0.join("containers.conf")),
            ("CONTAINERS_STORAGE_CONF", self.0.join("storage.conf")),
        ];
        let own = own.into_iter().map(|(name, path)| (name.into(), path.into()));
        podman.environment.iter().map(|(name, value)| (name.into(), value.clone())).chain(own).collect()
    }

    /// Removes the directory. No process may use it any more.
    pub(super) fn remove(&self) -> io::Result<()> {
        let mounts = || Ok::<_, io::Error>(mounts_below(&fs::read("/proc/self/mountinfo")?, &self.0));
        for mount in mounts()?.iter().rev() {
            // A failed unmount is detected below.
            let _ = unmount(mount);
        }
        // Do not delete files in a file system that is still mounted here.
        if let Some(mount) = mounts()?.first() {
            return Err(io::Error::other(format!("{} is mounted and cannot be unmounted", mount.display())));
        }
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.remove_as_root()?;
                fs::remove_dir_all(&self.0)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Files of other users in images belong to our subordinate users, and only in a user namespace may we remove them.
    fn remove_as_root(&self) -> io::Result<()> {
        // From the PATH that this program was started with.
        let podman = Path::new("podman");
        // Not with the service's own directories: those are removed here.
        let command = self.podman(podman, "removing", "removing");
        let mut paths = vec![self.0.join("storage"), self.0.join("tmp"), self.0.join("run")];
        paths.retain(|path| path.exists());
        let runtime = self.0.join("removing");
        DirBuilder::new().recursive(true).mode(0o700).create(&runtime)?;
        let mut unshare = Command::new(podman);
        unshare.args(&command[1..]).args(["--storage-driver", "vfs", "unshare", "rm", "-rf"]).args(paths);
        let status = unshare.env("XDG_RUNTIME_DIR", &runtime).current_dir(&self.0).stdin(Stdio::null()).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("podman unshare rm: {status}"))) }
    }
}

/// The mount points below a directory, lowest first.
fn mounts_below(mountinfo: &[u8], directory: &Path) -> Vec<PathBuf> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    let paths = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4)).map(unescape);
    let mut mounts: Vec<_> = paths.filter(|path| path.starts_with(directory)).collect();
    mounts.sort();
    mounts
}

/// Decodes octal escapes: spaces and the like are written as `\040`.
fn unescape(path: &[u8]) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\').and_then(|code| std::str::from_utf8(code).ok());
        if let Some(byte) = code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            bytes.push(byte);
            rest = &after[3..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    PathBuf::from(OsStr::from_bytes(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_get_no_more_than_there_is() {
        assert_eq!(limits(None, Some(DEFAULT_LIMIT)), "[containers]\ndefault_ulimits = []\n");
        assert_eq!(
            limits(Some(20_000), Some(96_365)),
            "[containers]\ndefault_ulimits = [\"nofile=20000:20000\", \"nproc=96365:96365\"]\n"
        );
    }

    #[test]
    fn mounts_are_found_whatever_their_names() {
        let info = b"1 2 0:1 / / rw - ext4 /dev/vda rw\n\
            3 1 0:1 / /w/an\\040engine/storage/overlay rw,relatime shared:1 - ext4 /dev/vda rw\n\
            4 3 0:9 / /w/an\\040engine/storage/overlay/x/merged rw - overlay overlay rw\n\
            5 1 0:1 / /w/an\\040engine2 rw - ext4 /dev/vda rw\n";
        let below = mounts_below(info, Path::new("/w/an engine"));
        assert_eq!(below, ["/w/an engine/storage/overlay", "/w/an engine/storage/overlay/x/merged"].map(PathBuf::from));
    }

    #[test]
    fn a_folder_is_removed_with_all_that_is_in_it() {
        let parent = tempfile::tempdir().unwrap();
        let directory = EngineDir::at(&parent.path().join("engine"));
        directory.make(Driver::Vfs).unwrap();
        assert!(directory.log().is_ok());
        directory.remove().unwrap();
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
        directory.remove().expect("it is not there, which is what we want");
    }

    #[test]
    fn the_service_has_nothing_outside_its_folder() {
        let directory = EngineDir::at(Path::new("/w/engine"));
        let command = directory.service(Path::new("/usr/bin/podman"), Driver::Overlay);
        let text = command.join(OsStr::new(" ")).into_string().unwrap();
        assert_eq!(
            text,
            "/usr/bin/podman --root /w/engine/storage --runroot run/storage --tmpdir /w/engine/run/libpod \
             --storage-driver overlay --cgroup-manager cgroupfs --events-backend none system service --time=0 unix:///w/engine/podman.sock"
        );
    }
}
