//! Values that must not be printed although the program passes them on: credentials, signed URLs, build arguments with names of
//! secrets, and a build's secrets. Code that receives one registers it here. The log, and all code that cuts a text or writes it
//! into a document, hides it in all its known forms.

mod forms;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use aho_corasick::AhoCorasick;
use regex::Regex;
use reqwest::Url;

/// The replacement of a secret.
const HIDDEN: &str = "[hidden]";

/// So many signed URLs are remembered. A server that repeats one does so in its answer.
const SIGNED_URLS: usize = 64;

/// Parts of a name that make its value a secret, as such names are in use.
const TELLING: [&str; 7] = ["token", "secret", "passw", "passphrase", "credential", "signature", "bewit"];

/// Parts of names that count too.
const TELLING_WORDS: [&str; 4] = ["pass", "pat", "sig", "pwd"];

/// Values of such names that are none: switches.
const NO_SECRETS: [&str; 8] = ["true", "false", "none", "null", "auto", "default", "enabled", "disabled"];

/// Passwords in URLs, authorization headers and the parameters of signed URLs: hidden even if not registered.
/// Classes are of ASCII where that is enough: a repeated `\w` of Unicode takes megabytes.
static PATTERNS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let patterns = [
        // scheme://user:password@host, or a long token instead; not NAME@sha256:DIGEST.
        r#"[a-zA-Z][a-zA-Z0-9+.-]*://(?:[^\s/?\#"'<>@:]*:[^\s/?\#"'<>@]+|[^\s/?\#"'<>@]{16,})@"#,
        r"(?i)\b(?:X-Amz-(?:Signature|Credential|Security-Token)|AWSAccessKeyId|Signature|bewit)(?:=|%3D)[^\s&<>]+",
        r"(?i)\bHawk\s+id=.*",
        r"(?i)\b(?:proxy-)?authorization[^0-9A-Za-z_\n]{1,6}(?:(?:bearer|basic|token)\s+)?\S{8,}",
        r"(?i)\bx-(?:registry-auth|amz-security-token)[^0-9A-Za-z_\n]{1,6}\S{8,}",
    ];
    patterns.iter().filter_map(|pattern| Regex::new(pattern).ok()).collect()
});

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// All that is hidden, as the log is of the whole process.
#[derive(Default)]
struct Known {
    values: BTreeSet<String>,
    of_urls: VecDeque<BTreeSet<String>>,
    /// Built at its first use, after other secrets were added.
    matcher: Option<Arc<Matcher>>,
}

#[derive(Default)]
struct Matcher {
    /// None if there is nothing to look for.
    values: Option<AhoCorasick>,
    longest: usize,
}

fn known() -> MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    fn matcher(&mut self) -> Arc<Matcher> {
        let (values, of_urls) = (&self.values, &self.of_urls);
        let matcher = self.matcher.get_or_insert_with(|| {
            let all: BTreeSet<_> = values.iter().chain(of_urls.iter().flatten()).collect();
            let longest = all.iter().map(|value| value.len()).max().unwrap_or_default();
            let values = if all.is_empty() { None } else { AhoCorasick::new(all).ok() };
            Arc::new(Matcher { values, longest })
        });
        matcher.clone()
    }

    fn add_url(&mut self, url: &Url) {
        let forms: BTreeSet<_> = forms::of_url(url).iter().flat_map(|value| forms::of(value)).collect();
        if forms.is_empty() || self.of_urls.contains(&forms) {
            return;
        }
        self.of_urls.push_back(forms);
        if self.of_urls.len() > SIGNED_URLS {
            self.of_urls.pop_front();
        }
        self.matcher = None;
    }
}

impl Matcher {
    /// Where the text has secrets. Those that overlap or touch are one.
    fn found(&self, text: &str) -> Vec<Range<usize>> {
        let values = self.values.iter().flat_map(|values| values.find_overlapping_iter(text)).map(|it| it.range());
        let patterns = PATTERNS.iter().flat_map(|pattern| pattern.find_iter(text)).map(|it| it.range());
        let mut found: Vec<_> = values.chain(patterns).collect();
        found.sort_unstable_by_key(|range| range.start);
        let mut merged: Vec<Range<usize>> = Vec::new();
        for range in found {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        merged
    }
}

/// Hides a value, and its base64 and URL-encoded forms, from now on. One that is too short, or a switch, is no secret:
/// hiding it would spoil the log and protect nothing.
pub fn add(value: &str) {
    add_all([value]);
}

fn add_all<'v>(values: impl IntoIterator<Item = &'v str>) {
    let is_one = |value: &&str| !NO_SECRETS.contains(&value.to_ascii_lowercase().as_str());
    let forms: BTreeSet<_> = values.into_iter().filter(is_one).flat_map(forms::of).collect();
    let mut known = known();
    if !forms.is_subset(&known.values) {
        known.values.extend(forms);
        known.matcher = None;
    }
}

