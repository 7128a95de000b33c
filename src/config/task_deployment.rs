//! The deployment of a task that is named by its URL.

use super::{ConfigError, SettingLayers, settings};
use crate::net::HttpUrl;
use crate::taskcluster::TaskRef;

impl SettingLayers<'_> {
    /// The same, with the deployment of a task's URL. A configured one that is another is an error: what is typed is never sent
    /// elsewhere.
    pub fn of_deployment(&self, task: &TaskRef) -> Result<Self, ConfigError> {
        let Some(root_url) = &task.root_url else { return Ok(self.clone()) };
        let whole = |url: &HttpUrl| url.reveal().as_str().trim_end_matches('/').to_owned();
        if let Some(given) = self.get(&settings::ROOT_URL)? {
            let configured: HttpUrl = given.parse()?;
            if whole(&configured) != whole(root_url) {
                let task = &task.task_id;
                let why = format!(
                    "is {configured}, and the URL of task {task} is of {root_url}: which one? Set it to that, or name the task by its id"
                );
                return Err(given.wrong(why));
            }
            return Ok(self.clone());
        }
        if self.get(&settings::PROXY_URL)?.is_some() {
            let why = "TASKCLUSTER_PROXY_URL is set, and the URL of a task does not say whose proxy that is";
            return Err(ConfigError::Missing { setting: &settings::ROOT_URL, why });
        }
        let mut settings = self.clone();
        settings.flags.insert(settings::ROOT_URL.name, whole(root_url));
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn a_tasks_url_says_the_deployment_and_never_another_than_the_configured_one() {
        let id = "fN1SbArXTPSVFNUvaOlinQ";
        let of = |configured: &'static str, task: &str| {
            let environment = |name: &str| (name == "TASKCLUSTER_ROOT_URL").then(|| OsString::from(configured));
            let settings = SettingLayers::new(BTreeMap::new(), &environment).unwrap();
            let settings = settings.of_deployment(&task.parse().unwrap()).map_err(|error| error.to_string())?;
            Ok::<_, String>(settings.get(&settings::ROOT_URL).unwrap().map(|given| given.text))
        };
        let url = format!("https://tc.example.com/tasks/{id}");
        assert_eq!(of("", &url), Ok(Some("https://tc.example.com".to_owned())));
        assert_eq!(of("https://tc.example.com/", &url), Ok(Some("https://tc.example.com/".to_owned())));
        assert_eq!(of("https://other.example.com", id), Ok(Some("https://other.example.com".to_owned())));
        let error = of("https://other.example.com", &url).unwrap_err();
        let words =
            ["TASKCLUSTER_ROOT_URL: is https://other.example.com, ", "is of https://tc.example.com: which one?"];
        assert!(words.iter().all(|words| error.contains(words)), "{error}");
    }
}
