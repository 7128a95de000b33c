//! Explains why a managed engine does not work here, and what is missing: first from facts about this process, then from the
//! output of Podman. These texts are for people; no other module makes decisions from them.

use std::fs;

use crate::engine::Podman;

/// What an unprivileged Podman depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HostInfo {
    uid: u32,
    /// The user's name, or its number if it has no name.
    user: String,
    subordinates: bool,
    mappers: bool,
    no_new_privileges: bool,
    /// The kernel's mode of filtering system calls: 2 is a filter, for example that of a container.
    seccomp: u8,
    /// The capabilities that programs can get.
    bounding: u64,
    effective: u64,
    /// How many user namespaces the kernel allows.
    namespaces: Option<u64>,
}

const SETGID: u64 = 1 << 6;
const SETUID: u64 = 1 << 7;
const SYS_ADMIN: u64 = 1 << 21;

impl HostInfo {
    /// Reads the state of this process and its system.
    pub(super) fn read(podman: &Podman) -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let uid = rustix::process::geteuid().as_raw();
        let user = name_of(&passwd, uid).unwrap_or_else(|| uid.to_string());
        let ranges = |file: &str| has_range(&fs::read_to_string(file).unwrap_or_default(), &user, uid);
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let mask = |name: &str| field(name).and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(u64::MAX);
        let namespaces = fs::read_to_string("/proc/sys/user/max_user_namespaces");
        Self {
            uid,
            subordinates: ranges("/etc/subuid") && ranges("/etc/subgid"),
            user,
            mappers: podman.beside("newuidmap").is_some() && podman.beside("newgidmap").is_some(),
            no_new_privileges: field("NoNewPrivs:") == Some("1"),
            seccomp: field("Seccomp:").and_then(|mode| mode.parse().ok()).unwrap_or_default(),
            bounding: mask("CapBnd:"),
            effective: mask("CapEff:"),
            namespaces: namespaces.ok().and_then(|number| number.trim().parse().ok()),
        }
    }
}

fn name_of(passwd: &str, uid: u32) -> Option<String> {
    let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let uid = uid.to_string();
    fields.into_iter().find(|fields| fields.get(2) == Some(&uid.as_str())).map(|fields| fields[0].to_owned())
}

/// Whether a user has subordinate ids: enough for the users of a usual image.
fn has_range(ranges: &str, user: &str, uid: u32) -> bool {
    let uid = uid.to_string();
    ranges.lines().map(|line| line.split(':').collect::<Vec<_>>()).any(|fields| {
        fields.first().is_some_and(|name| *name == user || *name == uid) && fields.get(2).is_some_and(|n| *n != "0")
    })
}

/// The reason why no attempt can work, with what to do about it.
pub(super) fn preflight(host: &HostInfo) -> Option<String> {
    if host.uid == 0 {
        return None;
    }
    let user = &host.user;
    if !host.mappers {
        return Some("there is no newuidmap and newgidmap: install them (Debian: apt-get install uidmap)".to_owned());
    }
    if !host.subordinates {
        return Some(format!(
            "the user {user} has no subordinate ids: add the line `{user}:100000:65536` to /etc/subuid and to /etc/subgid"
        ));
    }
    if host.no_new_privileges {
        return Some(
            "newuidmap may not get its privilege: start the container without --security-opt no-new-privileges (Kubernetes: allowPrivilegeEscalation)".to_owned(),
        );
    }
    if host.bounding & (SETUID | SETGID) != SETUID | SETGID {
        return Some(
            "newuidmap and newgidmap lack a capability: start the container with --cap-add SETUID --cap-add SETGID"
                .to_owned(),
        );
    }
    None
}

/// The log and the answer of a service that did not work, without warnings: Podman works without what they are about.
pub(super) fn relevant_lines(log: &str, answer: &str) -> String {
    let lines = log.lines().filter(|line| !line.contains("level=warning")).chain(answer.lines());
    let lines: Vec<_> = lines.map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("\n")
}

