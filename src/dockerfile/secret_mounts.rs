//! The secrets that the steps of a Dockerfile ask for, `RUN --mount=type=secret`. Which of them are given is the job's affair.

use std::collections::BTreeSet;

use super::instructions::{self, Instruction};

/// A secret that a step asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretMount {
    /// Its id.
    pub id: String,
    /// Whether the step fails without it.
    pub is_required: bool,
    /// The line of the step's instruction, from 1.
    pub line: usize,
}

/// A stage, as far as secrets are concerned.
#[derive(Default)]
struct Stage {
    name: Option<String>,
    /// The earlier stages that it is made from.
    uses: Vec<usize>,
    mounts: Vec<SecretMount>,
}

/// The secrets that a build asks for: those of the last stage, and of the stages that it is made from.
#[must_use]
pub fn secret_mounts(text: &str) -> Vec<SecretMount> {
    let instructions = instructions::read(text.as_bytes());
    // What another frontend reads need not be a Dockerfile.
    if instructions.syntax.as_ref().is_some_and(|image| !image.contains("dockerfile")) {
        return Vec::new();
    }
    let escape = instructions.escape;
    let mut stages: Vec<Stage> = Vec::new();
    for instruction in instructions.executed() {
        if instruction.keyword == "FROM" {
            let names = instruction.stage(escape);
            let uses = names.base.and_then(|base| stage_of(&base, &stages)).into_iter().collect();
            stages.push(Stage { name: names.name, uses, mounts: Vec::new() });
            continue;
        }
        let flags = instruction.arguments(escape).flags;
        let used: Vec<_> = flags.iter().filter_map(|flag| from(flag)).filter_map(|it| stage_of(it, &stages)).collect();
        let Some(stage) = stages.last_mut() else { continue };
        stage.uses.extend(used);
        if instruction.keyword == "RUN" {
            stage.mounts.extend(mounts(&flags, text, &instruction));
        }
    }
    let (mut needed, mut left) = (BTreeSet::new(), stages.len().checked_sub(1).into_iter().collect::<Vec<_>>());
    while let Some(stage) = left.pop() {
        if needed.insert(stage) {
            left.extend(&stages[stage].uses);
        }
    }
    needed.into_iter().flat_map(|stage| std::mem::take(&mut stages[stage].mounts)).collect()
}

/// The stage or image that a flag takes files from: `--from=NAME`, `--mount=…,from=NAME`.
fn from(flag: &str) -> Option<&str> {
    match flag.strip_prefix("--mount=") {
        Some(mount) => mount.split(',').find_map(|part| part.strip_prefix("from=")),
        None => flag.strip_prefix("--from="),
    }
}

/// The earlier stage with this name or number.
fn stage_of(name: &str, stages: &[Stage]) -> Option<usize> {
    let lower = Some(name.to_lowercase());
    let named = stages.iter().rposition(|stage| stage.name == lower);
    named.or_else(|| name.parse().ok().filter(|number| *number < stages.len()))
}

fn mounts(flags: &[String], text: &str, instruction: &Instruction) -> Vec<SecretMount> {
    let mounts = flags.iter().filter_map(|flag| flag.strip_prefix("--mount="));
    mounts.filter_map(|mount| of_mount(mount, instruction.line_in(text))).collect()
}

/// The secret of a mount, by BuildKit's rules; none if it is no secret, or has a variable in its id.
fn of_mount(mount: &str, line: usize) -> Option<SecretMount> {
    let fields = mount.split(',').map(|field| field.split_once('=').unwrap_or((field, "true")));
    let fields: Vec<_> = fields.map(|(name, value)| (name.to_lowercase(), value)).collect();
    let value =
        |names: &[&str]| fields.iter().rev().find(|(name, _)| names.contains(&name.as_str())).map(|(_, it)| *it);
    if value(&["type"]) != Some("secret") {
        return None;
    }
    let target =
        || value(&["target", "dst", "destination"]).and_then(|path| path.trim_end_matches('/').rsplit('/').next());
    let id = value(&["source", "src"]).or_else(|| value(&["id"])).or_else(target)?;
    let is_required = value(&["required"]).is_some_and(|it| matches!(it, "1" | "t" | "T" | "true" | "TRUE" | "True"));
    (!id.contains('$')).then(|| SecretMount { id: id.to_owned(), is_required, line })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let shown = |it: SecretMount| format!("{} {}{}", it.line, it.id, if it.is_required { "!" } else { "" });
        secret_mounts(text).into_iter().map(shown).collect()
    }

    #[test]
    fn each_secret_has_its_line() {
        let text = "# syntax=docker/dockerfile:1\nFROM a\nRUN --network=none \\\n # about\n --mount=type=secret,id=npm,required=true \\\n \
                    --mount=type=cache,target=/c --mount=required,target=/run/secrets/gh,type=secret x\n\
                    RUN --mount=type=secret,id=a,required=false <<EOF\nRUN --mount=type=secret,id=no,required=true\nEOF\n\
                    RUN --mount=Type=secret,id=$X,required=true --mount=type=secret,source=b,id=c,required=1 y\n\
                    COPY --mount=type=secret,id=no / /\nRUN echo --mount=type=secret,id=no\nRUN --mount=type=ssh,required=true z\n";
        assert_eq!(found(text), ["3 npm!", "3 gh!", "7 a", "10 b!"]);
        assert_eq!(found(&text.replace("docker/dockerfile", "other/frontend")), [""; 0]);
        assert_eq!(found("RUN --mount=type=secret,id=a x"), [""; 0]);
        assert_eq!(found(""), [""; 0]);
    }

    #[test]
    fn only_stages_that_are_built_ask() {
        let step = |id: &str| format!("RUN --mount=type=secret,id={id},required x\n");
        let text = format!(
            "FROM a AS base\nONBUILD {}FROM a AS unused\n{}FROM base AS Tools\n{}FROM a AS number\n{}FROM a\n{}COPY --from=tools / /\n\
             RUN --mount=type=bind,from=3,target=/t y\n",
            step("trigger"),
            step("unused"),
            step("tools"),
            step("number"),
            step("last")
        );
        assert_eq!(found(&text), ["2 trigger!", "6 tools!", "8 number!", "10 last!"]);
    }
}
