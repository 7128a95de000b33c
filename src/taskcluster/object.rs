//! The object service, as far as one upload needs it: ask where to PUT, and say that it is done.

use std::collections::BTreeMap;

use serde::Deserialize;
use taskcluster::Credentials;

use super::queue::ObjectUpload;
use super::{CallError, answer, builder, call};
use crate::config::{Access, Deployment};
use crate::names::{Digest, HttpUrl};

/// The object service with the credentials of one upload.
pub struct Object {
    client: taskcluster::Object,
}

/// A signed PUT request.
#[derive(Debug, Deserialize)]
pub struct PutUrl {
    /// Valid for 45 minutes; a secret.
    pub url: HttpUrl,
    /// Bound by the signature: exactly these must be sent.
    pub headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UploadAnswer {
    upload_method: UploadMethod,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UploadMethod {
    put_url: PutUrl,
}

impl Object {
    pub(super) fn new(deployment: &Deployment, credentials: Credentials) -> Result<Self, CallError> {
        let direct = Deployment { root_url: deployment.root_url.clone(), access: Access::Anonymous };
        let client = taskcluster::Object::new(builder(&direct).credentials(credentials))
            .map_err(|error| CallError::setup("object", &error))?;
        Ok(Self { client })
    }

    /// Asks where to PUT. Repeated with the same upload, it gives a fresh URL.
    pub async fn create_upload(
        &self,
        upload: &ObjectUpload,
        content_type: &str,
        size: u64,
    ) -> Result<PutUrl, CallError> {
        const CALL: &str = "object.createUpload";
        let payload = serde_json::json!({
            "projectId": upload.project_id,
            "uploadId": upload.upload_id,
            "expires": upload.expires,
            "proposedUploadMethods": { "putUrl": { "contentType": content_type, "contentLength": size } },
        });
        let json = call(CALL, &upload.name, || self.client.createUpload(&upload.name, &payload)).await?;
        Ok(answer::<UploadAnswer>(CALL, &upload.name, json)?.upload_method.put_url)
    }

    /// Declares the object complete; it is handed out with this sha256 from now on.
    pub async fn finish_upload(&self, upload: &ObjectUpload, sha256: Digest) -> Result<(), CallError> {
        let payload = serde_json::json!({
            "projectId": upload.project_id,
            "uploadId": upload.upload_id,
            "hashes": { "sha256": sha256 },
        });
        call("object.finishUpload", &upload.name, || self.client.finishUpload(&upload.name, &payload)).await
    }
}
