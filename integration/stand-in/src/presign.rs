//! URLs into the store: presigned ones in the shape of AWS Signature Version 4, and the plain ones of the public
//! bucket. The signature is not Amazon's, but as hard to fool: method, path, query and signed headers are in it.

use std::fmt::Write as _;
use std::time::Duration;

use axum::http::HeaderMap;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::credentials::hmac;
use crate::deployment::Deployment;
use crate::http::{encode, header, parameters};

/// What the store and the services share.
const SECRET: &str = "the store's secret";

/// Why a URL does not let its bearer in: code and message of S3.
pub(crate) type Refusal = (&'static str, &'static str);

/// A URL for one PUT, in which `bound` headers (lower case, sorted) and the host are signed.
pub(crate) fn put_url(
    deployment: &Deployment,
    bucket: &str,
    key: &str,
    life: Duration,
    bound: &[(&str, &str)],
) -> String {
    presigned(deployment, "PUT", bucket, key, life, bound)
}

/// A signed URL for GETs.
pub(crate) fn get_url(deployment: &Deployment, bucket: &str, key: &str, life: Duration) -> String {
    presigned(deployment, "GET", bucket, key, life, &[])
}

/// The unsigned URL of a public artifact, made as the queue makes it: the path is normalised and hardly escaped,
/// so that names with `//`, `..`, `\` or `%20` point to nothing, and others make no URL at all.
pub(crate) fn public_url(deployment: &Deployment, bucket: &str, key: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in key.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let path = parts.join("/").replace('\\', "/");
    let path = path.replace(' ', "%20").replace('?', "%3F").replace('#', "%23");
    format!("{}/{bucket}/{path}", deployment.store_url)
}

fn presigned(
    deployment: &Deployment,
    method: &str,
    bucket: &str,
    key: &str,
    life: Duration,
    bound: &[(&str, &str)],
) -> String {
    let host = deployment.store_url.trim_start_matches("http://");
    let now = deployment.now().to_zoned(TimeZone::UTC);
    let mut headers: Vec<(&str, &str)> = bound.to_vec();
    headers.push(("host", host));
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let parameters = [
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256".to_owned()),
        ("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD".to_owned()),
        ("X-Amz-Credential", now.strftime("STANDIN/%Y%m%d/us-east-1/s3/aws4_request").to_string()),
        ("X-Amz-Date", now.strftime("%Y%m%dT%H%M%SZ").to_string()),
        ("X-Amz-Expires", life.as_secs().to_string()),
        ("X-Amz-SignedHeaders", names.join(";")),
        ("x-id", if method == "PUT" { "PutObject".to_owned() } else { "GetObject".to_owned() }),
    ];
    let query = parameters.map(|(name, value)| format!("{name}={}", encode(&value, ""))).join("&");
    let signature = sign(method, &format!("/{bucket}/{key}"), &query, &headers);
    format!("{}/{bucket}/{}?{query}&X-Amz-Signature={signature}", deployment.store_url, encode(key, "/"))
}

/// Checks a presigned request. `path` is decoded, `query` is as it came.
pub(crate) fn verify(
    now: Timestamp,
    method: &str,
    path: &str,
    query: &str,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    let mismatch = ("SignatureDoesNotMatch", "The request signature we calculated does not match the signature");
    let values = parameters(query);
    let value = |name: &str| values.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let signature = value("X-Amz-Signature").ok_or(("AccessDenied", "Access Denied"))?;
    let unsigned: Vec<&str> = query.split('&').filter(|part| !part.starts_with("X-Amz-Signature=")).collect();
    let names: Vec<&str> = value("X-Amz-SignedHeaders").ok_or(mismatch)?.split(';').collect();
    let signed: Vec<(&str, &str)> =
        names.into_iter().map(|name| (name, header(headers, name).unwrap_or_default())).collect();
    if sign(method, path, &unsigned.join("&"), &signed) != signature {
        return Err(mismatch);
    }
    let start = value("X-Amz-Date")
        .and_then(|date| jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date).ok())
        .and_then(|date| date.to_zoned(TimeZone::UTC).ok())
        .ok_or(mismatch)?;
    let life = value("X-Amz-Expires").and_then(|life| life.parse().ok()).ok_or(mismatch)?;
    if now > start.timestamp() + Duration::from_secs(life) {
        return Err(("AccessDenied", "Request has expired"));
    }
    Ok(())
}

fn sign(method: &str, path: &str, query: &str, headers: &[(&str, &str)]) -> String {
    let mut canonical = format!("{method}\n{path}\n{query}\n");
    for (name, value) in headers {
        let _ = writeln!(canonical, "{name}:{value}");
    }
    let mut hex = String::new();
    for byte in hmac(SECRET, canonical.as_bytes()) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}
