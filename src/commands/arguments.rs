//! Arguments that several subcommands take and that are not settings.

use clap::builder::NonEmptyStringValueParser;

use super::CommandContext;
use crate::config::{ConfigError, NamedImage, settings};
use crate::net::NameError;
use crate::taskcluster::Namespace;

/// The help of `--arg`.
const ARG: &str = "A build argument of the image, which fills in `# %ARG` lines; can be repeated, wins over those of kind.yml and [env: DOCKER_BUILD_ARGS]";

/// A build argument of an image, given on the command line.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(super) struct BuildArgs {
    /// `--arg K=V`, in their order.
    #[arg(id = "arg", long = "arg", value_name = "K=V", value_parser = key_value, help = ARG, help_heading = "The context")]
    pub(super) args: Vec<(String, String)>,
}

/// An image, and arguments that override its own.
#[derive(Debug, PartialEq, Eq, clap::Args)]
pub(super) struct ImageArgument {
    /// The image: its name, or the path of its directory
    #[arg(value_name = "NAME|PATH", value_parser = NonEmptyStringValueParser::new())]
    pub(super) image: String,
    #[command(flatten)]
    pub(super) build_args: BuildArgs,
}

impl ImageArgument {
    /// The image that the path or name selects.
    pub(super) fn named(&self, context: &CommandContext) -> Result<NamedImage, ConfigError> {
        let scheme = context.settings.parse_or_default(&settings::SCHEME)?;
        NamedImage::read(context.settings, &context.environment, &self.image, &self.build_args.args, scheme)
    }
}

/// A namespace of the index, also given as the route to it.
pub(super) fn namespace(typed: &str) -> Result<Namespace, NameError> {
    typed.strip_prefix("index.").unwrap_or(typed).parse()
}

/// `K=V`
pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} has no `=`: expected K=V"))?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct ForImage {
        #[command(flatten)]
        image: ImageArgument,
    }

    #[test]
    fn arguments_of_an_image_keep_their_order() {
        let typed = ForImage::try_parse_from(["hash", "a/b", "--arg", "Y=1", "--arg", "X=a=b"]).unwrap().image;
        let args = [("Y", "1"), ("X", "a=b")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(typed, ImageArgument { image: "a/b".to_owned(), build_args: BuildArgs { args: args.into() } });
        assert!(ForImage::try_parse_from(["hash", "a", "--arg", "X"]).is_err());
    }
}
