//! The S3-like store: three buckets whose objects are files, streamed in and out, as strict as real S3 about
//! lengths, signatures and second ways to authenticate. Which URLs lead here is for `presign` and the services.

use std::io::Write as _;
use std::path::PathBuf;

use axum::body::BodyDataStream;
use axum::http::header::{ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{AppendHeaders, IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use md5::{Digest as _, Md5};
use serde_json::{Value, json};

use crate::deployment::{Blob, Deployment};
use crate::faults::{Dropped, Failure};
use crate::http::{decode, file_response, header};
use crate::presign::{self, Refusal};
use crate::shared::Shared;

pub(crate) use crate::presign::{get_url, public_url, put_url};

pub(crate) const PUBLIC_BUCKET: &str = "public-artifacts";
pub(crate) const PRIVATE_BUCKET: &str = "private-artifacts";
pub(crate) const OBJECT_BUCKET: &str = "objects";

/// What the call log keeps of a request's headers.
pub(crate) fn describe(headers: &HeaderMap) -> Value {
    let mut kept = json!({});
    let names = [
        ("contentType", "content-type"),
        ("contentLength", "content-length"),
        ("contentEncoding", "content-encoding"),
        ("contentMd5", "content-md5"),
        ("range", "range"),
    ];
    for (key, name) in names {
        if let Some(value) = header(headers, name) {
            kept[key] = value.into();
        }
    }
    kept
}

/// Responds to a request. An upload is cut off or damaged, if that is scripted.
pub(crate) async fn respond(
    shared: &Shared,
    request: &Parts,
    body: &mut BodyDataStream,
    failure: Option<&Failure>,
) -> Result<Response, Dropped> {
    let place = match admit(shared, request) {
        Ok(place) => place,
        Err((status, (code, message))) => {
            // Read the body before refusing it, so that the caller sees the refusal and not a broken pipe.
            drain(body).await;
            return Ok(error(status, code, message));
        }
    };
    if request.method != Method::PUT {
        return serve(shared, request, &place).await;
    }
    let text = |name: &str| header(&request.headers, name);
    let cut = match failure {
        Some(Failure::CutBody(bytes)) => Some(*bytes),
        _ => None,
    };
    let mut received = receive(shared, body, cut).await?;
    if matches!(failure, Some(Failure::WrongArrival)) {
        received.flip();
    }
    if text("content-md5").is_some_and(|sent| sent != STANDARD.encode(received.md5)) {
        let _ = std::fs::remove_file(&received.path);
        return Ok(error(400, "BadDigest", "The Content-MD5 you specified did not match what we received."));
    }
    if matches!(failure, Some(Failure::WrongStore)) {
        received.flip();
    }
    let blob = Blob {
        content_type: text("content-type").unwrap_or("binary/octet-stream").to_owned(),
        content_encoding: text("content-encoding").map(str::to_owned),
        ..received
    };
    let mut deployment = shared.lock();
    let etag = blob.etag(&deployment);
    put(&mut deployment, place, blob);
    Ok([(ETAG, etag)].into_response())
}

/// Reads a body to its end and drops it.
pub(crate) async fn drain(body: &mut BodyDataStream) {
    while let Some(Ok(_)) = body.next().await {}
}

/// Streams a body into a new file. A body that ends early leaves nothing behind.
pub(crate) async fn receive(shared: &Shared, body: &mut BodyDataStream, cut: Option<u64>) -> Result<Blob, Dropped> {
    let path = shared.lock().new_file();
    // Blocking writes, a chunk at a time, into the page cache: good enough for a server of tests.
    let mut file = std::fs::File::create_new(&path).expect("a file in the stand-in's directory");
    let (mut length, mut md5, mut whole) = (0, Md5::new(), true);
    while let Some(data) = body.next().await {
        // hyper reports a body that is shorter than its Content-Length as an error.
        let Ok(data) = data else {
            whole = false;
            break;
        };
        file.write_all(&data).expect("space in the stand-in's directory");
        md5.update(&data);
        length += data.len() as u64;
        if cut.is_some_and(|cut| length >= cut) {
            whole = false;
            break;
        }
    }
    if !whole {
        let _ = std::fs::remove_file(&path);
        return Err(Dropped);
    }
    Ok(blob(path, length, md5.finalize().into()))
}

/// Stores bytes, as a PUT would.
pub(crate) fn put_bytes(
    deployment: &mut Deployment,
    bucket: &str,
    key: &str,
    content_type: Option<&str>,
    content_encoding: Option<&str>,
    bytes: &[u8],
) {
    let path = deployment.new_file();
    std::fs::write(&path, bytes).expect("space in the stand-in's directory");
    let blob = blob(path, bytes.len() as u64, Md5::digest(bytes).into())
        .with_headers(content_type.unwrap_or("binary/octet-stream"), content_encoding);
    put(deployment, format!("{bucket}/{key}"), blob);
}

/// Puts a blob in its place, and removes what was there.
pub(crate) fn put(deployment: &mut Deployment, place: String, blob: Blob) {
    if let Some(old) = deployment.blobs.insert(place, blob) {
        let _ = std::fs::remove_file(old.path);
    }
}

impl Blob {
    /// S3's: the MD5, unless the bucket encrypts with keys of a service. Then it looks the same, and is something else.
    fn etag(&self, deployment: &Deployment) -> String {
        let hex = format!("{:032x}", u128::from_be_bytes(self.md5));
        let etag = if deployment.options.encrypted_buckets { hex.chars().rev().collect() } else { hex };
        format!("\"{etag}\"")
    }

    /// Changes a byte in the middle.
    fn flip(&mut self) {
        let mut bytes = std::fs::read(&self.path).expect("a stored file");
        let middle = bytes.len() / 2;
        bytes.iter_mut().skip(middle).take(1).for_each(|byte| *byte ^= 1);
        std::fs::write(&self.path, &bytes).expect("space in the stand-in's directory");
        self.md5 = Md5::digest(&bytes).into();
    }

    pub(crate) fn with_headers(self, content_type: &str, content_encoding: Option<&str>) -> Self {
        Self { content_type: content_type.to_owned(), content_encoding: content_encoding.map(str::to_owned), ..self }
    }
}

fn blob(path: PathBuf, len: u64, md5: [u8; 16]) -> Blob {
    Blob { path, len, content_type: "binary/octet-stream".into(), content_encoding: None, md5 }
}

/// Where a request leads, `bucket/key`, if it may go there.
fn admit(shared: &Shared, request: &Parts) -> Result<String, (u16, Refusal)> {
    let (path, query) = (request.uri.path(), request.uri.query().unwrap_or_default());
    let path = decode(path).ok_or((400, ("InvalidURI", "Couldn't parse the specified URI.")))?;
    let signed = query.contains("X-Amz-Signature=");
    if request.headers.contains_key("authorization") {
        let message = if signed {
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string \
             parameter or the Authorization header should be specified"
        } else {
            "Unsupported Authorization Type"
        };
        return Err((400, ("InvalidArgument", message)));
    }
    match request.method.as_str() {
        "PUT" if request.headers.contains_key("transfer-encoding") => {
            let message = "A header you provided implies functionality that is not implemented";
            return Err((501, ("NotImplemented", message)));
        }
        "PUT" if !request.headers.contains_key("content-length") => {
            return Err((411, ("MissingContentLength", "You must provide the Content-Length HTTP header.")));
        }
        "GET" | "HEAD" | "PUT" => {}
        _ => return Err((405, ("MethodNotAllowed", "The specified method is not allowed against this resource."))),
    }
    let place = path.trim_start_matches('/').to_owned();
    let open = request.method != Method::PUT && place.starts_with(&format!("{PUBLIC_BUCKET}/"));
    if signed || !open {
        let now = shared.lock().now();
        presign::verify(now, request.method.as_str(), &path, query, &request.headers)
            .map_err(|refusal| (403, refusal))?;
    }
    Ok(place)
}

async fn serve(shared: &Shared, request: &Parts, place: &str) -> Result<Response, Dropped> {
    let found = {
        let deployment = shared.lock();
        deployment.blobs.get(place).map(|blob| (blob.clone(), blob.etag(&deployment)))
    };
    let Some((blob, etag)) = found else {
        return Ok(error(404, "NoSuchKey", "The specified key does not exist."));
    };
    let current = header(&request.headers, "if-range").is_none_or(|given| given == etag);
    let range = header(&request.headers, "range").filter(|_| current);
    let part = match range.map_or(Range::Whole, |range| parse_range(range, blob.len)) {
        Range::Whole => None,
        Range::Part(first, last) => Some((first, last)),
        Range::Unsatisfiable => {
            let whole = [(CONTENT_RANGE, format!("bytes */{}", blob.len))];
            return Ok((whole, error(416, "InvalidRange", "The requested range is not satisfiable")).into_response());
        }
    };
    let (first, length) = part.map_or((0, blob.len), |(first, last)| (first, last - first + 1));
    let file = file_response(blob.path, first, length).await.map_err(|_| Dropped)?;
    let part = part.map(|(first, last)| {
        let range = [(CONTENT_RANGE, format!("bytes {first}-{last}/{}", blob.len))];
        (StatusCode::PARTIAL_CONTENT, AppendHeaders(range))
    });
    let encoding = blob.content_encoding.map(|encoding| AppendHeaders([(CONTENT_ENCODING, encoding)]));
    let headers = [(CONTENT_TYPE, blob.content_type), (ETAG, etag), (ACCEPT_RANGES, "bytes".to_owned())];
    let response = (headers, encoding, file).into_response();
    Ok(match part {
        Some((status, range)) => (status, range, response).into_response(),
        None => response,
    })
}

/// What a Range header requests.
enum Range {
    /// Everything: also what the answer is to headers that the store does not understand.
    Whole,
    /// From the first to the last byte.
    Part(u64, u64),
    Unsatisfiable,
}

fn parse_range(range: &str, len: u64) -> Range {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Range::Whole;
    };
    let end = len.saturating_sub(1);
    let (first, last) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => (first, last.min(end)),
        (Ok(first), Err(_)) if last.is_empty() => (first, end),
        // The last so many bytes.
        (Err(_), Ok(0)) if first.is_empty() => return Range::Unsatisfiable,
        (Err(_), Ok(tail)) if first.is_empty() => (len.saturating_sub(tail), end),
        _ => return Range::Whole,
    };
    if first < len { Range::Part(first, last) } else { Range::Unsatisfiable }
}

fn error(status: u16, code: &str, message: &str) -> Response {
    let status = StatusCode::from_u16(status).expect("a status of this file");
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    (status, [(CONTENT_TYPE, "application/xml")], xml).into_response()
}
