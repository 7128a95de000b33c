//! A Docker daemon of a test's own, which can be killed, stopped and started again. It runs in namespaces of its own:
//! it cannot touch the machine's networks and daemons, and whatever way it ends, its processes and mounts end with it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::{docker, docker_output, path};

/// What must be hidden before a daemon starts: a second daemon would take a running containerd for its own.
const SCRIPT: &str = "mount -t tmpfs tmpfs /run && exec \"$@\"";

/// The same, with the socket that it is given.
const ACTIVATED: &str = "mount -t tmpfs tmpfs /run && exec 3<&0 </dev/null && LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"";

/// Where cgroups are; of all kernels in use.
const CGROUPS: &str = "/sys/fs/cgroup";

pub(super) struct Dockerd {
    directory: TempDir,
    /// The daemon's parent, which runs until all processes of the daemon's namespace are gone. None when killed.
    unshare: Option<Child>,
    /// The network namespace that it starts from, where it is not the test's own: a process in it.
    network_of: Option<u32>,
    /// Whether it has a bridge.
    has_bridge: bool,
    /// The socket that it is given, as systemd gives its own, where the test listens in its place.
    listener: Option<UnixListener>,
}

impl Dockerd {
    /// Starts a daemon on an empty directory. Where the machine cannot do that it returns the reason.
    pub(super) fn start() -> Result<Self, String> {
        Self::start_in(&std::env::temp_dir())
    }

    /// Starts a daemon that has all it writes in `parent`.
    pub(super) fn start_in(parent: &Path) -> Result<Self, String> {
        Self::start_from(None, parent)
    }

    /// As `start_in`, from the network of another process.
    fn start_from(network_of: Option<u32>, parent: &Path) -> Result<Self, String> {
        let directory = TempDir::with_prefix_in("image-worker-dockerd-", parent).unwrap();
        Self { directory, unshare: None, network_of, has_bridge: false, listener: None }.started()
    }

    /// As `start`, with a bridge, which is in its own network too.
    pub(super) fn start_with_a_bridge() -> Result<Self, String> {
        let directory = TempDir::with_prefix("image-worker-dockerd-").unwrap();
        Self { directory, unshare: None, network_of: None, has_bridge: true, listener: None }.started()
    }

    /// As `start`; its socket stays when it ends, and requests then wait until it is there again.
    pub(super) fn start_activated() -> Result<Self, String> {
        let directory = TempDir::with_prefix("image-worker-dockerd-").unwrap();
        let listener = Some(UnixListener::bind(directory.path().join("docker.sock")).unwrap());
        Self { directory, unshare: None, network_of: None, has_bridge: false, listener }.started()
    }

    fn started(mut self) -> Result<Self, String> {
        std::fs::write(self.path("daemon.json"), "{}").unwrap();
        self.start_again()?;
        Ok(self)
    }

