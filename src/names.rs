//! The field's words as types that cannot hold a wrong value: hashes, image names, projects, task ids,
//! artifact names, push dates and index namespaces. Parsing happens here once; everything above trusts it.

use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};

/// Why a text is not the name that it was given for.
///
/// The message says what the name must look like; who asked for the name adds which setting it came from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {what}: {rule}")]
pub struct NameError {
    value: String,
    what: &'static str,
    rule: &'static str,
}

impl NameError {
    fn new(value: &str, what: &'static str, rule: &'static str) -> Self {
        // A name that is wrong can be anything, also a whole file: quote no more than a line of it.
        let value = value.chars().take(120).collect();
        Self { value, what, rule }
    }
}

/// A sha256 digest, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest that a finished sha256 hasher gives.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The sha256 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = || NameError::new(text, "a sha256 digest", "expected 64 lower-case hex digits");
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(error());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| error())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| error())?;
        }
        Ok(Self(bytes))
    }
}

/// The sha256 that names a context (contract, section 3), or what stands for it in the `.hash.` route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContextHash(pub Digest);

impl fmt::Display for ContextHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ContextHash {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.parse()
            .map(Self)
            .map_err(|_| NameError::new(text, "a context hash", "expected 64 lower-case hex digits (a sha256)"))
    }
}

/// How a context's hash is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HashScheme {
    /// sha256 of the uncompressed, deterministic context tar: taskgraph since version 12.
    #[default]
    Tar,
    /// sha256 over the sorted lines `{file sha256}\t/{path from the repository root}\n`: Gecko in 2015.
    Contents,
}

impl HashScheme {
    /// The scheme that this one is not.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Tar => Self::Contents,
            Self::Contents => Self::Tar,
        }
    }
}

impl fmt::Display for HashScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tar => "tar",
            Self::Contents => "contents",
        })
    }
}

impl FromStr for HashScheme {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "tar" => Ok(Self::Tar),
            "contents" => Ok(Self::Contents),
            _ => Err(NameError::new(text, "a hash scheme", "expected `tar` or `contents`")),
        }
    }
}

/// A text newtype whose only way in is a check.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                if $check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError::new(text, $what, $rule))
                }
            }
        }

        text_serde!($name);
    };
}

/// Serde as the text that `Display` writes and `FromStr` reads.
macro_rules! text_serde {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_serde!(Digest);
text_serde!(ContextHash);
text_serde!(HashScheme);

checked_text!(
    /// The name of an image: the name of its directory, one component of a docker repository name and of
    /// an index namespace at once.
    ImageName,
    "an image name",
    "expected lower-case letters and digits, joined by one `.`, one or two `_`, or any number of `-`, at most 128 characters",
    is_image_name
);

checked_text!(
    /// The project that an image is indexed for, `mozilla-central` for example.
    Project,
    "a project name",
    "expected characters that the index takes, [A-Za-z0-9_!~*'()%-], in parts joined by single dots",
    is_namespace
);

checked_text!(
    /// A Taskcluster task id: a slugid, a version 4 UUID in 22 characters of URL-safe base64.
    TaskId,
    "a task id",
    "expected a slugid, 22 characters of [A-Za-z0-9_-] that encode a version 4 UUID",
    is_slugid
);

checked_text!(
    /// The name of an artifact.
    ///
    /// Narrower than what the queue takes: other characters upload and then cannot be downloaded, because
    /// the queue builds its URLs without escaping.
    ArtifactName,
    "an artifact name",
    "expected [A-Za-z0-9._/-], no empty, `.` or `..` part, at most 1024 characters",
    is_artifact_name
);

checked_text!(
    /// A namespace of the index: a route without its leading `index.`.
    Namespace,
    "an index namespace",
    "the index takes [A-Za-z0-9_!~*'()%-] in parts joined by single dots, and at most 255 characters",
    is_index_namespace
);

checked_text!(
    /// The prefix of the routes, `index` or `index.` and a namespace.
    IndexPrefix,
    "a route prefix",
    "expected `index`, or `index.` followed by a namespace",
    is_index_prefix
);

checked_text!(
    /// A path inside a repository, relative, with `/` between its parts: `testing/docker/builder`.
    RepoPath,
    "a path inside a repository",
    "expected a relative path without empty, `.` or `..` parts",
    is_repo_path
);

impl ArtifactName {
    /// Whether the artifact is to be compressed with zstd.
    #[must_use]
    pub fn is_zstd(&self) -> bool {
        self.file_name().strip_suffix(".tar.zst").is_some()
    }

    /// Whether the artifact is a plain tar.
    #[must_use]
    pub fn is_tar(&self) -> bool {
        self.file_name().strip_suffix(".tar").is_some()
    }

    /// The last part of the name.
    #[must_use]
    pub fn file_name(&self) -> &str {
        last_part(&self.0)
    }
}

impl RepoPath {
    /// The last part of the path.
    #[must_use]
    pub fn file_name(&self) -> &str {
        last_part(&self.0)
    }
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// An `http:` or `https:` URL that prints without what could be a secret in it: no query, no user, no fragment.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl(reqwest::Url);

impl HttpUrl {
    /// The whole URL, for the request only.
    #[must_use]
    pub fn reveal(&self) -> &reqwest::Url {
        &self.0
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.clone();
        shown.set_query(None);
        shown.set_fragment(None);
        // These fail only for URLs without a host, which `from_str` refuses.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        f.write_str(shown.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for HttpUrl {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match reqwest::Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(Self(url)),
            // The text is not quoted: a mistyped URL can still hold a secret.
            _ => Err(NameError::new("this value", "a URL", "expected http://HOST/… or https://HOST/…")),
        }
    }
}

text_serde!(HttpUrl);

/// The time of a push, in UTC, to the second: what the `pushdate` route and the rank of an index entry are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PushDate(DateTime);

impl PushDate {
    /// Seconds since 1970-01-01T00:00:00Z: the rank of the push's index entries.
    #[must_use]
    pub fn epoch_seconds(self) -> i64 {
        self.0.to_zoned(TimeZone::UTC).map_or(0, |zoned: Zoned| zoned.timestamp().as_second())
    }

    /// `{year}.{month}-{day}-{pushtime}`, the tail of the `pushdate` route; pushtime is `HHMMSS`.
    #[must_use]
    pub fn route_tail(self) -> String {
        self.0.strftime("%Y.%m-%d-%H%M%S").to_string()
    }
}

impl fmt::Display for PushDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.strftime("%Y%m%d%H%M%S"))
    }
}