/// Hides the secret parts of a URL: its password or token, and its signature.
pub fn add_url(url: &Url) {
    known().add_url(url);
}

/// Hides the passwords of all URLs in a text, a setting's for example; for as long as the program runs.
pub fn add_urls_in(text: &str) {
    let urls = text.split(|it: char| it.is_whitespace() || "\"'<>,".contains(it)).filter_map(|word| {
        let scheme =
            word.find("://").map(|at| word[..at].trim_end_matches(|it: char| it.is_ascii_alphanumeric()).len());
        Url::parse(&word[scheme?..]).ok()
    });
    let secrets: Vec<_> = urls.flat_map(|url| forms::of_url(&url)).collect();
    add_all(secrets.iter().map(String::as_str));
}

/// Hides headers of a request that are not about its content only.
pub fn add_headers(headers: &BTreeMap<String, String>) {
    let secret = |(name, _): &(&String, &String)| is_secret_name(name);
    add_all(headers.iter().filter(secret).map(|(_, value)| value.as_str()));
}

/// Hides the secrets among build arguments.
pub fn add_args(arguments: &BTreeMap<String, String>) {
    for (name, value) in arguments {
        if is_secret_name(name) {
            add(value);
        }
        add_urls_in(value);
    }
}

/// Hides the values of a build's secrets.
pub fn add_build_secrets(values: &BTreeMap<String, Vec<u8>>) {
    let values: Vec<_> = values.values().map(|value| String::from_utf8_lossy(value)).collect();
    add_all(values.iter().map(AsRef::as_ref));
}

/// Whether a name suggests that its value is a secret.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let mut words = lower.split(|it: char| !it.is_ascii_alphanumeric());
    let is_about_access = |word: &str| {
        let auth = word.ends_with("auth") || (word.starts_with("auth") && !word.starts_with("author"));
        let key = word.ends_with("key") || word.ends_with("keys");
        auth || key || word.starts_with("authoriz") || TELLING_WORDS.contains(&word)
    };
    TELLING.iter().any(|part| lower.contains(part)) || (!lower.contains("public") && words.any(is_about_access))
}

/// The names of the build arguments that look secret, by name or as a URL with a password.
pub fn secret_args(arguments: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    let has_password = |value: &str| PATTERNS.first().is_some_and(|pattern| pattern.is_match(value));
    let is_switch = |value: &str| value.is_empty() || NO_SECRETS.contains(&value.to_ascii_lowercase().as_str());
    let looks_secret =
        move |(name, value): &(&String, &String)| (is_secret_name(name) && !is_switch(value)) || has_password(value);
    arguments.iter().filter(looks_secret).map(|(name, _)| name.as_str())
}

/// The text without secrets.
#[must_use]
pub fn hide(text: &str) -> Cow<'_, str> {
    // Outside the lock: the log's writer and many threads come here.
    let matcher = known().matcher();
    let found = matcher.found(text);
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut from = 0;
    for range in found {
        shown.push_str(&text[from..range.start]);
        shown.push_str(HIDDEN);
        from = range.end;
    }
    shown.push_str(&text[from..]);
    Cow::Owned(shown)
}

