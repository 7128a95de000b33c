//! The store: uploads by presigned URL, and downloads whole, in part and of nothing.

use serde_json::json;
use stand_in::{Claim, Options, RunState, StandIn, TaskSpec};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Caller, Got, artifact_path, in_minutes, minutes, s3};

fn with_task() -> (StandIn, Claim, Caller) {
    let stand_in = StandIn::start(Options::default());
    let claim = stand_in.create_task(TaskSpec::scopes(["queue:get-artifact:*"]));
    let caller = Caller::new(&stand_in, &claim.credentials);
    (stand_in, claim, caller)
}

async fn put_url(caller: &Caller, claim: &Claim, name: &str) -> String {
    let got = caller.post(&artifact_path(claim, name), s3(&in_minutes(60))).await.expect(200);
    got.body["putUrl"].as_str().unwrap().to_owned()
}

/// Sends a request as text, for what no client would send. Answers the status line and the rest.
async fn raw(stand_in: &StandIn, request: &str) -> String {
    let address = stand_in.store_url().replace("http://", "");
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let request = request.replace("HOST", &address).replace('\n', "\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn path_of(url: &str) -> &str {
    &url[url.match_indices('/').nth(2).unwrap().0..]
}

#[tokio::test]
async fn what_is_put_is_what_is_served() {
    let (stand_in, claim, caller) = with_task();
    let url = put_url(&caller, &claim, "public/x").await;
    let got = caller.get(&artifact_path(&claim, "public/x")).await.expect(303);
    let location = got.header("location").to_owned();
    assert_eq!(location, format!("{}/public-artifacts/{}/0/public/x", stand_in.store_url(), claim.task_id));
    // The queue never learns whether the PUT happened.
    let missing = Got::read(caller.http.get(&location).send().await.unwrap()).await.unwrap().expect(404);
    assert!(missing.text.contains("<Code>NoSuchKey</Code>"), "{missing:?}");
    // Neither the type nor the encoding is bound by the signature.
    let put = caller.http.put(&url).header("content-type", "text/html").header("content-encoding", "gzip");
    assert_eq!(put.body("hello").send().await.unwrap().status().as_u16(), 200);
    let got = Got::read(caller.http.get(&location).send().await.unwrap()).await.unwrap().expect(200);
    assert_eq!((got.header("content-type"), got.header("content-encoding")), ("text/html", "gzip"));
    assert_eq!((got.text.as_str(), got.header("content-length")), ("hello", "5"));
    let head = Got::read(caller.http.head(&location).send().await.unwrap()).await.unwrap().expect(200);
    assert_eq!((head.header("content-length"), head.text.as_str()), ("5", ""));
    assert_eq!(head.header("etag"), got.header("etag"));
    // Overwritten, even after the task, as long as the URL lives; nothing at all is an object too.
    stand_in.resolve(&claim.task_id, 0, RunState::Completed);
    let nothing = caller.http.put(&url).header("content-length", 0).body("");
    assert_eq!(nothing.send().await.unwrap().status().as_u16(), 200);
    assert_eq!(stand_in.artifact_bytes(&claim.task_id, 0, "public/x").unwrap(), b"");
    let calls = stand_in.calls();
    let first_put = calls.iter().find(|call| call.name == "s3 PUT").unwrap();
    assert_eq!(first_put.request["contentEncoding"], "gzip");
    assert!(first_put.path.contains("X-Amz-Signature=…"), "{}", first_put.path);
}

#[tokio::test]
async fn refusals() {
    let (stand_in, claim, caller) = with_task();
    let url = put_url(&caller, &claim, "public/x").await;
    let no_query = url.split('?').next().unwrap().to_owned();
    let forged = url.replace("/public/x?", "/public/y?");
    let longer = url.replace("X-Amz-Expires=2710", "X-Amz-Expires=9999");
    let put = |url: &str| caller.http.put(url).body("hello");
    let table = [
        (put(&no_query), 403, "AccessDenied"),
        (put(&forged), 403, "SignatureDoesNotMatch"),
        (put(&longer), 403, "SignatureDoesNotMatch"),
        (put(&url).header("authorization", "Hawk x"), 400, "InvalidArgument"),
        (caller.http.get(&url), 403, "SignatureDoesNotMatch"),
        (caller.http.delete(&no_query), 405, "MethodNotAllowed"),
        (caller.http.get(&no_query).header("authorization", "Hawk x"), 400, "InvalidArgument"),
    ];
    for (request, status, code) in table {
        let got = Got::read(request.send().await.unwrap()).await.unwrap().expect(status);
        assert!(got.text.contains(&format!("<Code>{code}</Code>")), "{got:?}");
    }
    let stream = futures_util::stream::iter([Ok::<_, std::io::Error>("hello")]);
    let chunked = caller.http.put(&url).body(reqwest::Body::wrap_stream(stream)).send().await.unwrap();
    let got = Got::read(chunked).await.unwrap().expect(501);
    assert!(got.text.contains("<Code>NotImplemented</Code>"), "{got:?}");
    let answer = raw(&stand_in, &format!("PUT {} HTTP/1.1\nHost: HOST\nConnection: close\n\n", path_of(&url))).await;
    assert!(answer.starts_with("HTTP/1.1 411"), "{answer}");
    let answer = raw(
        &stand_in,
        &format!("PUT {} HTTP/1.1\nHost: other\nContent-Length: 0\nConnection: close\n\n", path_of(&url)),
    )
    .await;
    assert!(answer.contains("SignatureDoesNotMatch"), "{answer}");
    assert_eq!(stand_in.artifact_bytes(&claim.task_id, 0, "public/x"), None);
}

#[tokio::test]
async fn a_put_url_lives_for_45_minutes() {
    let (stand_in, claim, caller) = with_task();
    let url = put_url(&caller, &claim, "public/x").await;
    let put = async |url: &str| caller.http.put(url).body("hello").send().await.unwrap();
    stand_in.advance(minutes(45));
    assert_eq!(put(&url).await.status().as_u16(), 200);
    stand_in.advance(minutes(1));
    let got = Got::read(put(&url).await).await.unwrap().expect(403);
    assert!(got.text.contains("Request has expired"), "{got:?}");
    let caller = Caller::new(&stand_in, &stand_in.claim(&claim.task_id).credentials);
    let url = put_url(&caller, &claim, "public/x").await;
    assert_eq!(put(&url).await.status().as_u16(), 200);
}

#[tokio::test]
async fn private_artifacts_are_signed_for_half_an_hour() {
    let (stand_in, claim, caller) = with_task();
    stand_in.put_artifact(&claim.task_id, 0, "private/x", "text/plain", Some("gzip"), b"hello");
    let url = caller.get(&artifact_path(&claim, "private/x")).await.expect(303).header("location").to_owned();
    let status = async |url: &str| caller.http.get(url).send().await.unwrap().status().as_u16();
    assert_eq!(status(&url).await, 200);
    assert_eq!(status(url.split('?').next().unwrap()).await, 403);
    // A signed GET is not a HEAD.
    assert_eq!(caller.http.head(&url).send().await.unwrap().status().as_u16(), 403);
    stand_in.advance(minutes(31));
    assert_eq!(status(&url).await, 403);
}

#[tokio::test]
async fn parts() {
    let (stand_in, claim, caller) = with_task();
    stand_in.put_artifact(&claim.task_id, 0, "public/x", "text/plain", None, b"0123456789");
    let url = caller.get(&artifact_path(&claim, "public/x")).await.expect(303).header("location").to_owned();
    let etag = caller.http.head(&url).send().await.unwrap().headers()["etag"].to_str().unwrap().to_owned();
    let table = [
        ("bytes=2-4", "", 206, "234", "bytes 2-4/10"),
        ("bytes=7-", "", 206, "789", "bytes 7-9/10"),
        ("bytes=7-99", "", 206, "789", "bytes 7-9/10"),
        ("bytes=-2", "", 206, "89", "bytes 8-9/10"),
        ("bytes=7-", &etag, 206, "789", "bytes 7-9/10"),
        ("bytes=7-", "\"other\"", 200, "0123456789", ""),
        ("bytes=1-2,4-5", "", 200, "0123456789", ""),
        ("lines=1-2", "", 200, "0123456789", ""),
    ];
    for (range, if_range, status, body, content_range) in table {
        let mut request = caller.http.get(&url).header("range", range);
        if !if_range.is_empty() {
            request = request.header("if-range", if_range);
        }
        let got = Got::read(request.send().await.unwrap()).await.unwrap().expect(status);
        assert_eq!((got.text.as_str(), got.header("content-range")), (body, content_range), "{range}");
        assert_eq!(got.header("content-length"), body.len().to_string());
    }
    let beyond = caller.http.get(&url).header("range", "bytes=10-").send().await.unwrap();
    let beyond = Got::read(beyond).await.unwrap().expect(416);
    assert_eq!(beyond.header("content-range"), "bytes */10");
}

#[tokio::test]
async fn a_body_that_ends_early_stores_nothing() {
    let (stand_in, claim, caller) = with_task();
    let url = put_url(&caller, &claim, "public/x").await;
    let address = stand_in.store_url().replace("http://", "");
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let head = format!("PUT {} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 10\r\n\r\n12345", path_of(&url));
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "");
    assert_eq!(stand_in.artifact_bytes(&claim.task_id, 0, "public/x"), None);
    let call = stand_in.calls().into_iter().find(|call| call.name == "s3 PUT").unwrap();
    assert_eq!((call.status, call.request), (None, json!({"contentLength": "10"})));
}

#[tokio::test]
async fn large_bodies_pass_through_files() {
    let (stand_in, claim, caller) = with_task();
    let url = put_url(&caller, &claim, "public/x").await;
    let (chunk, chunks) = (vec![42_u8; 1 << 20], 64_u64);
    let stream = futures_util::stream::iter((0..chunks).map(move |_| Ok::<_, std::io::Error>(chunk.clone())));
    let request = caller.http.put(&url).header("content-length", chunks << 20).body(reqwest::Body::wrap_stream(stream));
    assert_eq!(request.send().await.unwrap().status().as_u16(), 200);
    let path = stand_in.artifact_path(&claim.task_id, 0, "public/x").unwrap();
    assert_eq!(std::fs::metadata(path).unwrap().len(), chunks << 20);
    let location = caller.get(&artifact_path(&claim, "public/x")).await.expect(303).header("location").to_owned();
    let mut response = caller.http.get(&location).send().await.unwrap();
    let mut bytes = 0;
    while let Some(chunk) = response.chunk().await.unwrap() {
        bytes += chunk.len() as u64;
    }
    assert_eq!(bytes, chunks << 20);
}
