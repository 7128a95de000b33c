//! The names that BuildKit gives to the parts of a build: which of them are steps of the `Dockerfile`, and which are internal.
//! `progress` tracks the parts.

use bollard::moby::buildkit::v1::VertexWarning;

use crate::engine::Step;
use crate::engine::build_log::plain;

/// What a part of a build does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A step of the `Dockerfile`.
    Step(Step),
    /// The lookup of an image: a base image, or a frontend that the `Dockerfile` names.
    Lookup(String),
    /// Internal work of BuildKit, which is not shown.
    Internal,
}

impl Part {
    /// Parses `[2/3] RUN make`, or with several stages `[builder 2/3] RUN make`. No other name is a step.
    pub(super) fn of(name: &str) -> Self {
        if let Some(step) = step(name) {
            return Self::Step(step);
        }
        let prefixes = ["[internal] load metadata for ", "resolve image config for "];
        let image = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix));
        // Docker 23 and later write this prefix.
        let image = image.map(|image| image.strip_prefix("docker-image://").unwrap_or(image));
        image.map_or(Self::Internal, |image| Self::Lookup(image.to_owned()))
    }
}

fn step(name: &str) -> Option<Step> {
    let (place, instruction) = name.strip_prefix('[')?.split_once("] ")?;
    let (stage, count) = place.rsplit_once(' ').map_or((None, place), |(stage, count)| (Some(stage), count));
    let (number, of) = count.split_once('/')?;
    Some(Step {
        number: number.parse().ok()?,
        of: of.parse().ok()?,
        instruction: instruction.trim().to_owned(),
        stage: stage.map(|stage| stage.trim().to_owned()),
    })
}

/// A warning in one line.
pub(super) fn warning_line(warning: &VertexWarning) -> String {
    let text = plain(&String::from_utf8_lossy(&warning.short));
    let line = warning.ranges.first().and_then(|range| range.start.as_ref()).map(|start| start.line);
    line.map_or_else(|| format!("[Warning] {text}"), |line| format!("[Warning] {text} (line {line})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_from_the_builders_own_business() {
        let text = |name| match Part::of(name) {
            Part::Step(step) => step.to_string(),
            Part::Lookup(image) => format!("looking for {image}"),
            Part::Internal => String::new(),
        };
        assert_eq!(text("[2/3] RUN [ -e /x ] || exit 1"), "step 2/3, RUN [ -e /x ] || exit 1,");
        assert_eq!(text("[stage-1  4/12] COPY a /b"), "step 4/12 of stage stage-1, COPY a /b,");
        assert_eq!(text("[linux/arm64 builder 1/2] FROM x"), "step 1/2 of stage linux/arm64 builder, FROM x,");
        assert_eq!(text("[internal] load metadata for docker.io/library/x:1"), "looking for docker.io/library/x:1");
        assert_eq!(
            text("resolve image config for docker.io/docker/dockerfile:1"),
            "looking for docker.io/docker/dockerfile:1"
        );
        assert_eq!(
            text("resolve image config for docker-image://docker.io/docker/dockerfile:1"),
            "looking for docker.io/docker/dockerfile:1"
        );
        for own in ["[internal] load remote build context", "copy /context /", "exporting to image", "[1/x] y", ""] {
            assert_eq!(Part::of(own), Part::Internal, "{own}");
        }
    }
}
