//! BuildKit's session: a connection on which the engine asks us while it builds. It asks whether we are there, for
//! secrets by their names, and for credentials for registries; what all these are is for others.

use std::collections::BTreeMap;

use bollard::grpc::BuildRef;
use bollard::health::health_check_response::ServingStatus;
use bollard::health::health_server::{Health, HealthServer};
use bollard::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use bollard::moby::buildkit::secrets::v1::secrets_server::{Secrets, SecretsServer};
use bollard::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard::moby::filesync::v1::auth_server::{Auth, AuthServer};
use bollard::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse,
};
use futures_util::stream::Empty;
use hyper_util::rt::TokioExecutor;
use hyper_util::service::TowerToHyperService;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::engine::BuildSecrets;
use crate::engine::build::pulling::Access;
use crate::engine::connection::address::Address;
use crate::engine::connection::client::{ConnectionError, upgrade};
use crate::net::registry::Login;

/// A session. It ends when it is dropped, and with it a build that still asks.
pub(in crate::engine) struct Session {
    id: String,
    serving: JoinHandle<()>,
}

impl Session {
    /// Opens a session with the engine at `place`, and answers on it.
    pub(in crate::engine) async fn open(
        place: &Address,
        secrets: &BuildSecrets,
        access: &Access,
    ) -> Result<Self, ConnectionError> {
        let id: String = BuildRef::random().into();
        let method = |name: &str| ("x-docker-expose-session-grpc-method", name.to_owned());
        let headers = [
            ("x-docker-expose-session-uuid", id.clone()),
            ("x-docker-expose-session-name", "image-worker".to_owned()),
            method("/grpc.health.v1.Health/Check"),
            method("/moby.buildkit.secrets.v1.Secrets/GetSecret"),
            method("/moby.filesync.v1.Auth/Credentials"),
        ];
        let connection = upgrade(place, "/session", &headers).await?;
        let answers = SecretsServer::new(Answers { secrets: secrets.values().clone() });
        let registries = AuthServer::new(Registries(access.clone()));
        let routes = TowerToHyperService::new(
            Routes::new(answers).add_service(HealthServer::new(Alive)).add_service(registries),
        );
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let serving = tokio::spawn(async move {
            // It ends with the build; a build that misses it says so itself.
            drop(server.serve_connection(connection, routes).await);
        });
        Ok(Self { id, serving })
    }

    /// The session's name, by which a build finds it.
    pub(in crate::engine) fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Answers {
    secrets: BTreeMap<String, Vec<u8>>,
}

#[tonic::async_trait]
impl Secrets for Answers {
    async fn get_secret(&self, asked: Request<GetSecretRequest>) -> Result<Response<GetSecretResponse>, Status> {
        let id = &asked.get_ref().id;
        match self.secrets.get(id) {
            Some(value) => Ok(Response::new(GetSecretResponse { data: value.clone() })),
            // BuildKit goes on without where the Dockerfile does not say `required`.
            None => Err(Status::not_found(format!("no secret has the id {id}"))),
        }
    }
}

/// Who knows what registries want to see. BuildKit asks for one when it is about to speak to it.
struct Registries(Access);

#[tonic::async_trait]
impl Auth for Registries {
    async fn credentials(&self, asked: Request<CredentialsRequest>) -> Result<Response<CredentialsResponse>, Status> {
        let found = self.0.credentials(&asked.get_ref().host).await;
        let (username, secret) = match found.map(|found| found.login) {
            Some(Login::Password { username, password }) => (username, password),
            Some(Login::IdentityToken(token)) => (String::new(), token),
            None => Default::default(),
        };
        Ok(Response::new(CredentialsResponse { username, secret }))
    }

    // By what follows a client could sign in where BuildKit gives it no password: it has one then.

    async fn fetch_token(&self, _: Request<FetchTokenRequest>) -> Result<Response<FetchTokenResponse>, Status> {
        Err(Status::unimplemented("BuildKit signs in by itself"))
    }

    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("BuildKit signs in by itself"))
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("BuildKit signs in by itself"))
    }
}

struct Alive;

#[tonic::async_trait]
impl Health for Alive {
    type WatchStream = Empty<Result<HealthCheckResponse, Status>>;

    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        Err(Status::unimplemented("nobody lists us"))
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("nobody watches us"))
    }
}
