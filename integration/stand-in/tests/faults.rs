//! Scripted misbehaviour: each kind does to a client what it is named after.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Digest as _;
use serde_json::json;
use stand_in::{Claim, Fault, Options, SLOWEST, StandIn, TaskSpec};

use super::{Caller, Got, artifact_path, in_minutes, s3};

fn with_task() -> (StandIn, Claim, Caller) {
    let stand_in = StandIn::start(Options::default());
    let claim = stand_in.create_task(TaskSpec::scopes(["queue:get-artifact:*"]));
    let caller = Caller::new(&stand_in, &claim.credentials);
    (stand_in, claim, caller)
}

#[tokio::test]
async fn a_status_comes_instead_of_the_work() {
    let (stand_in, claim, caller) = with_task();
    let path = artifact_path(&claim, "public/x");
    stand_in.fault(Fault::status("createArtifact", 503).times(2).retry_after(7).body("try later"));
    for _ in 0..2 {
        let got = caller.post(&path, s3(&in_minutes(60))).await.expect(503);
        assert_eq!((got.header("retry-after"), got.text.as_str()), ("7", "try later"));
    }
    caller.get(&path).await.expect(404);
    caller.post(&path, s3(&in_minutes(60))).await.expect(200);
    let faults: Vec<bool> = stand_in.calls().iter().map(|call| call.fault.is_some()).collect();
    assert_eq!(faults, [true, true, false, false]);
}

#[tokio::test]
async fn together_all_are_answered_when_the_last_has_arrived() {
    let (stand_in, claim, caller) = with_task();
    stand_in.fault(Fault::status("status", 503).times(2).together());
    let path = format!("/api/queue/v1/task/{}/status", claim.task_id);
    let mut first = Box::pin(caller.get(&path));
    tokio::select! {
        _ = &mut first => panic!("it is answered before the second has arrived"),
        () = async { while stand_in.calls().is_empty() { tokio::task::yield_now().await } } => {}
    }
    let (first, second) = tokio::join!(first, caller.get(&path));
    first.expect(503);
    second.expect(503);
    caller.get(&path).await.expect(200);
    let arrived: Vec<_> = stand_in.calls().iter().map(|call| call.arrived).collect();
    assert!(arrived.is_sorted() && arrived.len() == 3, "{arrived:?}");
}

#[tokio::test]
async fn faults_find_their_call() {
    let (stand_in, claim, caller) = with_task();
    let create = async |name: &str| caller.post(&artifact_path(&claim, name), s3(&in_minutes(60))).await.status;
    stand_in.fault(Fault::status("createArtifact", 500).skip(1));
    stand_in.fault(Fault::status("createArtifact", 502).path("public%2Fb").times(u32::MAX));
    assert_eq!([create("public/a").await, create("public/a").await, create("public/a").await], [200, 500, 200]);
    assert_eq!([create("public/b").await, create("public/b").await], [502, 502]);
    stand_in.clear_faults();
    assert_eq!(create("public/b").await, 200);
}

#[tokio::test]
async fn a_dropped_call_did_nothing_and_a_lost_reply_did_all() {
    let (stand_in, claim, caller) = with_task();
    for (fault, status) in [(Fault::drop("createArtifact"), 404), (Fault::reply_lost("createArtifact"), 303)] {
        stand_in.fault(fault);
        let path = artifact_path(&claim, "public/x");
        let sent = caller.try_send(reqwest::Method::POST, &path, Some(s3(&in_minutes(60)))).await;
        assert!(sent.is_err_and(|error| error.is_request()));
        caller.get(&path).await.expect(status);
    }
    assert_eq!(stand_in.calls()[0].status, None);

    let path = artifact_path(&claim, "public/y");
    let got = caller.post(&path, s3(&in_minutes(60))).await.expect(200);
    let put = async || caller.http.put(got.body["putUrl"].as_str().unwrap()).body("hello").send().await;
    stand_in.fault(Fault::drop("s3 PUT"));
    assert!(put().await.is_err());
    assert_eq!(stand_in.artifact_bytes(&claim.task_id, 0, "public/y"), None);
    stand_in.fault(Fault::reply_lost("s3 PUT"));
    assert!(put().await.is_err());
    assert_eq!(stand_in.artifact_bytes(&claim.task_id, 0, "public/y").unwrap(), b"hello");
}

