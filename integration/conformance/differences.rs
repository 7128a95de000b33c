//! The table of differences: what a builder makes otherwise than Docker's classic builder, and why that stays. Every
//! difference that is found must be here, and everything here must be found.

use std::fmt;

use regex::Regex;

use super::builder::name;
use crate::harness::Builder;

/// A difference that was found.
pub(super) struct Deviation {
    pub(super) case: String,
    pub(super) builder: Builder,
    /// A path, or a key of the configuration.
    pub(super) subject: String,
    pub(super) classic: Option<String>,
    pub(super) other: Option<String>,
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
        let (classic, other) = (value(&self.classic), value(&self.other));
        write!(f, "{} with {}, {}: {other}, not {classic}", self.case, name(self.builder), self.subject)
    }
}

/// A difference that is known.
pub(super) struct Known {
    /// What the builder does, in a sentence.
    pub(super) what: &'static str,
    pub(super) why: &'static str,
    builders: &'static [Builder],
    /// Regular expressions that hold for the whole of a case's name, and of a subject.
    cases: &'static str,
    subjects: &'static str,
    /// Whether the cases are enough, without the values: there are many, or another program decides.
    pub(super) everywhere: bool,
}

impl Known {
    pub(super) fn is_about(&self, found: &Deviation) -> bool {
        let whole = |pattern: &str, text: &str| Regex::new(&format!("^(?:{pattern})$")).unwrap().is_match(text);
        self.builders.contains(&found.builder) && whole(self.cases, &found.case) && whole(self.subjects, &found.subject)
    }
}

