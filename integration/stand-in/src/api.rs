//! What every API call goes through, in the services' own order: body, credentials, parameters, query, schema,
//! handler; and what their errors look like. The calls themselves are in the rooms of their services.

use std::cell::RefCell;

use hyper::body::Bytes;
use hyper::header::HeaderMap;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::auth::{Caller, Signed, identify};
use super::http::{Reply, header, parameters};
use super::routes::{Params, Route};
use super::runs::settle;
use super::schema::{Schema, complaints};
use super::scopes::Expression;
use super::world::{World, is_slugid, json_time, parse_time, slugid};

/// What an API call does.
pub(super) type Handler = fn(&mut World, &Ask) -> Answer;

/// What comes of it.
pub(super) type Answer = Result<Reply, ApiError>;

/// A request to the API, as it arrived.
pub(super) struct ApiRequest {
    pub(super) method: String,
    pub(super) path_and_query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Who it is, when that is known already: calls through the proxy.
    pub(super) caller: Option<Caller>,
}

/// A request to a handler: all checked that could be checked without it.
pub(super) struct Ask {
    pub(super) route: &'static Route,
    params: Params,
    pub(super) query: Vec<(String, String)>,
    pub(super) body: Value,
    caller: Caller,
    demanded: RefCell<Vec<String>>,
}

/// What came of a call, and what the log tells of it.
pub(super) struct Answered {
    pub(super) reply: Reply,
    /// Who was recognised.
    pub(super) client_id: Option<String>,
    /// The scopes that were demanded.
    pub(super) demanded: Vec<String>,
}

/// An error answer.
#[derive(Debug)]
pub(super) struct ApiError {
    status: u16,
    code: &'static str,
    message: String,
}

impl ApiError {
    pub(super) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// 400, for what the schemas cannot say.
    pub(super) fn input(message: impl Into<String>) -> Self {
        Self::new(400, "InputError", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, "ResourceNotFound", message)
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, "RequestConflict", message)
    }

    /// Status and message, for those who do not come through the API.
    pub(super) fn into_parts(self) -> (u16, String) {
        (self.status, self.message)
    }

    /// 500, as the services answer where they did not foresee something. The reason is for whoever reads tests.
    pub(super) fn internal(reason: &str) -> Self {
        let message = format!("Internal Server Error, incidentId {}. Error: {reason}", slugid());
        Self::new(500, "InternalServerError", message)
    }

    fn arguments(message: String) -> Self {
        Self::new(400, "InvalidRequestArguments", message)
    }
}

impl Ask {
    /// A parameter of the path; empty when the route has none of that name.
    pub(super) fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(param, _)| *param == name).map_or("", |(_, value)| value)
    }

    /// The run of the path, if the route has one.
    pub(super) fn run_id(&self) -> Option<u32> {
        self.param("runId").parse().ok()
    }

    /// A property of the body that the schema demands.
    pub(super) fn text(&self, property: &str) -> &str {
        self.body[property].as_str().unwrap_or_default()
    }

    /// A time of the body that the schema demands.
    pub(super) fn time(&self, property: &str) -> Result<Timestamp, ApiError> {
        parse_time(self.text(property)).ok_or_else(|| ApiError::internal("the schema lets bad times pass"))
    }

    /// The caller's scopes.
    pub(super) fn given(&self) -> &[String] {
        match &self.caller {
            Caller::Failed(_) => &[],
            Caller::Anonymous { scopes } | Caller::Client { scopes, .. } => scopes,
        }
    }

    /// Refuses callers that lack one of `scopes`.
    pub(super) fn authorize(&self, scopes: &[String]) -> Result<(), ApiError> {
        self.authorize_expression(&Expression::all(scopes.iter().cloned()))
    }

    /// Refuses callers that do not have what a call demands.
    pub(super) fn authorize_expression(&self, demanded: &Expression) -> Result<(), ApiError> {
        let id = match &self.caller {
            Caller::Failed(message) => return Err(ApiError::new(401, "AuthenticationFailed", message)),
            Caller::Anonymous { .. } => None,
            Caller::Client { id, .. } => Some(id),
        };
        let given = self.given();
        for scope in demanded.scopes(given) {
            let mut all = self.demanded.borrow_mut();
            if !all.contains(&scope) {
                all.push(scope);
            }
        }
        let Some(missing) = demanded.missing(given) else { return Ok(()) };
        let whole = format!("satisfy the following scope expression:\n\n```\n{demanded}\n```");
        let message = match id {
            Some(id) => format!(
                "Client ID {id} does not have sufficient scopes and is missing the following scopes:\n\n\
                 ```\n{missing}\n```\n\nThis request requires the client to {whole}"
            ),
            None => format!("This request requires Taskcluster credentials that {whole}"),
        };
        Err(ApiError::new(403, "InsufficientScopes", message))
    }
}

