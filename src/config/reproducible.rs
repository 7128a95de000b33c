//! Whether an image is made reproducible, and its latest time. `image_archive` implements it.

use super::{ConfigError, ProcessEnvironment, SettingLayers, settings};
use crate::context::collect::CONTEXT_TIME;

/// The latest time in a reproducible image, in seconds since 1970; nothing for an image that stays as the engine made it.
pub(super) fn read(settings: &SettingLayers, environment: &ProcessEnvironment) -> Result<Option<u64>, ConfigError> {
    let Some(given) = settings.get(&settings::SOURCE_DATE_EPOCH)? else {
        return Ok(settings.switch(&settings::REPRODUCIBLE)?.then_some(CONTEXT_TIME.into()));
    };
    let Ok(epoch) = given.text.parse::<u64>() else {
        return Err(given.wrong(format!("{:?} is no number of seconds since 1970", given.text)));
    };
    if i64::try_from(epoch).map_or(true, |seconds| seconds > environment.now.as_second()) {
        let why =
            format!("{epoch} is in the future: times before it stay as the clock has them; give the commit's time");
        return Err(given.wrong(why));
    }
    Ok(Some(epoch))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn given(variables: &[(&str, &str)]) -> Result<Option<u64>, String> {
        let environment =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
        let settings = SettingLayers::new([].into(), &environment).unwrap();
        let environment = ProcessEnvironment {
            variable: &environment,
            now: "2020-01-01T00:00:00Z".parse().unwrap(),
            directory: "/".into(),
            temporary: "/".into(),
        };
        read(&settings, &environment).map_err(|error| error.to_string())
    }

    #[test]
    fn a_switch_or_an_epoch_makes_an_image_reproducible() {
        assert_eq!(given(&[]), Ok(None));
        assert_eq!(given(&[("IMAGE_WORKER_REPRODUCIBLE", "0"), ("SOURCE_DATE_EPOCH", "")]), Ok(None));
        assert_eq!(given(&[("IMAGE_WORKER_REPRODUCIBLE", "1")]), Ok(Some(1_451_606_400)));
        assert_eq!(given(&[("SOURCE_DATE_EPOCH", "7")]), Ok(Some(7)));
        assert_eq!(
            given(&[("SOURCE_DATE_EPOCH", "1577836800"), ("IMAGE_WORKER_REPRODUCIBLE", "1")]),
            Ok(Some(1_577_836_800))
        );
    }

    #[test]
    fn an_epoch_that_cannot_hold_is_refused() {
        let future = given(&[("SOURCE_DATE_EPOCH", "1577836801")]).unwrap_err();
        assert!(future.starts_with("SOURCE_DATE_EPOCH: 1577836801 is in the future"), "{future}");
        for text in ["-1", "soon", "18446744073709551616", "18446744073709551615"] {
            let error = given(&[("SOURCE_DATE_EPOCH", text)]).unwrap_err();
            assert!(error.starts_with("SOURCE_DATE_EPOCH: "), "{error}");
        }
    }
}