/// Parts of Podman's output, and the missing option that each indicates. The first match counts.
const HINTS: &[(&str, &str)] = &[
    ("newuidmap", MAPPERS),
    ("newgidmap", MAPPERS),
    ("uid_map", MAPPERS),
    ("apparmor", "AppArmor refuses mounts: start the container with --security-opt apparmor=unconfined"),
    ("chroot", "RUN steps may not change their root: start the container with --cap-add SYS_CHROOT"),
    ("no space left", "the disk is full: choose a folder on another with --work-dir"),
    ("read-only file system", "the folder cannot be written: choose another with --work-dir"),
];

const MAPPERS: &str = "newuidmap may not write the ids of the user namespace: give it its privilege by file capabilities, \
    setcap cap_setuid+ep newuidmap, setcap cap_setgid+ep newgidmap (Debian's have the setuid bit, which needs --cap-add SYS_ADMIN)";

/// What to do about an engine that was tried and does not work.
pub(super) fn hint(host: &HostInfo, output: &str) -> String {
    let text = output.to_lowercase();
    if host.namespaces == Some(0) {
        return "the kernel allows no user namespaces: set user.max_user_namespaces to some thousand".to_owned();
    }
    if host.effective & SYS_ADMIN == 0 && host.seccomp == 2 && (text.contains("clone") || text.contains("unshare")) {
        return "the container's filter of system calls refuses user namespaces: start it with --security-opt \
            seccomp=unconfined, or with seccomp=/usr/share/containers/seccomp.json (and then --cap-add SYS_CHROOT)"
            .to_owned();
    }
    if let Some((_, hint)) = HINTS.iter().find(|(words, _)| text.contains(words)) {
        return (*hint).to_owned();
    }
    if host.uid == 0 && host.effective & SYS_ADMIN == 0 && text.contains("not permitted") {
        return "root in this container lacks privileges: use the worker image as user 1000, as docs/engines.md says"
            .to_owned();
    }
    "docs/engines.md says what a container needs; give an engine's socket in DOCKER_HOST otherwise".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine() -> HostInfo {
        HostInfo {
            uid: 1000,
            user: "worker".to_owned(),
            subordinates: true,
            mappers: true,
            bounding: SETUID | SETGID,
            ..HostInfo::default()
        }
    }

    #[test]
    fn what_is_missing_is_named_before_anything_is_tried() {
        assert_eq!(preflight(&fine()), None);
        assert_eq!(preflight(&HostInfo::default()), None);
        for (host, words) in [
            (HostInfo { mappers: false, ..fine() }, "apt-get install uidmap"),
            (HostInfo { subordinates: false, ..fine() }, "the line `worker:100000:65536`"),
            (HostInfo { no_new_privileges: true, ..fine() }, "without --security-opt no-new-privileges"),
            (HostInfo { bounding: SETUID, ..fine() }, "--cap-add SETUID --cap-add SETGID"),
        ] {
            let reason = preflight(&host).expect(words);
            assert!(reason.contains(words), "{reason}");
        }
    }

    #[test]
    fn podmans_words_lead_to_the_missing_option() {
        let filtered = HostInfo { seccomp: 2, ..fine() };
        for (host, output, words) in [
            (&filtered, "cannot clone: Operation not permitted\nError: cannot re-exec process", "seccomp=unconfined"),
            (&fine(), "running `/usr/bin/newuidmap`: write to uid_map failed: Operation not permitted", "setcap"),
            (&fine(), "write /x: no space left on device", "--work-dir"),
            (&fine(), "something else", "docs/engines.md"),
            (&HostInfo { namespaces: Some(0), ..fine() }, "cannot clone", "user.max_user_namespaces"),
        ] {
            let hint = hint(host, output);
            assert!(hint.contains(words), "{output}: {hint}");
        }
    }

    #[test]
    fn users_and_their_ranges_are_read() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nworker:x:1000:1000::/home/worker:/bin/sh\n";
        assert_eq!(name_of(passwd, 1000).as_deref(), Some("worker"));
        assert_eq!(name_of(passwd, 100), None);
        assert!(has_range("worker:100000:65536\n", "worker", 1000) && has_range("1000:1:65536", "worker", 1000));
        assert!(!has_range("worker2:100000:65536\nworker:1:0\n", "worker", 1000));
    }
}
