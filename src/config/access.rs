//! The deployment: its root URL, and the credentials for calls to it. `taskcluster` makes the calls.

use super::settings::{self, Setting};
use super::{ConfigError, SettingLayers, SettingValue, retry};
use crate::net::HttpUrl;
use crate::taskcluster::{Access, Deployment};

const NOWHERE: &str = "it is the deployment, for example https://firefox-ci-tc.services.mozilla.com";

/// What calls to a deployment need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    /// Public data is read without them.
    Optional,
    /// Publishing needs them.
    Required,
}

/// The configured deployment, if there is one.
pub(super) fn optional(settings: &SettingLayers, credentials: Credentials) -> Result<Option<Deployment>, ConfigError> {
    let Some(root_url) = settings.parse::<HttpUrl>(&settings::ROOT_URL)? else { return Ok(None) };
    let access = match settings.parse::<HttpUrl>(&settings::PROXY_URL)? {
        Some(proxy) => Access::Proxy(proxy),
        None => hawk(settings, credentials)?,
    };
    Ok(Some(Deployment { root_url, access, retry: retry::read(settings)? }))
}

/// The configured deployment, which must be there.
pub(super) fn required(settings: &SettingLayers, credentials: Credentials) -> Result<Deployment, ConfigError> {
    optional(settings, credentials)?.ok_or(ConfigError::Missing { setting: &settings::ROOT_URL, why: NOWHERE })
}

fn hawk(settings: &SettingLayers, credentials: Credentials) -> Result<Access, ConfigError> {
    let text = |setting: &'static Setting| settings.parse::<String>(setting);
    match (text(&settings::CLIENT_ID)?, text(&settings::ACCESS_TOKEN)?) {
        (Some(client_id), Some(access_token)) => {
            // A value that no header can carry would fail at the first call, with the header in the error's text.
            for setting in [&settings::CLIENT_ID, &settings::ACCESS_TOKEN] {
                let sendable = |given: &SettingValue| given.text.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
                if let Some(given) = settings.get(setting)?.filter(|given| !sendable(given)) {
                    return Err(given.wrong("has a blank, a quote, or a character that is not ASCII"));
                }
            }
            let certificate = settings.get(&settings::CERTIFICATE)?;
            if let Some(given) = &certificate
                && serde_json::from_str::<serde_json::Map<_, serde_json::Value>>(&given.text).is_err()
            {
                return Err(given.wrong("is not a JSON object"));
            }
            Ok(Access::Hawk { client_id, access_token, certificate: certificate.map(|given| given.text) })
        }
        (None, None) if credentials == Credentials::Optional => Ok(Access::Anonymous),
        (None, None) => Err(ConfigError::Missing {
            setting: &settings::PROXY_URL,
            why: "publishing needs taskcluster-proxy (payload.features.taskclusterProxy), or TASKCLUSTER_CLIENT_ID and TASKCLUSTER_ACCESS_TOKEN",
        }),
        (None, Some(_)) => {
            Err(ConfigError::Missing { setting: &settings::CLIENT_ID, why: "TASKCLUSTER_ACCESS_TOKEN is set" })
        }
        (Some(_), None) => {
            Err(ConfigError::Missing { setting: &settings::ACCESS_TOKEN, why: "TASKCLUSTER_CLIENT_ID is set" })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn credentials_that_cannot_be_sent_are_refused_unprinted() {
        let good = [("TASKCLUSTER_CLIENT_ID", "me/1"), ("TASKCLUSTER_ACCESS_TOKEN", "secret")];
        let credentials_with = |variable: &'static str, value: &'static str| {
            let mut variables = BTreeMap::from(good);
            variables.insert(variable, value);
            let environment = move |name: &str| variables.get(name).map(OsString::from);
            hawk(&SettingLayers::new(BTreeMap::new(), &environment).unwrap(), Credentials::Required)
                .map_err(|error| error.to_string())
        };
        assert!(credentials_with("TASKCLUSTER_CERTIFICATE", "{\"seed\":\"secret\"}").is_ok());
        for (variable, value) in [
            ("TASKCLUSTER_CLIENT_ID", "secret\n"),
            ("TASKCLUSTER_ACCESS_TOKEN", "secret "),
            ("TASKCLUSTER_CERTIFICATE", "\"secret\""),
            ("TASKCLUSTER_CERTIFICATE", "{secret"),
        ] {
            let error = credentials_with(variable, value).unwrap_err();
            assert!(error.starts_with(variable) && !error.contains("secret"), "{error}");
        }
    }
}