    /// Starts the daemon again after it was killed, on the same directory.
    pub(super) fn start_again(&mut self) -> Result<(), String> {
        assert!(self.unshare.is_none(), "it runs");
        // The daemon would trust the numbers in them, which begin at 1 again.
        for file in ["pid", "exec/containerd/containerd.pid"] {
            let _ = std::fs::remove_file(self.path(file));
        }
        if self.listener.is_none() {
            let _ = std::fs::remove_file(self.path("docker.sock"));
        }
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        // If the test is killed, the first of them dies with it, and the others with the first.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(self.network_of.map(nsenter).into_iter().flatten());
        // --net: without a bridge of its own, a daemon removes the network's docker0, even if it is another daemon's.
        let own = "unshare --net --mount --pid --fork --kill-child --mount-proc -- sh -c";
        let (script, host) = match self.listener {
            Some(_) => (ACTIVATED, "fd://".to_owned()),
            None => (SCRIPT, self.host()),
        };
        command.args(own.split(' ')).args([script, "sh", "dockerd", "--host", &host]);
        for (option, name) in
            [("config-file", "daemon.json"), ("data-root", "data"), ("exec-root", "exec"), ("pidfile", "pid")]
        {
            command.arg(format!("--{option}")).arg(self.path(name));
        }
        command.args(["--iptables=false", "--ip6tables=false"]);
        if !self.has_bridge {
            command.arg("--bridge=none");
        }
        command.args(["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", &format!("/{}", self.name())]);
        let stdin = self.listener.as_ref().map(|it| Stdio::from(OwnedFd::from(it.try_clone().unwrap())));
        command.stdin(stdin.unwrap_or_else(Stdio::null)).stdout(log.try_clone().unwrap()).stderr(log);
        self.unshare = Some(command.spawn().map_err(|error| format!("no setpriv: {error}"))?);
        let limit = Instant::now() + Duration::from_mins(1);
        while !docker(&["--host", &self.host(), "version"]).status.success() {
            let ended = self.unshare.as_mut().and_then(|child| child.try_wait().unwrap()).is_some();
            if ended || Instant::now() >= limit {
                let log = std::fs::read_to_string(self.path("log")).unwrap();
                let last: Vec<_> = log.lines().rev().take(3).collect();
                return Err(format!("a daemon of the test's own does not start: {}", last.join("; ")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// What `DOCKER_HOST` must be.
    pub(super) fn host(&self) -> String {
        format!("unix://{}", path(&self.path("docker.sock")))
    }

    /// What the docker client prints, when it must succeed.
    pub(super) fn client_output(&self, arguments: &[&str]) -> String {
        docker_output(&[&["--host", &self.host()], arguments].concat())
    }

    /// How many bytes the daemon has in its directory for what is unfinished, in files whose path has this part.
    pub(super) fn unfinished(&self, part: &str) -> u64 {
        size(&self.path("data/tmp"), part)
    }

    /// Kills the daemon, its containerd, and all that they have started, and waits until they are gone.
    pub(super) fn kill(&mut self) {
        // It is the first process of its namespace: none outlives it.
        self.signal("KILL");
        self.unshare.take().expect("it runs").wait().unwrap();
    }

    /// Makes the daemon end by a signal, as an update of it does, and starts it again.
    pub(super) fn restart(&mut self) {
        self.signal("TERM");
        self.unshare.take().expect("it runs").wait().unwrap();
        self.start_again().unwrap();
    }

    /// Removes the daemon's bridge.
    pub(super) fn remove_bridge(&self) {
        let daemon = self.daemon().expect("it runs").parse().unwrap();
        let [program, arguments @ ..] = nsenter(daemon);
        let removed = Command::new(program).args(arguments).args(["ip", "link", "delete", "docker0"]).status();
        assert!(removed.unwrap().success(), "no bridge");
    }

    /// Stops the daemon: requests wait.
    pub(super) fn stop(&self) {
        self.signal("STOP");
    }

    /// Continues the daemon.
    pub(super) fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let daemon = self.daemon().expect("it runs");
        let sent = Command::new("kill").args([&format!("-{signal}"), &daemon]).status();
        assert!(sent.unwrap().success(), "kill -{signal} {daemon}");
    }

    /// The daemon's process id: it is the only child of `unshare`.
    fn daemon(&self) -> Option<String> {
        let parent = self.unshare.as_ref()?.id();
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
        children.split_whitespace().next().map(str::to_owned)
    }

    /// Ends the daemon, and asserts that nothing of it is left: no process, no mount, no cgroup, no file.
    pub(super) fn end(mut self) {
        let directory = self.directory.path().to_owned();
        let cgroups = self.cgroups();
        self.remove();
        drop(self);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(path(&directory)), "mounts are left:\n{mounts}");
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(command) = std::fs::read(process.path().join("cmdline")) else { continue };
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            assert!(!command.contains(path(&directory)), "a process is left: {command}");
        }
        let left: Vec<_> = cgroups.iter().filter(|cgroup| cgroup.exists()).collect();
        assert!(left.is_empty(), "cgroups are left: {left:?}");
        assert!(!directory.exists(), "{} is left", directory.display());
    }

    fn remove(&mut self) {
        if let Some(daemon) = self.daemon() {
            let _ = Command::new("kill").args(["-KILL", &daemon]).status();
        }
        if let Some(mut unshare) = self.unshare.take() {
            let _ = unshare.wait();
        }
        self.cgroups().iter().for_each(|cgroup| remove_cgroup(cgroup));
    }

    /// The cgroups of its containers, which do not go with their processes.
    fn cgroups(&self) -> Vec<PathBuf> {
        let controllers = std::fs::read_dir(CGROUPS).into_iter().flatten().flatten().map(|entry| entry.path());
        let all = controllers.chain([CGROUPS.into()]).map(|directory| directory.join(self.name()));
        all.filter(|cgroup| cgroup.exists()).collect()
    }

    fn name(&self) -> &str {
        self.directory.path().file_name().unwrap().to_str().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        self.remove();
    }
}

/// How a command begins that runs in a process's network.
fn nsenter(process: u32) -> [String; 3] {
    ["nsenter".to_owned(), format!("--net=/proc/{process}/ns/net"), "--".to_owned()]
}

fn remove_cgroup(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(directory);
}

/// How many bytes the files below a directory have whose path has this part. Files may come and go meanwhile.
pub(super) fn size(directory: &Path, part: &str) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        bytes += match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size(&entry.path(), part),
            Ok(metadata) if entry.path().to_string_lossy().contains(part) => metadata.len(),
            _ => 0,
        };
    }
    bytes
}

/// The size of the largest file without a name that a program has open in a directory.
pub(super) fn unnamed(directory: &Path) -> u64 {
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|process| process.path().join("fd"));
    let open = processes.filter_map(|files| std::fs::read_dir(files).ok()).flatten().flatten().map(|file| file.path());
    let ours = open.filter(|file| {
        let name = std::fs::read_link(file).unwrap_or_default();
        name.starts_with(directory) && name.to_string_lossy().ends_with(" (deleted)")
    });
    ours.filter_map(|file| Some(std::fs::metadata(file).ok()?.len())).max().unwrap_or_default()
}

#[test]
fn a_daemon_of_a_tests_own_leaves_docker0_to_its_owner() {
    // A network with another engine's bridge, which is there as long as this process.
    let script = "ip link add docker0 type bridge && echo made && cat";
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "sh", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut owner = unshare.spawn().unwrap();
    let mut made = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut made).unwrap();
    let [program, arguments @ ..] = nsenter(owner.id());
    let there = || Command::new(&program).args(&arguments).args(["ip", "link", "show", "docker0"]).output().unwrap();
    let started = if made == "made\n" {
        Dockerd::start_from(Some(owner.id()), &std::env::temp_dir())
    } else {
        Err("no bridge can be made".to_owned())
    };
    match started {
        Ok(dockerd) => {
            dockerd.client_output(&["version"]);
            dockerd.end();
            assert!(there().status.success(), "docker0 is gone: {:?}", there());
        }
        Err(reason) => {
            assert!(std::env::var_os("IMAGE_WORKER_NO_SKIP").is_none(), "{reason}; run this as root");
            eprintln!("SKIPPED: {reason}");
        }
    }
    drop(owner.stdin.take());
    owner.wait().unwrap();
}
