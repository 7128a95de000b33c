//! Pages of long lists, as the services cut them by offset and limit. Lists that are cut by their last row
//! (a run's artifacts) do that themselves.

use serde_json::Value;

use crate::api::{ApiError, ApiRequest};

/// What `limit` cannot exceed, and its default.
const MOST: usize = 1000;

/// The page that a caller requests.
pub(crate) struct Paging {
    offset: usize,
    limit: usize,
}

impl Paging {
    /// From the query, whose patterns the route has checked.
    pub(crate) fn of(request: &ApiRequest) -> Result<Self, ApiError> {
        let query = |name: &str| request.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let limit = query("limit").and_then(|limit| limit.parse().ok()).map_or(MOST, |limit: usize| limit.min(MOST));
        let offset = match query("continuationToken") {
            // The services' tokens have no other characters; what has only these and means nothing is no token.
            Some(token) if !token.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                return Err(ApiError::input("Invalid continuation token"));
            }
            Some(token) => token.strip_prefix("from").and_then(|offset| offset.parse().ok()).unwrap_or(0),
            None => 0,
        };
        Ok(Self { offset, limit })
    }

    /// The rows of this page, and the token of the next. The token is null after a page of none, of which the
    /// services cannot make one.
    pub(crate) fn page<T>(&self, rows: impl IntoIterator<Item = T>) -> (Vec<T>, Option<Value>) {
        let mut rows: Vec<T> = rows.into_iter().skip(self.offset).take(self.limit + 1).collect();
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let end = self.offset + self.limit;
        // As long as the shortest of the services' tokens.
        let token = more.then(|| if end == 0 { Value::Null } else { format!("from{end:06}").into() });
        (rows, token)
    }
}
