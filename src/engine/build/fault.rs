//! Classifies the cause of a failed build with one table of engine messages. If a command exits with a code, the `Dockerfile`
//! is the cause; so it is for messages that the table does not have. The output of commands is never read.

use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};

/// The cause of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The `Dockerfile`, or a command that it runs.
    Dockerfile,
    /// The registry has no such image.
    Missing,
    /// The registry does not allow the engine to pull, or the engine does not trust the registry.
    Denied,
    /// A temporary problem of a registry or of the network.
    Registry,
    /// The engine.
    Engine,
    /// The engine, but the next attempt can succeed: another process removed something that it had just found or used.
    Transient,
}

/// Patterns of engine messages; the first match counts. The tests have the messages that the patterns come from.
const TABLE: [(Fault, &str); 7] = [
    // The engine's disk, memory and files.
    (Fault::Engine, ENGINE_ERRORS),
    // A cached step, a base image or a layer was removed during the build: the next attempt builds or pulls it again.
    (
        Fault::Transient,
        r#"no such image: |unable to find image "?sha256:|layer does not exist|layer not known|parent snapshot \S+ does not exist|lease does not exist"#,
    ),
    // The engine's network, storage and processes, and its shutdown. The first pattern is moby#47717.
    (
        Fault::Engine,
        r#""https?://build-context-|network bridge not found|failed to create endpoint \S+ on network|failed to register layer|error creating overlay mount|ttrpc: closed|transport is closing|code = unavailable|context canceled$"#,
    ),
    (
        Fault::Registry,
        r"toomanyrequests|too many requests|\b5\d\d (internal server error|bad gateway|service unavailable|gateway time-?out)|error parsing http (429|5\d\d) response",
    ),
    // Errors of Go's network library.
    (
        Fault::Registry,
        r"connection refused|connection reset by peer|connection timed out|broken pipe|no such host|server misbehaving|temporary failure in name resolution|network is unreachable|no route to host|i/o timeout|tls handshake timeout|client\.timeout|deadline exceeded|request canceled|unexpected eof|: eof$",
    ),
    (
        Fault::Denied,
        r"(^|: )(unauthorized|denied): |pull access denied|40[13] (unauthorized|forbidden)|no active sessions|no basic auth credentials|authorization failed|authentication required|insufficient_scope|x509: |first record does not look like a tls handshake|server gave http response to https client",
    ),
    (
        Fault::Missing,
        // BuildKit's error for a missing image names a tag or a digest. Its error for a missing file is `"/file": not found`.
        r#"manifest unknown|name unknown|manifest for \S+ not found|404 not found|(^|: )[^\s"]+[:@][^\s"]+: not found$"#,
    ),
];

/// Errors of the engine itself, which any request can get.
const ENGINE_ERRORS: &str = "no space left on device|disk quota exceeded|input/output error|read-only file system|too many open files|cannot allocate memory";

/// How a message of `BuildKit` or Podman ends if a command ran and failed. The classic builder has a field for the exit code.
static EXIT_CODE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?:non-zero code: |exit status |exit code: )([0-9]+)\s*$").ok());

static COMPILED: LazyLock<Vec<(Fault, Regex)>> =
    LazyLock::new(|| TABLE.iter().filter_map(|(fault, pattern)| Some((*fault, regex(pattern)?))).collect());

fn regex(pattern: &str) -> Option<Regex> {
    RegexBuilder::new(pattern).case_insensitive(true).multi_line(true).build().ok()
}

/// The host in a message about a failed name lookup.
static LOOKUP: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\blookup (\S+?)(?: on \S+)?: ").ok());