/// Answers a call.
pub(super) fn answer(world: &mut World, route: &'static Route, params: Params, request: &ApiRequest) -> Answered {
    // Only a body that says it is JSON is read at all; the rest, to the services, is no body.
    let is_json = header(&request.headers, "content-type")
        .is_some_and(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json"));
    let text: &[u8] = if is_json { &request.body } else { b"" };
    let signed =
        Signed { method: &request.method, path_and_query: &request.path_and_query, headers: &request.headers, text };
    let caller = request.caller.clone().unwrap_or_else(|| identify(world, &signed));
    let client_id = match &caller {
        Caller::Client { id, .. } => Some(id.clone()),
        _ => None,
    };
    let query = request.path_and_query.split_once('?').map_or(Vec::new(), |(_, query)| parameters(query));
    settle(world);
    let mut ask = Ask { route, params, query, body: json!({}), caller, demanded: RefCell::default() };
    let answer = ask.read_body(text).and_then(|()| ask.check(is_json)).and_then(|()| (route.handler)(world, &ask));
    let reply = answer.unwrap_or_else(|error| error_reply(&error, &ask, &json_time(world.now())));
    let reply = reply.header("cache-control", "no-store, no-cache, must-revalidate");
    let reply = if request.method == "HEAD" { reply.head() } else { reply };
    Answered { reply, client_id, demanded: ask.demanded.into_inner() }
}

/// The answer to a path that no route matches.
pub(super) fn unknown_route() -> Reply {
    Reply::json(404, &json!({"error": "Not found"}))
}

impl Ask {
    fn read_body(&mut self, text: &[u8]) -> Result<(), ApiError> {
        if text.is_empty() {
            return Ok(());
        }
        let malformed =
            |reason: &str| ApiError::new(400, "MalformedPayload", format!("Failed to parse JSON: {reason}"));
        self.body = serde_json::from_slice(text).map_err(|error| malformed(&error.to_string()))?;
        if !self.body.is_object() && !self.body.is_array() {
            return Err(malformed("Must be an object or array"));
        }
        Ok(())
    }

    /// The order matters: the scope that the path decides about comes before anything that is wrong with it.
    fn check(&self, is_json: bool) -> Result<(), ApiError> {
        if let Some(scope) = self.route.scope {
            let fill = |scope: String, (name, value): &(&str, String)| scope.replace(&format!("<{name}>"), value);
            self.authorize_expression(&Expression::scope(self.params.iter().fold(scope.to_owned(), fill)))?;
        }
        let bad: Vec<String> = self.params.iter().filter_map(|(name, value)| bad_param(name, value)).collect();
        if !bad.is_empty() {
            return Err(ApiError::arguments(format!("Invalid URL patterns:\n{}", bad.join("\n"))));
        }
        let bad: Vec<String> = self.query.iter().filter_map(|(name, value)| self.bad_query(name, value)).collect();
        if !bad.is_empty() {
            return Err(ApiError::arguments(bad.join("\n")));
        }
        let Some(schema) = self.route.input else { return Ok(()) };
        if !is_json {
            let message = "Payload must be JSON with content-type: application/json";
            return Err(ApiError::new(400, "MalformedPayload", message));
        }
        validate(schema, &self.body)
    }

    fn bad_query(&self, name: &str, value: &str) -> Option<String> {
        let good = match name {
            "bewit" => true,
            "limit" if self.route.paged => !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()),
            "continuationToken" if self.route.paged => !value.is_empty(),
            _ => return Some(format!("Query-string parameter: {name} is not supported!")),
        };
        (!good).then(|| format!("Query-string parameter: {name}=\"{value}\" does not match expression"))
    }
}

/// Refuses a body that does not have the shape of its schema.
pub(super) fn validate(schema: Schema, body: &Value) -> Result<(), ApiError> {
    let complaints = complaints(schema, body);
    if complaints.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = complaints.iter().map(|complaint| format!("  * {complaint}")).collect();
    let message = format!("Schema Validation Failed!\nErrors:\n{}", list.join("\n"));
    Err(ApiError::new(400, "InputValidationError", message))
}

/// Whether the index takes it for a namespace.
pub(super) fn is_namespace(text: &str) -> bool {
    let is_part =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_!~*'()%-".contains(&b));
    text.split('.').all(is_part)
}

/// What is wrong with a parameter of the path, by its name.
fn bad_param(name: &str, value: &str) -> Option<String> {
    let good = match name {
        "taskId" | "taskGroupId" => is_slugid(value),
        "runId" => !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()),
        "name" => !value.is_empty() && value.bytes().all(|b| (0x20..=0x7e).contains(&b)),
        "namespace" | "indexPath" => is_namespace(value),
        _ => true,
    };
    (!good).then(|| format!("URL parameter '{name}' given as '{value}' must match regular expression"))
}

fn error_reply(error: &ApiError, ask: &Ask, time: &str) -> Reply {
    let ApiError { status, code, message } = error;
    let name = ask.route.name;
    let message = format!(
        "{message}\n\n---\n\n* method:     {name}\n* errorCode:  {code}\n* statusCode: {status}\n* time:       {time}"
    );
    let params: Map<String, Value> = ask.params.iter().map(|(name, value)| ((*name).into(), json!(value))).collect();
    let body = json!({
        "code": code,
        "message": message,
        "requestInfo": {"method": name, "params": params, "payload": ask.body, "time": time},
    });
    let reply = Reply::json(*status, &body);
    if *status == 401 { reply.header("www-authenticate", "hawk") } else { reply }
}