impl FromStr for PushDate {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = || {
            NameError::new(
                text,
                "a push date",
                "expected YYYYMMDDHHMMSS in UTC, or seconds since 1970 (up to 2038-01-19, the index's largest rank)",
            )
        };
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error());
        }
        let date = if text.len() == 14 {
            DateTime::strptime("%Y%m%d%H%M%S", text).map_err(|_| error())?
        } else {
            let seconds: i64 = text.parse().map_err(|_| error())?;
            let stamp = Timestamp::from_second(seconds).map_err(|_| error())?;
            stamp.to_zoned(TimeZone::UTC).datetime()
        };
        let date = Self(date);
        // The index stores ranks as 32 bit integers, and answers 500 to a larger one. A push before 1970
        // or in milliseconds is a mistake in the task, better said here.
        if (0..=i64::from(i32::MAX)).contains(&date.epoch_seconds()) { Ok(date) } else { Err(error()) }
    }
}

text_serde!(PushDate);

/// The three namespaces that an image is indexed under (contract, section 7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageNamespaces {
    /// `….latest`
    pub latest: Namespace,
    /// `….pushdate.{year}.{month}-{day}-{pushtime}`
    pub pushdate: Namespace,
    /// `….hash.{context_hash}`
    pub hash: Namespace,
}

impl ImageNamespaces {
    /// The namespaces of an image.
    ///
    /// # Errors
    /// When one of them is longer than the index can store.
    pub fn new(
        index: &IndexPrefix,
        project: &Project,
        image: &ImageName,
        pushdate: PushDate,
        hash: ContextHash,
    ) -> Result<Self, NameError> {
        let base = image_namespace(index, project, image);
        Ok(Self {
            latest: format!("{base}.latest").parse()?,
            pushdate: format!("{base}.pushdate.{}", pushdate.route_tail()).parse()?,
            hash: format!("{base}.hash.{hash}").parse()?,
        })
    }
}

/// `docker.images.v1.{project}.{image_name}`, below the prefix's own namespace.
fn image_namespace(index: &IndexPrefix, project: &Project, image: &ImageName) -> String {
    let below = index.as_str().strip_prefix("index").unwrap_or_default().trim_start_matches('.');
    let dot = if below.is_empty() { "" } else { "." };
    format!("{below}{dot}docker.images.v1.{project}.{image}")
}

fn is_image_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let joins = |run: &str| run == "." || run == "_" || run == "__" || run.bytes().all(|b| b == b'-');
    text.len() <= 128
        && text.bytes().next().is_some_and(plain)
        && text.bytes().last().is_some_and(plain)
        && text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(joins)
}

/// `/^([a-zA-Z0-9_!~*'()%-]+\.)*[a-zA-Z0-9_!~*'()%-]+$/`, the index service's own pattern.
fn is_namespace(text: &str) -> bool {
    text.split('.')
        .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_!~*'()%-".contains(&b)))
}

/// Longer namespaces are written by the index although it answers 500, and break listing for everybody.
fn is_index_namespace(text: &str) -> bool {
    text.len() <= 255 && is_namespace(text)
}

