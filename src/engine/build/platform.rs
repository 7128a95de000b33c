//! Builds for another architecture than the engine's: checks whether steps for it can run here, and whether the built image has
//! it. `BuildPlan::target_arch` is the requested architecture.

use std::fs;
use std::io;
use std::path::Path;

use tracing::info;

use super::failure::request_error;
use crate::dockerfile::instructions::{self, Instruction};
use crate::engine::{BuilderChoice, TargetArch};
use crate::engine::{Engine, EngineError};

/// Where the kernel lists the interpreters for programs of other architectures.
const BINFMT: &str = "/proc/sys/fs/binfmt_misc";

impl Engine {
    /// Refuses an image whose steps cannot run here, before the build starts.
    pub async fn check_steps(&self, target: TargetArch, dockerfile: &str) -> Result<(), EngineError> {
        match self.own_architecture_unless(target).await? {
            Some(own) => self.refuse_steps(target, &own, dockerfile),
            None => Ok(()),
        }
    }

    /// The platform to request from the engine. `None` if it is the engine's own. Refuses steps that cannot run on it.
    pub(in crate::engine) async fn platform(
        &self,
        target: Option<TargetArch>,
        dockerfile: &str,
    ) -> Result<Option<String>, EngineError> {
        let Some(target) = target else { return Ok(None) };
        let Some(own) = self.own_architecture_unless(target).await? else { return Ok(None) };
        self.refuse_steps(target, &own, dockerfile)?;
        if runs_for_target(dockerfile) && !self.place.is_on_this_kernel() {
            info!(
                "the engine is {own}, on another machine or in a virtual one: whether it runs steps for {target}, they will show"
            );
        }
        info!("building for {target} on {own}");
        Ok(Some(target.platform()))
    }

    /// The engine's own architecture, if it is not `target`.
    async fn own_architecture_unless(&self, target: TargetArch) -> Result<Option<String>, EngineError> {
        let own = self.client.info().await.map_err(|error| request_error("asking for its architecture", error))?;
        let own = own.architecture.unwrap_or_default();
        Ok((!target.is(&own)).then_some(own))
    }

    fn refuse_steps(&self, target: TargetArch, own: &str, dockerfile: &str) -> Result<(), EngineError> {
        if !runs_for_target(dockerfile) || !self.place.is_on_this_kernel() || is_emulated(Path::new(BINFMT), target) {
            return Ok(());
        }
        Err(EngineError::Refused(format!(
            "the image is for {target} (TARGET_ARCH, or `arch` in kind.yml): this engine is {own}, and no emulator in {BINFMT} runs RUN steps for {target}: take a worker of that architecture, or register an emulator (Debian: apt install qemu-user-static)"
        )))
    }

    /// The builder to use, if the image can be for another platform.
    pub(in crate::engine) fn choice(&self, choice: BuilderChoice, is_foreign: bool) -> BuilderChoice {
        match choice {
            BuilderChoice::Auto if is_foreign => self.driver.builder_for_other_platforms(),
            choice => choice,
        }
    }

    /// The images of the target architecture among the cache images. Builders do not check the architecture of cache images.
    pub(super) async fn usable(
        &self,
        cache: &[String],
        target: Option<TargetArch>,
    ) -> Result<Vec<String>, EngineError> {
        let mut usable = Vec::new();
        for image in cache {
            let fits = match target {
                Some(target) => target.is(&self.architecture(image).await?),
                None => true,
            };
            if fits {
                usable.push(image.clone());
            }
        }
        Ok(usable)
    }

    /// Refuses an image of another architecture. The error calls the image `what`.
    pub async fn check_architecture(
        &self,
        image: &str,
        what: &'static str,
        wanted: TargetArch,
    ) -> Result<(), EngineError> {
        let found = self.architecture(image).await?;
        if wanted.is(&found) { Ok(()) } else { Err(EngineError::Architecture { what, wanted, found }) }
    }

    /// Whether an image has this architecture.
    pub async fn is_for(&self, image: &str, wanted: TargetArch) -> Result<bool, EngineError> {
        Ok(wanted.is(&self.architecture(image).await?))
    }

    /// Whether an image has another architecture than it was built for.
    pub(super) async fn has_wrong_architecture(
        &self,
        image: &str,
        target: Option<TargetArch>,
        dockerfile: &str,
    ) -> Result<bool, EngineError> {
        if !self.driver.mixes_architectures() || !has_scratch_stage(dockerfile) {
            return Ok(false);
        }
        let found = self.architecture(image).await?;
        let found = [TargetArch::Amd64, TargetArch::Arm64].into_iter().find(|arch| arch.is(&found));
        Ok(match (target, found) {
            (Some(target), found) => Some(target) != found,
            (None, Some(found)) => self.own_architecture_unless(found).await?.is_some(),
            (None, None) => false,
        })
    }

