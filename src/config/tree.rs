//! The configuration of `tree`: which images, which scheme, and the format of the answer. `repository` has the answer.

use super::{ConfigError, ImagesDir, ProcessEnvironment, SettingLayers, settings};
use crate::context::HashScheme;

/// One invocation of `tree`.
#[derive(Debug)]
pub struct TreeConfig {
    /// Where the images are.
    pub place: ImagesDir,
    /// How contexts are hashed.
    pub scheme: HashScheme,
    /// The format of the answer.
    pub form: TreeForm,
}

/// How a tree of images is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeForm {
    /// Drawn, for a terminal.
    Drawing,
    /// For programs.
    Json,
    /// For Graphviz.
    Dot,
}

impl TreeConfig {
    /// Reads the configuration of `tree`.
    pub fn read(settings: &SettingLayers, environment: &ProcessEnvironment) -> Result<Self, ConfigError> {
        let form = match (settings.switch(&settings::JSON)?, settings.switch(&settings::DOT)?) {
            (false, false) => TreeForm::Drawing,
            (true, false) => TreeForm::Json,
            (false, true) => TreeForm::Dot,
            (true, true) => {
                let what = "--json and --dot are two forms of one answer".to_owned();
                return Err(ConfigError::Argument { what, hint: "leave one of them out" });
            }
        };
        Ok(Self {
            place: ImagesDir::read(settings, &environment.directory)?,
            scheme: settings.parse_or_default(&settings::SCHEME)?,
            form,
        })
    }
}
