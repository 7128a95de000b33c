//! The secrets service, as far as somebody reads: who has the scope gets the secret, who has not does not even learn
//! whether it is there. Writing is for the tests.

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::api::{Answer, ApiError, Ask};
use super::http::Reply;
use super::world::{World, json_time};

/// How long a secret is there.
const DAY: SignedDuration = SignedDuration::from_hours(24);

pub(super) fn put(world: &mut World, name: &str, value: Value) {
    let expires = world.now() + DAY;
    world.secrets.insert(name.to_owned(), (value, expires));
}

pub(super) fn get(world: &mut World, ask: &Ask) -> Answer {
    let name = ask.param("name");
    let (secret, expires) = world.secrets.get(name).ok_or_else(|| ApiError::not_found("Secret not found"))?;
    if *expires <= world.now() {
        return Err(ApiError::new(410, "ResourceExpired", "The requested resource has expired."));
    }
    Ok(Reply::json(200, &json!({ "secret": secret, "expires": json_time(*expires) })))
}
