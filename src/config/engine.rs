//! Which engine to use, and where to look for it, by the rules of docker's own client. `engine` connects to it or starts one.

use std::path::PathBuf;

use super::docker::DockerConfig;
use super::logins::registry_logins;
use super::podman::look;
use super::{ConfigError, ProcessEnvironment, SettingLayers, SettingValue, ValueSource, retry, settings};
use crate::engine::{EngineAddress, EngineChoice, EngineConfig, NamedBy, TlsFiles, engine_url};

/// Where docker's client looks for certificates if TLS is enabled without a path.
const TLS_ADDRESS: &str = "tcp://localhost:2376";

impl EngineConfig {
    /// Reads where to look for an engine.
    pub(crate) fn read(settings: &SettingLayers, environment: &ProcessEnvironment) -> Result<Self, ConfigError> {
        let choice = settings.parse_or_default(&settings::ENGINE)?;
        let docker = DockerConfig::read(settings, environment)?;
        Ok(Self {
            choice,
            address: address(settings, environment, &docker, choice)?,
            logins: registry_logins(settings, environment)?,
            proxies: docker.proxies,
            runtime_dir: (environment.variable)("XDG_RUNTIME_DIR").map(PathBuf::from),
            podman: look(environment),
            retry: retry::read(settings)?,
        })
    }

    /// The same for a subcommand whose images must stay in the engine.
    pub(crate) fn read_lasting(
        settings: &SettingLayers,
        environment: &ProcessEnvironment,
    ) -> Result<Self, ConfigError> {
        let config = Self::read(settings, environment)?;
        match settings.get(&settings::ENGINE)? {
            Some(given) if config.is_managed() => Err(given.wrong(
                "is for run and replay: a managed engine is gone with its job, and with it the image that this subcommand makes or needs; name another engine",
            )),
            _ => Ok(config),
        }
    }
}

/// The configured endpoint, in the order of docker's client: a context on the command line, `DOCKER_HOST`, `DOCKER_CONTEXT`, the
/// current context. The current context concerns docker only: it is ignored for Podman and for a managed engine.
fn address(
    settings: &SettingLayers,
    environment: &ProcessEnvironment,
    docker: &DockerConfig,
    choice: EngineChoice,
) -> Result<Option<EngineAddress>, ConfigError> {
    let (host, context) = (settings.get(&settings::DOCKER_HOST)?, settings.get(&settings::DOCKER_CONTEXT)?);
    let is_typed =
        |given: &Option<SettingValue>| given.as_ref().is_some_and(|given| matches!(given.origin, ValueSource::Flag(_)));
    let named = match &context {
        Some(given) if is_typed(&context) && is_typed(&host) => {
            return Err(given.wrong("says where the engine is, and so does --docker-host: leave one of them out"));
        }
        Some(given) if is_typed(&context) || host.is_none() => docker
            .context(&given.text, given.origin.to_string())
            .map_err(|problem| problem.into_config_error(|why| given.wrong(why)))?,
        None if host.is_none() && matches!(choice, EngineChoice::Auto | EngineChoice::Docker) => docker.current()?,
        _ => None,
    };
    if named.is_some() {
        return Ok(named);
    }
    let asked_by = tls_asked_by(settings, environment)?;
    let Some(host) = host else {
        // A directory of certificates alone does not enable TLS.
        let verifies = asked_by.filter(|origin| *origin != ValueSource::Variable(settings::DOCKER_CERT_PATH.variable));
        let is_meant = matches!(choice, EngineChoice::Auto | EngineChoice::Docker);
        return match verifies.filter(|_| is_meant) {
            Some(origin) => at(settings, docker, TLS_ADDRESS.to_owned(), &origin, Some(&origin)).map(Some),
            None => Ok(None),
        };
    };
    let url = engine_url(&host.text).map_err(|why| host.wrong(why))?;
    at(settings, docker, url, &host.origin, asked_by.as_ref()).map(Some)
}

/// An engine at `url`, with TLS if it is enabled.
fn at(
    settings: &SettingLayers,
    docker: &DockerConfig,
    url: String,
    named_by: &ValueSource,
    asked_by: Option<&ValueSource>,
) -> Result<EngineAddress, ConfigError> {
    // A local socket needs no TLS.
    let asked_by = asked_by.filter(|_| EngineAddress::is_remote(&url));
    let tls = match asked_by {
        Some(by) => {
            let directory = settings.parse(&settings::DOCKER_CERT_PATH)?.or_else(|| docker.directory.clone());
            let why = "TLS with the engine needs the directory of ca.pem";
            let directory = directory.ok_or(ConfigError::Missing { setting: &settings::DOCKER_CERT_PATH, why })?;
            Some(TlsFiles { directory, asked_by: by.to_string(), needs_ca: true })
        }
        None => None,
    };
    Ok(EngineAddress { url, named_by: NamedBy::Host(named_by.to_string()), tls })
}

