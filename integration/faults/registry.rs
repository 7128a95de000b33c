//! A registry on loopback that misbehaves, one way for each repository: `ADDRESS/429/img:1`. Real engines pull from it.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use image_worker::net::Digest;
use serde_json::{Value, json};

use crate::harness::archive::gzip;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

pub(super) struct Registry {
    pub(super) address: String,
}

/// What a registry has, by its digest or tag: the type and the bytes.
type Contents = HashMap<String, (&'static str, Vec<u8>)>;

impl Registry {
    /// A registry, which runs until the test's process ends. Its repository `once` is well after this many failing answers,
    /// `again` when it has sent a Retry-After that the client obeys.
    pub(super) fn start(failing: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (contents, failing) = (Arc::new(contents(&address)), Arc::new(AtomicUsize::new(failing)));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (contents, failing) = (Arc::clone(&contents), Arc::clone(&failing));
                // Engines that close the connection do not matter.
                std::thread::spawn(move || drop(serve(&client, &contents, &failing)));
            }
        });
        Self { address }
    }
}

/// An image of one file, unlike every other: removing one would remove the other.
fn contents(address: &str) -> Contents {
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    let content = format!("of a registry that misbehaves, {address}");
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    layer.append_data(&mut header, "file", content.as_bytes()).unwrap();
    let layer = layer.into_inner().unwrap();
    let digest = |bytes: &[u8]| format!("sha256:{}", Digest::of(bytes));
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {}, "history": [{ "created_by": "test" }],
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    });
    let (config, layer) = (config.to_string().into_bytes(), gzip(&layer));
    let entry = |kind: &str, bytes: &[u8]| -> Value {
        json!({ "mediaType": kind, "size": bytes.len(), "digest": digest(bytes) })
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": entry("application/vnd.docker.container.image.v1+json", &config),
        "layers": [entry("application/vnd.docker.image.rootfs.diff.tar.gzip", &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let blob = "application/octet-stream";
    HashMap::from([
        ("1".to_owned(), (MANIFEST, manifest.clone())),
        (digest(&manifest), (MANIFEST, manifest)),
        (digest(&config), (blob, config)),
        (digest(&layer), (blob, layer)),
    ])
}

fn read_to(mut client: &TcpStream, end: &[u8]) -> io::Result<String> {
    let mut read = Vec::new();
    while !read.ends_with(end) {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        read.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&read).into_owned())
}

/// How a handshake begins.
const TLS: [u8; 1] = [0x16];

/// The answer of a server that speaks HTTP only to a handshake, of which it has read all.
fn refuse_tls(mut client: &TcpStream) -> io::Result<()> {
    let mut head = [0; 5];
    client.read_exact(&mut head)?;
    let mut handshake = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    client.read_exact(&mut handshake)?;
    client.write_all(b"HTTP/1.0 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

fn serve(mut client: &TcpStream, contents: &Contents, failing: &AtomicUsize) -> io::Result<()> {
    loop {
        let mut first = [0];
        if client.peek(&mut first)? == 1 && first == TLS {
            return refuse_tls(client);
        }
        // No more than the first line: a connection that is closed over something unread is reset.
        let mut head = read_to(client, b"\r\n")?;
        if !head.contains("/reset/") {
            head.push_str(&read_to(client, b"\r\n\r\n")?);
        }
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let parts: Vec<_> = path.trim_start_matches("/v2/").split('/').collect();
        let (status, kind, body) = match parts[..] {
            [""] => ("200 OK", "application/json", b"{}".to_vec()),
            ["reset", ..] => return Ok(()),
            // Until the client gives up.
            ["silent", ..] => return client.read_exact(&mut [0]),
            ["once" | "again", .., name] if failing.load(Ordering::Relaxed) == 0 => {
                let (kind, bytes) = contents.get(name).ok_or_else(|| io::Error::other("no such blob"))?;
                ("200 OK", *kind, bytes.clone())
            }
            [way, ..] => {
                let head = head.to_lowercase();
                let waits =
                    ["image-worker/", "containers/"].iter().any(|it| head.contains(&format!("user-agent: {it}")));
                if way == "once" {
                    failing.fetch_sub(1, Ordering::Relaxed);
                } else if waits {
                    failing.store(0, Ordering::Relaxed);
                }
                let (status, code) = match way {
                    "401" => ("401 Unauthorized", "UNAUTHORIZED"),
                    "403" => ("403 Forbidden", "DENIED"),
                    "404" => ("404 Not Found", "MANIFEST_UNKNOWN"),
                    "429" | "again" | "later" => ("429 Too Many Requests", "TOOMANYREQUESTS"),
                    "500" => ("500 Internal Server Error", "UNKNOWN"),
                    "504" => ("504 Gateway Timeout", "UNKNOWN"),
                    _ => ("503 Service Unavailable", "UNAVAILABLE"),
                };
                let body = json!({ "errors": [{ "code": code, "message": "said by the registry" }] });
                (status, "application/json", body.to_string().into_bytes())
            }
            [] => return Ok(()),
        };
        let mut answer = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
        match (status, parts[..].first()) {
            ("200 OK", _) => {}
            (_, Some(&"again")) => answer.push_str("Retry-After: 2\r\n"),
            (_, Some(&"later")) => answer.push_str("Retry-After: 3600\r\n"),
            _ => {}
        }
        if status.starts_with("401") {
            answer.push_str("Www-Authenticate: Basic realm=\"test\"\r\n");
        }
        let digest = format!("Docker-Content-Digest: sha256:{}\r\n", Digest::of(&body));
        let digest = if kind == MANIFEST { &digest } else { "" };
        client.write_all(format!("{answer}{digest}\r\n").as_bytes())?;
        if method != "HEAD" {
            client.write_all(&body)?;
        }
    }
}