    async fn architecture(&self, image: &str) -> Result<String, EngineError> {
        let image =
            self.inspect(image).await.map_err(|error| request_error("looking at an image's architecture", error))?;
        Ok(image.architecture.unwrap_or_default())
    }
}

/// Whether a `Dockerfile` has RUN steps for the target platform. Stages that name their own platform do not count.
fn runs_for_target(dockerfile: &str) -> bool {
    let mut is_target = true;
    instructions::read(dockerfile.as_bytes()).all.iter().any(|Instruction { keyword, rest, .. }| {
        if keyword == "FROM" {
            is_target = !rest.starts_with("--platform");
        }
        keyword == "RUN" && is_target
    })
}

/// Whether a stage of a `Dockerfile` starts from `scratch`, which has no architecture.
fn has_scratch_stage(dockerfile: &str) -> bool {
    let instructions = instructions::read(dockerfile.as_bytes()).all;
    instructions.iter().any(|it| it.keyword == "FROM" && it.rest.split_whitespace().next() == Some("scratch"))
}

/// Whether the kernel runs programs of this architecture with an interpreter that containers need not contain.
fn is_emulated(binfmt: &Path, target: TargetArch) -> bool {
    let handlers = fs::read_dir(binfmt).into_iter().flatten().flatten().map(|entry| entry.path());
    handlers.map(fs::read_to_string).map(io::Result::unwrap_or_default).any(|handler| runs(&handler, target))
}

/// Whether a handler, in the kernel's format, runs programs of this architecture. With the flag F the kernel keeps its
/// interpreter open.
fn runs(handler: &str, target: TargetArch) -> bool {
    let of = |name: &str| handler.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let offset = of("offset").and_then(|offset| offset.parse::<usize>().ok()).unwrap_or_default();
    let Some(magic) = of("magic").and_then(bytes) else { return false };
    let mask = of("mask").and_then(bytes).unwrap_or_else(|| vec![0xff; magic.len()]);
    let program = elf_header(target);
    let part = program.get(offset..offset + magic.len()).unwrap_or_default();
    handler.lines().next() == Some("enabled")
        && of("flags:").is_some_and(|flags| flags.contains('F'))
        && part.len() == magic.len()
        && part.iter().zip(&magic).zip(&mask).all(|((byte, magic), mask)| byte & mask == magic & mask)
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// The start of an executable: 64 bit, little endian, with the machine at offset 18.
fn elf_header(target: TargetArch) -> [u8; 20] {
    let machine = match target {
        TargetArch::Amd64 => 62,
        TargetArch::Arm64 => 183,
    };
    let mut header = [0; 20];
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (header[16], header[18]) = (2, machine);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The handler that Debian's qemu-user-static registers.
    const QEMU_AARCH64: &str = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\noffset 0\nmagic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn an_emulator_is_known_by_the_programs_that_it_takes() {
        assert!(runs(QEMU_AARCH64, TargetArch::Arm64) && !runs(QEMU_AARCH64, TargetArch::Amd64));
        for (from, to) in [("enabled", "disabled"), ("POCF", "OC"), ("magic 7f", "magic 00"), ("magic", "extension")] {
            assert!(!runs(&QEMU_AARCH64.replace(from, to), TargetArch::Arm64), "{to}");
        }
        let binfmt = tempfile::tempdir().unwrap();
        assert!(!is_emulated(binfmt.path(), TargetArch::Arm64) && !is_emulated(Path::new("/none"), TargetArch::Arm64));
        fs::write(binfmt.path().join("status"), "enabled\n").unwrap();
        fs::write(binfmt.path().join("arm"), QEMU_AARCH64).unwrap();
        assert!(is_emulated(binfmt.path(), TargetArch::Arm64) && !is_emulated(binfmt.path(), TargetArch::Amd64));
    }

    #[test]
    fn only_steps_of_the_target_need_to_run() {
        for (dockerfile, runs) in [
            ("FROM scratch\nCOPY a /", false),
            ("FROM debian:12\nRUN true", true),
            ("FROM --platform=$BUILDPLATFORM debian:12 AS a\nRUN true\nFROM scratch\nCOPY --from=a /a /", false),
            ("FROM --platform=$BUILDPLATFORM debian:12 AS a\nRUN true\nFROM debian:12\nrun true", true),
            ("FROM scratch\n# RUN true\n", false),
        ] {
            assert_eq!(runs_for_target(dockerfile), runs, "{dockerfile}");
            let from_scratch = dockerfile.contains("FROM scratch");
            assert_eq!(has_scratch_stage(dockerfile), from_scratch, "{dockerfile}");
        }
    }
}
