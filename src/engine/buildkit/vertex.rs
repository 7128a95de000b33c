//! The names that BuildKit gives to the parts of a build: which of them are steps of the `Dockerfile`, and which are its
//! own business. Following the parts is for `progress`.

use crate::engine::Step;

/// What a part of a build is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A step of the `Dockerfile`.
    Step(Step),
    /// Looking for an image: a base, or a frontend that the `Dockerfile` names.
    Looking(String),
    /// What concerns nobody while it works.
    Own,
}

impl Part {
    /// Reads `[2/3] RUN make`, or of several stages `[builder 2/3] RUN make`; all else is no step.
    pub(super) fn of(name: &str) -> Self {
        if let Some(step) = step(name) {
            return Self::Step(step);
        }
        let looking = ["[internal] load metadata for ", "resolve image config for "];
        let image = looking.iter().find_map(|words| name.strip_prefix(words));
        // As Docker 23 and later write it.
        let image = image.map(|image| image.strip_prefix("docker-image://").unwrap_or(image));
        image.map_or(Self::Own, |image| Self::Looking(image.to_owned()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_from_the_builders_own_business() {
        let told = |name| match Part::of(name) {
            Part::Step(step) => step.to_string(),
            Part::Looking(image) => format!("looking for {image}"),
            Part::Own => String::new(),
        };
        assert_eq!(told("[2/3] RUN [ -e /x ] || exit 1"), "step 2/3, RUN [ -e /x ] || exit 1,");
        assert_eq!(told("[stage-1  4/12] COPY a /b"), "step 4/12 of stage stage-1, COPY a /b,");
        assert_eq!(told("[linux/arm64 builder 1/2] FROM x"), "step 1/2 of stage linux/arm64 builder, FROM x,");
        assert_eq!(told("[internal] load metadata for docker.io/library/x:1"), "looking for docker.io/library/x:1");
        assert_eq!(
            told("resolve image config for docker.io/docker/dockerfile:1"),
            "looking for docker.io/docker/dockerfile:1"
        );
        assert_eq!(
            told("resolve image config for docker-image://docker.io/docker/dockerfile:1"),
            "looking for docker.io/docker/dockerfile:1"
        );
        for own in ["[internal] load remote build context", "copy /context /", "exporting to image", "[1/x] y", ""] {
            assert_eq!(Part::of(own), Part::Own, "{own}");
        }
    }
}