/// The first that is about a difference counts.
pub(super) const DIFFERENCES: &[Known] = &[
    Known {
        what: "says `/` where no working directory was set.",
        why: "It means the same.",
        builders: &[Builder::BuildKit],
        cases: ".*",
        subjects: "WorkingDir",
        everywhere: true,
    },
    Known {
        what: "signs its images with a label.",
        why: "It names the version of buildah.",
        builders: &[Builder::Podman],
        cases: ".*",
        subjects: r"Label io\.buildah\.version",
        everywhere: true,
    },
    Known {
        what: "leaves the folders that a step's container mounts something on, where the base has none.",
        why: "They are the runtime's mount points, empty, and only images without a base see them.",
        builders: &[Builder::BuildKit],
        cases: ".*",
        subjects: "/(dev|etc|proc|sys)",
        everywhere: true,
    },
    Known {
        what: "leaves the folders and files that a step's container mounts something on, where the base has none.",
        why: "They are the runtime's mount points, empty.",
        builders: &[Builder::Podman],
        cases: ".*",
        subjects: r"/(dev|etc|etc/hosts|etc/hostname|etc/resolv\.conf|proc|run|sys)",
        everywhere: true,
    },
    Known {
        what: "makes the folder of a WORKDIR only when a step or a copy needs it.",
        why: "A container that is started there gets the folder.",
        builders: &[Builder::Podman],
        cases: "env-everywhere|workdir-missing|workdir-relative",
        subjects: "/top/sub|/made(/here)?|/zero",
        everywhere: false,
    },
    Known {
        what: "gives the folder of a WORKDIR to the USER before it.",
        why: "Docker's classic builder gives it to root, whoever USER is; say `RUN chown` where it matters.",
        builders: &[Builder::BuildKit, Builder::Podman],
        cases: "from-stage-as-base|workdir-user",
        subjects: "/data|/home(/worker)?",
        everywhere: false,
    },
    Known {
        what: "gives folders to the owner that ADD says where it unpacks a tar.",
        why: "Docker's classic builder uses the owner for nothing that has to do with a tar; BuildKit for the folder that it \
              unpacks into, buildah for the folders that the tar does not name too.",
        builders: &[Builder::BuildKit, Builder::Podman],
        cases: "add-tar-chown",
        subjects: "/out(/.*)?",
        everywhere: false,
    },
    Known {
        what: "knows `COPY --chmod`.",
        why: "Docker's classic builder refuses it and names BuildKit.",
        builders: &[Builder::BuildKit, Builder::Podman],
        cases: "copy-chmod",
        subjects: "Exit code",
        everywhere: false,
    },
    Known {
        what: "copies a Dockerfile that .dockerignore names.",
        why: "It reads the Dockerfile from the context that it is sent; `docker build` sends it beside the context.",
        builders: &[Builder::BuildKit],
        cases: "copy-ignored-dockerfile",
        subjects: "/all/Dockerfile",
        everywhere: false,
    },
    Known {
        what: "puts a file in the place of a link, not behind it.",
        why: "buildah's copier does; write the target's name.",
        builders: &[Builder::Podman],
        cases: "copy-over-symlink",
        subjects: "/link|/target",
        everywhere: false,
    },
    Known {
        what: "makes a folder where several files are copied to a name without a slash.",
        why: "They ask for no slash; write it.",
        builders: &[Builder::BuildKit, Builder::Podman],
        cases: "copy-several-to-file",
        subjects: "Exit code",
        everywhere: false,
    },
    Known {
        what: "keeps a range of ports as a range.",
        why: "buildah does not take it apart; write the ports.",
        builders: &[Builder::Podman],
        cases: "expose-forms",
        subjects: "ExposedPorts",
        everywhere: false,
    },
    Known {
        what: "takes any word for a port, and then cannot tell what is in the image.",
        why: "A bug of Podman 4.3; the program ends with the engine's failure.",
        builders: &[Builder::Podman],
        cases: "expose-wrong",
        subjects: "Exit code",
        everywhere: false,
    },
    Known {
        what: "makes an image without layers.",
        why: "Docker refuses it, or makes it and cannot export it.",
        builders: &[Builder::Podman],
        cases: "from-only|layers-none|text-no-from",
        subjects: "Exit code",
        everywhere: false,
    },
    Known {
        what: "finds a stage by an argument only where the Dockerfile names it as well.",
        why: "buildah 1.28 looks for stages before it fills arguments in, and asks a registry for the name: the exit code is 20 or 30, by what comes of that.",
        builders: &[Builder::Podman],
        cases: "from-arg-stage",
        subjects: "Exit code",
        everywhere: true,
    },
    Known {
        what: "wants stages by the name that they were given, in the same letters.",
        why: "Write names of stages in small letters.",
        builders: &[Builder::BuildKit, Builder::Podman],
        cases: "from-stage-case",
        subjects: "Exit code",
        everywhere: false,
    },
    Known {
        what: "lets no step make devices.",
        why: "Its containers have no CAP_MKNOD.",
        builders: &[Builder::Podman],
        cases: "run-device",
        subjects: "Exit code",
        everywhere: false,
    },
    Known {
        what: "lets no step write into the hosts file.",
        why: "It is mounted for reading only.",
        builders: &[Builder::BuildKit],
        cases: "run-hosts",
        subjects: "Exit code",
        everywhere: false,
    },
    Known {
        what: "takes `/bin/sh` for a CMD after SHELL.",
        why: "buildah 1.28 looks at SHELL for RUN only.",
        builders: &[Builder::Podman],
        cases: "run-shell",
        subjects: "Cmd",
        everywhere: false,
    },
    Known {
        what: "keeps another escape character inside quotes.",
        why: "buildah 1.28 knows it at the ends of lines only.",
        builders: &[Builder::Podman],
        cases: "text-escape",
        subjects: "Label a",
        everywhere: false,
    },
    Known {
        what: "copies nothing where a pattern finds nothing.",
        why: "BuildKit of Docker 20.10 takes it for no mistake.",
        builders: &[Builder::BuildKit],
        cases: "copy-glob-of-nothing",
        subjects: "Exit code",
        everywhere: false,
    },
    Known {
        what: "keeps what a step writes into a volume after VOLUME.",
        why: "To the others a step's volume is a mount, whose content is thrown away; write before VOLUME.",
        builders: &[Builder::BuildKit],
        cases: "volume-changes",
        subjects: "/volume/run",
        everywhere: false,
    },
];
