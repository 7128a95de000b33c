//! Which images of the index a run takes instead of building its own. `publish` looks for them.

use jiff::Timestamp;

use super::{ConfigError, SettingLayers, settings, time};

/// Which images of the same hash a run takes from the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Any that lasts until the task's deadline.
    Any,
    /// One that lasts until this time: the decision task found one that does not. A task that expires before can make none that
    /// lasts longer than itself, and takes one that lasts as long.
    LastingUntil(Timestamp),
    /// Only one that this task itself has made, in an earlier start or run: it builds again, and once.
    Own,
    /// None.
    Nothing,
}

impl Reuse {
    pub(super) fn read(settings: &SettingLayers) -> Result<Self, ConfigError> {
        if settings.switch(&settings::FORCE)? {
            return Ok(Self::Nothing);
        }
        if settings.switch(&settings::REBUILD_TASK)? {
            return Ok(Self::Own);
        }
        let until = settings.get(&settings::NEEDED_UNTIL)?.map(|given| time(&given)).transpose()?;
        Ok(until.map_or(Self::Any, Self::LastingUntil))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn the_stricter_rule_holds() {
        let read = |variables: &[(&str, &str)]| {
            let environment =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
            Reuse::read(&SettingLayers::new([].into(), &environment).unwrap()).map_err(|error| error.to_string())
        };
        let (until, rebuild) = (("NEEDED_UNTIL", "2026-12-01T00:00:00.000Z"), ("REBUILD", "1"));
        assert_eq!(read(&[]), Ok(Reuse::Any));
        assert_eq!(read(&[("REBUILD", ""), ("NEEDED_UNTIL", "")]), Ok(Reuse::Any));
        assert_eq!(read(&[until]), Ok(Reuse::LastingUntil("2026-12-01T00:00:00Z".parse().unwrap())));
        assert_eq!(read(&[until, rebuild]), Ok(Reuse::Own));
        assert_eq!(read(&[until, rebuild, ("IMAGE_WORKER_FORCE", "1")]), Ok(Reuse::Nothing));
        let error = read(&[("NEEDED_UNTIL", "7d")]).unwrap_err();
        assert!(error.starts_with("NEEDED_UNTIL: \"7d\" is not a time: expected one like "), "{error}");
    }
}