/// The setting that enables TLS. docker's client takes any value of its variables for a yes, 0 too; its library takes a directory
/// of certificates for one.
fn tls_asked_by(
    settings: &SettingLayers,
    environment: &ProcessEnvironment,
) -> Result<Option<ValueSource>, ConfigError> {
    if let Some(given) = settings.get(&settings::DOCKER_TLS_VERIFY)?
        && (matches!(given.origin, ValueSource::Variable(_)) || settings.switch(&settings::DOCKER_TLS_VERIFY)?)
    {
        return Ok(Some(given.origin));
    }
    if (environment.variable)("DOCKER_TLS").is_some_and(|value| !value.is_empty()) {
        return Ok(Some(ValueSource::Variable("DOCKER_TLS")));
    }
    Ok(settings.get(&settings::DOCKER_CERT_PATH)?.map(|given| given.origin))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsString;
    use std::path::Path;

    use super::*;
    use crate::engine::DOCKER_SOCKET;
    use crate::net::Digest;

    /// A home with three docker contexts: one with TLS, one without, and one over ssh; the first is current.
    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        let docker = home.path().join(".docker");
        let context = |name: &str, endpoints: &str| {
            let directory = docker.join("contexts/meta").join(Digest::of(name.as_bytes()).to_string());
            std::fs::create_dir_all(&directory).unwrap();
            let meta = format!(r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{endpoints}}}"#);
            std::fs::write(directory.join("meta.json"), meta).unwrap();
        };
        context("secure", r#"{"docker":{"Host":"tcp://192.0.2.1:2376","SkipTLSVerify":false}}"#);
        std::fs::create_dir_all(tls_directory(home.path(), "secure")).unwrap();
        context("careless", r#"{"docker":{"Host":"tcp://192.0.2.2:2376","SkipTLSVerify":true}}"#);
        context("local", r#"{"docker":{"Host":"unix:///run/local.sock"}}"#);
        context("far", r#"{"docker":{"Host":"ssh://me@example.com"}}"#);
        context("other", r#"{"kubernetes":{}}"#);
        std::fs::write(docker.join("config.json"), r#"{"auths":{},"currentContext":"secure"}"#).unwrap();
        home
    }

    fn tls_directory(home: &Path, name: &str) -> PathBuf {
        home.join(".docker/contexts/tls").join(Digest::of(name.as_bytes()).to_string()).join("docker")
    }

    fn read(home: &Path, flags: &[(&'static str, &str)], variables: &[(&str, &str)]) -> Result<EngineConfig, String> {
        let home = home.to_owned();
        let variables: BTreeMap<_, _> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
        let environment = move |name: &str| match name {
            "HOME" => Some(home.clone().into_os_string()),
            _ => variables.get(name).cloned(),
        };
        let flags = flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let settings = SettingLayers::new(flags, &environment).unwrap();
        let environment = ProcessEnvironment {
            variable: &environment,
            now: jiff::Timestamp::UNIX_EPOCH,
            directory: PathBuf::new(),
            temporary: PathBuf::new(),
        };
        EngineConfig::read(&settings, &environment).map_err(|error| error.to_string())
    }

    fn url_of(home: &Path, flags: &[(&'static str, &str)], variables: &[(&str, &str)]) -> Option<String> {
        read(home, flags, variables).unwrap().address.map(|address| address.url)
    }

    #[test]
    fn the_order_is_that_of_dockers_client() {
        let home = home();
        let of = |flags: &[(&'static str, &str)], variables: &[(&str, &str)]| url_of(home.path(), flags, variables);
        let (host, local) = (("DOCKER_HOST", "192.0.2.9:1"), ("DOCKER_CONTEXT", "local"));
        assert_eq!(of(&[], &[host, local]).as_deref(), Some("tcp://192.0.2.9:1"));
        assert_eq!(of(&[("docker-context", "local")], &[host]).as_deref(), Some("unix:///run/local.sock"));
        assert_eq!(of(&[("docker-context", "default")], &[host]).as_deref(), Some("tcp://192.0.2.9:1"));
        assert_eq!(of(&[], &[local]).as_deref(), Some("unix:///run/local.sock"));
        assert_eq!(of(&[], &[]).as_deref(), Some("tcp://192.0.2.1:2376"));
        assert_eq!(of(&[("engine", "docker")], &[]).as_deref(), Some("tcp://192.0.2.1:2376"));
        // Nothing is configured: the search covers all the usual places.
        assert_eq!(of(&[], &[("DOCKER_CONTEXT", "default")]), None);
        assert_eq!(of(&[("engine", "podman")], &[]), None);
        assert_eq!(of(&[("engine", "managed")], &[]), None);
        assert_eq!(of(&[], &[("DOCKER_CONFIG", "/nonexistent")]), None);
        let both = read(home.path(), &[("docker-context", "local"), ("docker-host", "192.0.2.9:1")], &[]).unwrap_err();
        assert!(both.starts_with("--docker-context: ") && both.contains("--docker-host"), "{both}");
        let by = read(home.path(), &[], &[]).unwrap().address.unwrap().named_by.to_string();
        assert!(
            by.starts_with(", from the docker context secure (currentContext in ") && by.ends_with("config.json)"),
            "{by}"
        );
    }

    #[test]
    fn tls_that_is_asked_for_is_never_left_out() {
        let home = home();
        let tls = |variables: &[(&str, &str)]| read(home.path(), &[], variables).unwrap().address.and_then(|it| it.tls);
        let host = ("DOCKER_HOST", "tcp://192.0.2.9:2376");
        let certificates = ("DOCKER_CERT_PATH", "/certificates");
        assert_eq!(tls(&[host]), None);
        for enabled_by in [("DOCKER_TLS_VERIFY", "1"), ("DOCKER_TLS_VERIFY", "0"), ("DOCKER_TLS", "1"), certificates] {
            let files = tls(&[host, enabled_by]).unwrap_or_else(|| panic!("{enabled_by:?}"));
            assert_eq!((files.asked_by.as_str(), files.needs_ca), (enabled_by.0, true));
        }
        let enabled_by = ("DOCKER_TLS_VERIFY", "1");
        assert_eq!(tls(&[host, enabled_by]).unwrap().directory, home.path().join(".docker"));
        assert_eq!(tls(&[host, enabled_by, certificates]).unwrap().directory, Path::new("/certificates"));
        assert_eq!(tls(&[("DOCKER_HOST", "unix:///x.sock"), enabled_by]), None, "a socket needs none");
        // TLS of a context: if it has certificates, or does not verify the server's.
        assert_eq!(tls(&[]).unwrap().directory, tls_directory(home.path(), "secure"));
        assert!(tls(&[("DOCKER_CONTEXT", "careless")]).is_some());
        assert_eq!(tls(&[("DOCKER_CONTEXT", "local"), enabled_by]), None);
        let alone = [("DOCKER_CONTEXT", "default"), enabled_by];
        assert_eq!(url_of(home.path(), &[], &alone).as_deref(), Some("tcp://localhost:2376"));
        assert_eq!(url_of(home.path(), &[], &[("DOCKER_CONTEXT", "default"), certificates]), None);
    }

    #[test]
    fn a_context_that_leads_nowhere_is_named_with_the_way_out() {
        let home = home();
        for (name, words) in [
            ("gone", "DOCKER_CONTEXT: there is no docker context \"gone\""),
            ("far", "DOCKER_CONTEXT: the docker context \"far\": ssh:// is not spoken here"),
            ("other", "DOCKER_CONTEXT: the docker context \"other\" is not about"),
        ] {
            let error = read(home.path(), &[], &[("DOCKER_CONTEXT", name)]).unwrap_err();
            assert!(error.starts_with(words), "{error}");
        }
        let file = home.path().join(".docker/config.json");
        std::fs::write(&file, r#"{"currentContext":"gone"}"#).unwrap();
        let error = read(home.path(), &[], &[]).unwrap_err();
        let begins = format!("{}: currentContext: there is no docker context \"gone\"", file.display());
        assert!(error.starts_with(&begins) && error.contains("DOCKER_CONTEXT=default"), "{error}");
        std::fs::write(&file, r#"{"auths":{"a":{"auth":"hunter22"}},"currentContext":["hunter22"]}"#).unwrap();
        let error = read(home.path(), &[], &[]).unwrap_err();
        assert!(error.contains("look at line 1") && !error.contains("hunter22"), "{error}");
        std::fs::write(&file, r#"{"currentContext":null}"#).unwrap();
        assert_eq!(url_of(home.path(), &[], &[]), None);
        assert_eq!(url_of(home.path(), &[], &[("DOCKER_HOST", "unix://")]).as_deref(), Some(DOCKER_SOCKET));
    }
}