fn is_index_prefix(text: &str) -> bool {
    text == "index" || text.strip_prefix("index.").is_some_and(is_namespace)
}

/// The queue's own pattern for slugids.
fn is_slugid(text: &str) -> bool {
    let b = text.as_bytes();
    let url_safe = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    b.len() == 22
        && b.iter().copied().all(url_safe)
        && matches!(b[8], b'Q'..=b'T')
        && b"CGKOSWaeimquy26-".contains(&b[10])
        && b"AQgw".contains(&b[21])
}

fn is_artifact_name(text: &str) -> bool {
    text.len() <= 1024 && is_repo_path(text) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b))
}

fn is_repo_path(text: &str) -> bool {
    text.split('/').all(|part| !matches!(part, "" | "." | "..")) && !text.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts<T: FromStr>(good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(text.parse::<T>().is_ok(), "{text:?} should be accepted");
        }
        for text in bad {
            assert!(text.parse::<T>().is_err(), "{text:?} should be refused");
        }
    }

    #[test]
    fn digests() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), hex);
        assert_eq!(hex.parse::<Digest>(), Ok(Digest::of(b"")));
        accepts::<ContextHash>(&[hex], &["", &hex[1..], &hex.to_uppercase(), &hex.replace('e', "g"), "é"]);
    }

    #[test]
    fn image_names() {
        accepts::<ImageName>(
            &["builder", "gcc-4.4", "a", "a__b", "a--b", "debian12-amd64", "0"],
            &["", "Builder", "a/b", "a:b", "-a", "a-", "a..b", "a___b", "a._b", "ü", "a b", &"a".repeat(129)],
        );
    }

    #[test]
    fn projects_and_prefixes() {
        accepts::<Project>(&["mozilla-central", "try", "a.b"], &["", "a..b", "a/b", "a b", "a.", "a+b"]);
        accepts::<IndexPrefix>(&["index", "index.garbage.staging"], &["", "index.", "indexes", "docker"]);
    }

    #[test]
    fn task_ids() {
        accepts::<TaskId>(&["fN1SbArXTPSVFNUvaOlinQ"], &["", "fN1SbArXTPSVFNUvaOlinR", "fN1SbArXAPSVFNUvaOlinQ", "x"]);
    }

    #[test]
    fn artifact_names() {
        accepts::<ArtifactName>(
            &["public/image.tar", "public/docker-contexts/builder.tar.gz"],
            &["", "/a", "a//b", "a/../b", "./a", "a b", "a%20b", "a+b", "ü"],
        );
    }

    #[test]
    fn push_dates_have_two_notations() {
        let a: PushDate = "20151209123456".parse().unwrap();
        let b: PushDate = "1449664496".parse().unwrap();
        assert_eq!(a, b);
        assert_eq!(a.epoch_seconds(), 1_449_664_496);
        assert_eq!(a.route_tail(), "2015.12-09-123456");
        assert_eq!(b.to_string(), "20151209123456");
        accepts::<PushDate>(
            &["0", "2147483647"],
            &["", "-1", "1449664496000", "2147483648", "20151309123456", "2015-12-09"],
        );
    }

    #[test]
    fn urls_print_without_secrets() {
        let url: HttpUrl = "https://me:pw@example.com/a/b?X-Amz-Signature=1#f".parse().unwrap();
        assert_eq!(url.to_string(), "https://example.com/a/b");
        assert_eq!(format!("{url:?}"), "https://example.com/a/b");
        assert!(url.reveal().as_str().contains("Signature"));
        accepts::<HttpUrl>(&["http://localhost:1"], &["", "ftp://x/", "file:///etc/passwd", "example.com"]);
    }

    #[test]
    fn namespaces_of_an_image() {
        let hash = ContextHash(Digest::of(b""));
        let of = |index: &str, image: &str| {
            ImageNamespaces::new(
                &index.parse().unwrap(),
                &"mozilla-central".parse().unwrap(),
                &image.parse().unwrap(),
                "20151209123456".parse().unwrap(),
                hash,
            )
        };
        let names = of("index", "builder").unwrap();
        assert_eq!(names.latest.as_str(), "docker.images.v1.mozilla-central.builder.latest");
        assert_eq!(names.pushdate.as_str(), "docker.images.v1.mozilla-central.builder.pushdate.2015.12-09-123456");
        assert_eq!(names.hash.as_str(), format!("docker.images.v1.mozilla-central.builder.hash.{hash}"));
        let staging = of("index.garbage", "builder").unwrap();
        assert_eq!(staging.latest.as_str(), "garbage.docker.images.v1.mozilla-central.builder.latest");
        let long = of(&format!("index.{}", "x".repeat(64)), &"a".repeat(128));
        assert!(long.is_err(), "the index cannot store more than 255 characters");
    }
}