impl Fault {
    /// The cause of a failed build, by the engine's message. `exit_code` is the exit code of a command. `runs` is true if a
    /// command was about to run: such a step contacts no registry.
    pub(in crate::engine) fn of(message: &str, exit_code: Option<i64>, runs: bool) -> Self {
        if exit_code.is_some() {
            return Self::Dockerfile;
        }
        let mut known = COMPILED.iter().filter(|(fault, _)| !runs || matches!(fault, Self::Engine | Self::Transient));
        known.find(|(_, pattern)| pattern.is_match(message)).map_or(Self::Dockerfile, |(fault, _)| *fault)
    }
}

/// The exit code in a message about a failed command.
pub(in crate::engine) fn exit_code(message: &str) -> Option<i64> {
    EXIT_CODE.as_ref()?.captures(message)?.get(1)?.as_str().parse().ok()
}

/// The host in a message about a name that could not be resolved.
pub(super) fn unresolved(message: &str) -> Option<&str> {
    Some(LOOKUP.as_ref()?.captures(message)?.get(1)?.as_str())
}

/// Whether a message is about a registry's pull limit.
pub(super) fn is_limit(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("toomanyrequests") || message.contains("too many requests")
}

/// Whether a message is about a problem of the engine itself, and not of its input.
pub(in crate::engine) fn is_own_trouble(message: &str) -> bool {
    matches!(Fault::of(message, None, true), Fault::Engine | Fault::Transient)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages observed from engines: Docker 20.10's classic builder (c), its `BuildKit` (b), Podman 4.3 (p).
    const OBSERVED: &[(Fault, &[&str])] = &[
        (
            Fault::Registry,
            &[
                // c
                "toomanyrequests: You have reached your pull rate limit.",
                "received unexpected HTTP status: 500 Internal Server Error",
                "invalid from flag value 127.0.0.1:5599/503/img:1: received unexpected HTTP status: 503 Service Unavailable",
                "Head \"http://127.0.0.1:5599/v2/reset/img/manifests/1\": read tcp 127.0.0.1:50404->127.0.0.1:5599: read: connection reset by peer",
                "Get \"http://127.0.0.1:9/v2/\": dial tcp 127.0.0.1:9: connect: connection refused",
                "Get \"https://nosuch.invalid/v2/\": dial tcp: lookup nosuch.invalid on 10.0.0.53:53: no such host",
                // b
                "pulling from host 127.0.0.1:5599 failed with status code [manifests 1]: 429 Too Many Requests",
                "failed to load cache key: pulling from host 127.0.0.1:5599 failed with status code [manifests 1]: 504 Gateway Timeout",
                "failed to load cache key: failed to do request: Head \"https://nosuch.invalid/v2/x/img/manifests/1\": dial tcp: lookup nosuch.invalid on 10.0.0.53:53: no such host",
                // p
                "creating build container: initializing source docker://127.0.0.1:5599/503/img:1: reading manifest 1 in 127.0.0.1:5599/503/img: received unexpected HTTP status: 503 Service Unavailable\n",
                "creating build container: initializing source docker://127.0.0.1:9/x/img:1: pinging container registry 127.0.0.1:9: Get \"https://127.0.0.1:9/v2/\": dial tcp 127.0.0.1:9: connect: connection refused\n",
            ],
        ),
        (
            Fault::Denied,
            &[
                "unauthorized: said by the test",
                "pull access denied for a/b, repository does not exist or may require 'docker login': denied: said by the test",
                "failed to load cache key: pulling from host 127.0.0.1:5599 failed with status code [manifests 1]: 403 Forbidden",
                "failed to load cache key: no active sessions",
                "creating build container: initializing source docker://127.0.0.1:5599/401/img:1: reading manifest 1 in 127.0.0.1:5599/401/img: unauthorized: said by the test\n",
                "pinging container registry 127.0.0.1:5599: Get \"https://127.0.0.1:5599/v2/\": tls: first record does not look like a TLS handshake\n",
            ],
        ),
        (
            Fault::Missing,
            &[
                "manifest for 127.0.0.1:5599/404/img:1 not found: manifest unknown: said by the test",
                "failed to load cache key: 127.0.0.1:5599/404/img:1: not found",
                "127.0.0.1:5599/404/img:1: not found",
                "creating build container: initializing source docker://127.0.0.1:5599/404/img:1: reading manifest 1 in 127.0.0.1:5599/404/img: manifest unknown: said by the test\n",
            ],
        ),
        (
            Fault::Engine,
            &[
                "Error processing tar file(exit status 1): write /data: no space left on device",
                "failed to read downloaded context: failed to load cache key: Get \"http://build-context-1\": dial tcp: lookup build-context-1: no such host",
                "network bridge not found",
            ],
        ),
        (
            Fault::Transient,
            &[
                // The image had been pulled, and another process removed it.
                "invalid from flag value quay.io/a/b:1: No such image: quay.io/a/b:1",
                // c, FROM scratch with a layer cache: the builder reads all images, and another process removes one.
                "unable to find image \"sha256:393f7bf16adfb6adb03b291f4610b708dfeb23f6b8dd5951cf415870c8ecadba\"",
                // Another process removed an image with the same layer: Podman 5, and BuildKit on containerd's image store.
                "writing blob: adding layer with blob \"sha256:fd57e869\"/\"\"/\"sha256:fd57e869\": layer not known",
                "failed to prepare sha256:5f70bf18 as abc: parent snapshot sha256:5f70bf18 does not exist: not found",
                // Docker 28's classic builder on that store, in any step, while other builds run.
                "failed to open writer: lease does not exist: not found",
            ],
        ),
        (
            Fault::Dockerfile,
            &[
                "dockerfile parse error line 2: unknown instruction: FOO",
                "failed to compute cache key: \"/nosuch\" not found: not found",
                "COPY failed: file not found in build context or excluded by .dockerignore: stat nosuch: file does not exist",
                "invalid from flag value nosuch: stage nosuch: not found",
            ],
        ),
    ];

    #[test]
    fn what_engines_say_is_told_apart() {
        assert_eq!(COMPILED.len(), TABLE.len(), "each pattern is one");
        for (fault, messages) in OBSERVED {
            for message in *messages {
                assert_eq!(Fault::of(message, None, false), *fault, "{message}");
            }
        }
    }

    #[test]
    fn names_that_nobody_knows_are_read() {
        for (message, host) in [
            ("Get \"https://nosuch.invalid/v2/\": dial tcp: lookup nosuch.invalid on 10.0.0.53:53: no such host", true),
            ("dial tcp: lookup nosuch.invalid: Temporary failure in name resolution", true),
            ("dial tcp: lookup nosuch.invalid on [::1]:53: read udp [::1]:4->[::1]:53: connection refused", true),
            ("dial tcp 127.0.0.1:9: connect: connection refused", false),
        ] {
            assert_eq!(unresolved(message), host.then_some("nosuch.invalid"), "{message}");
        }
    }

    #[test]
    fn a_command_that_fails_is_the_dockerfiles_fault_whatever_stands_in_it() {
        let command = "executor failed running [/bin/sh -c echo 503 Service Unavailable; false]: exit code: 1";
        for (message, code) in [
            (command, 1),
            ("The command '/bin/sh -c echo no space left on device; exit 3' returned a non-zero code: 3", 3),
            ("building at STEP \"RUN curl x || echo connection refused\": while running runtime: exit status 7\n", 7),
        ] {
            assert_eq!(exit_code(message), Some(code), "{message}");
            assert_eq!(Fault::of(message, exit_code(message), true), Fault::Dockerfile, "{message}");
        }
        // A command that cannot start.
        let none = "OCI runtime create failed: exec: \"connection refused\": stat connection refused: no such file or directory";
        assert_eq!((exit_code(none), Fault::of(none, None, true)), (None, Fault::Dockerfile));
        assert_eq!(exit_code("Error processing tar file(exit status 1): write /data: no space left on device"), None);
    }
}