#[tokio::test]
async fn bodies_are_cut_and_bent() {
    let (stand_in, claim, caller) = with_task();
    let data: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    stand_in.put_artifact(&claim.task_id, 0, "public/x", "text/plain", None, &data);
    let url = caller.get(&artifact_path(&claim, "public/x")).await.expect(303).header("location").to_owned();

    for cut in [0, 1000, 200_000] {
        stand_in.fault(Fault::cut_body("s3 GET", cut));
        let mut response = caller.http.get(&url).send().await.unwrap();
        assert_eq!(response.content_length(), Some(300_000));
        let mut read = Vec::new();
        let error = loop {
            match response.chunk().await {
                Ok(chunk) => read.extend(chunk.expect("an error before the end")),
                Err(error) => break error,
            }
        };
        assert!(error.is_body() || error.is_decode(), "{error:?}");
        assert_eq!(read.len() as u64, cut);
    }

    stand_in.fault(Fault::wrong_bytes("s3 GET"));
    let read = caller.http.get(&url).send().await.unwrap().bytes().await.unwrap();
    let wrong = (0..data.len()).filter(|&index| read[index] != data[index]).count();
    assert_eq!((read.len(), wrong), (data.len(), 1));
    let read = caller.http.get(&url).send().await.unwrap().bytes().await.unwrap();
    assert!(read == data);

    let got = caller.post(&artifact_path(&claim, "public/y"), s3(&in_minutes(60))).await.expect(200);
    let put = async || caller.http.put(got.body["putUrl"].as_str().unwrap()).body(data.clone()).send().await;
    stand_in.fault(Fault::cut_body("s3 PUT", 1000));
    assert!(put().await.is_err());
    assert_eq!(stand_in.artifact_bytes(&claim.task_id, 0, "public/y"), None);
    // What S3 compares, and what it has as ETag.
    let md5_header = STANDARD.encode(md5::Md5::digest(&data));
    let put_with_md5 = async || {
        let put = caller.http.put(got.body["putUrl"].as_str().unwrap()).header("content-md5", &md5_header);
        Got::read(put.body(data.clone()).send().await.unwrap()).await.unwrap()
    };
    stand_in.fault(Fault::wrong_arrival("s3 PUT"));
    assert!(put_with_md5().await.expect(400).text.contains("<Code>BadDigest</Code>"));
    assert_eq!(stand_in.artifact_bytes(&claim.task_id, 0, "public/y"), None);
    let hex = |bytes: &[u8]| format!("{:032x}", u128::from_be_bytes(md5::Md5::digest(bytes).into()));
    assert_eq!(put_with_md5().await.expect(200).header("etag"), format!("\"{}\"", hex(&data)));
    stand_in.fault(Fault::wrong_store("s3 PUT"));
    let stored = put_with_md5().await.expect(200);
    let wrong = stand_in.artifact_bytes(&claim.task_id, 0, "public/y").unwrap();
    assert_eq!(wrong.iter().zip(&data).filter(|(one, other)| one != other).count(), 1);
    assert_eq!(stored.header("etag"), format!("\"{}\"", hex(&wrong)));
    // A refused upload is read to its end, so that the refusal arrives.
    stand_in.fault(Fault::status("s3 PUT", 503));
    assert_eq!(put().await.unwrap().status().as_u16(), 503);
    assert_eq!(put().await.unwrap().status().as_u16(), 200);
}

#[tokio::test]
async fn a_call_hangs_until_the_end_and_another_is_late() {
    let (stand_in, claim, caller) = with_task();
    let path = artifact_path(&claim, "public/x");
    stand_in.fault(Fault::delay("createArtifact", Duration::from_millis(200)));
    let start = Instant::now();
    caller.post(&path, s3(&in_minutes(60))).await.expect(200);
    assert!(start.elapsed() >= Duration::from_millis(200));

    stand_in.fault(Fault::hang("getArtifact"));
    let hanging = tokio::spawn(async move { caller.try_send(reqwest::Method::GET, &path, None).await.is_err() });
    // It has arrived; then the stand-in stops, which closes the connection.
    while stand_in.calls().iter().all(|call| call.name != "getArtifact") {
        tokio::task::yield_now().await;
    }
    drop(stand_in);
    assert!(hanging.await.unwrap());
}

#[tokio::test]
async fn through_the_proxy_a_lost_reply_is_a_500() {
    let (stand_in, claim, _) = with_task();
    let proxy = Caller::anonymous(&stand_in.proxy_url(&claim));
    stand_in.fault(Fault::reply_lost("createArtifact"));
    let got: Got = proxy.post(&artifact_path(&claim, "public/x"), s3(&in_minutes(60))).await.expect(500);
    assert!(got.text.starts_with("Failed during proxy request"), "{got:?}");
    assert_eq!(stand_in.calls()[0].request["storageType"], json!("s3"));
    proxy.get(&artifact_path(&claim, "public/x")).await.expect(303);
}

#[tokio::test]
async fn calls_at_the_same_time_are_slow_at_the_same_time() {
    let delay = Duration::from_millis(200);
    let stand_in = StandIn::start(Options { delay, ..Options::default() });
    let path = format!("/api/queue/v1/task/{}", stand_in.create_task(TaskSpec::default()).task_id);
    let anonymous = Caller::anonymous(&stand_in.root_url());
    let call = async || {
        let start = Instant::now();
        anonymous.get(&path).await.expect(200);
        assert!(start.elapsed() >= delay);
    };
    let start = Instant::now();
    futures_util::future::join_all((0..40).map(|_| call())).await;
    // One after the other they would take 8 seconds.
    assert!(start.elapsed() < delay * 20, "{:?}", start.elapsed());
    stand_in.set_delay(Duration::MAX);
    assert!(tokio::time::timeout(delay, call()).await.is_err(), "a call that was not slow");
    stand_in.set_delay(Duration::ZERO);
    tokio::time::timeout(SLOWEST, anonymous.get(&path)).await.expect("a call that was slow").expect(200);
}