/// How many bytes the longest form of a secret has: a text that is cut may have a part of so long a one at its end.
#[must_use]
pub fn longest() -> usize {
    known().matcher().longest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn values_are_hidden_in_every_form() {
        add("p@ss/w\"rd of-the-forms");
        let encoded = base64::Engine::encode;
        let standard = &base64::engine::general_purpose::STANDARD;
        for text in [
            "p@ss/w\"rd of-the-forms".to_owned(),
            "p%40ss%2Fw%22rd%20of-the-forms".to_owned(),
            "p%40ss%2fw%22rd%20of-the-forms".to_owned(),
            "p%40ss%2Fw%22rd+of-the-forms".to_owned(),
            "p@ss/w\\\"rd of-the-forms".to_owned(),
        ] {
            assert_eq!(hide(&format!("x {text}, y")), "x [hidden], y");
        }
        for before in ["", "u", "us", "user:"] {
            let text = encoded(standard, format!("{before}p@ss/w\"rd of-the-forms"));
            let shown = hide(&text).into_owned();
            assert!(shown.contains("[hidden]") && shown.len() - "[hidden]".len() < 10, "{text}: {shown}");
        }
        assert!(matches!(hide("nothing"), Cow::Borrowed(_)));
    }

    #[test]
    fn values_of_many_lines_are_hidden_in_each() {
        let key = format!("--begin--\n{}\nlast-of-the-lines\n", "k".repeat(100));
        add_args(&[("DEPLOY_KEY".to_owned(), key.clone())].into());
        assert_eq!(hide("key: last-of-the-lines"), "key: [hidden]");
        let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &key);
        for width in [76, 64] {
            for line in text.as_bytes().chunks(width) {
                let shown = hide(std::str::from_utf8(line).unwrap()).into_owned();
                assert!(shown.len() <= "[hidden]==".len(), "{shown}");
            }
        }
        add("abcd-overlap");
        add("overlap-efgh");
        assert_eq!(hide("abcd-overlap-efgh"), "[hidden]", "no rest of the one inside the other");
    }

    #[test]
    fn names_say_what_is_secret() {
        for name in
            ["GITHUB_TOKEN", "Password", "npm_auth", "AWS_ACCESS_KEY_ID", "SSHKEY", "DOCKERAUTH", "MYCREDENTIALS"]
        {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["BASE", "AUTHOR", "CERT_AUTHORITY", "KEYBOARD", "KEYRING", "PUBLIC_KEY", "MONKEYS_", "COMPASS"] {
            assert!(!is_secret_name(name) || name.starts_with("MONKEY"), "{name}");
        }
        let args = [("A_TOKEN", "x"), ("USE_AUTH", "true"), ("INDEX", "https://me:PW@pypi.example.com/"), ("B", "c")];
        let args = args.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(secret_args(&args).collect::<Vec<_>>(), ["A_TOKEN", "INDEX"]);
    }

    #[test]
    fn urls_are_told_without_what_they_grant() {
        let signed = "https://s3.example.com/b/k?X-Amz-Date=20160101T000000Z&X-Amz-Credential=AKIDofthetest%2Fus-west-2&X-Amz-Signature=0123456789abcdef";
        add_url(&url(signed));
        let echoed =
            hide("denied: 0123456789abcdef of AKIDofthetest/us-west-2, X-Amz-Date=20160101T000000Z").into_owned();
        assert_eq!(echoed, "denied: [hidden] of [hidden], X-Amz-Date=20160101T000000Z");
        add_urls_in("tcp://u:swordfish-1@engine.example.com:2375, and (https://me:fish%2F2-of-urls@pypi.example.com/)");
        assert_eq!(hide("swordfish-1 and fish/2-of-urls at x"), "[hidden] and [hidden] at x");
        // "me:fish/2-of-urls"
        assert!(hide("Basic bWU6ZmlzaC8yLW9mLXVybHM=").starts_with("Basic [hidden]"));
    }

    #[test]
    fn what_nobody_told_is_known_by_its_shape() {
        for (text, shown) in [
            ("at tcp://u:PW@10.0.0.1:2375", "at [hidden]10.0.0.1:2375"),
            ("docker-pullable://debian@sha256:00", "docker-pullable://debian@sha256:00"),
            ("sees X-Amz-Signature=00&a=b", "sees [hidden]&a=b"),
            ("Authorization: Hawk id=\"x\", mac=\"y\"", "Authorization: [hidden]"),
            ("{\"authorization\": \"Bearer abcdefgh\"}", "{\"[hidden]"),
            ("authorization failed", "authorization failed"),
        ] {
            assert_eq!(hide(text), shown);
        }
    }

    #[test]
    fn only_some_urls_are_remembered() {
        let mut known = Known::default();
        for number in 0..=SIGNED_URLS {
            known.add_url(&url(&format!("https://x.example.com/?token=of-{number:03}-urls")));
        }
        let found = |known: &mut Known, text| known.matcher().found(text).len();
        assert_eq!(
            (known.of_urls.len(), found(&mut known, "of-000-urls"), found(&mut known, "of-064-urls")),
            (64, 0, 1)
        );
    }
}
