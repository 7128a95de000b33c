//! The engine and the directory for unfinished files: what a build needs of this machine.

use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use super::check::{Check, DoctorProblem};
use crate::engine::{BuilderChoice, Engine, EngineConfig, EngineError, EngineSurvey};
use crate::image::disk::free_space;
use crate::job::CommandError;
use crate::report::{Bytes, ErrorChain};

/// With less room there is a warning: a context may have 2 GiB (`CONTEXT_MAX_BYTES`), and images of such contexts exist.
const ROOM: u64 = 4 << 30;

/// Looks for an engine as `run` does, and at the one that answers.
pub(super) async fn checks(config: &EngineConfig, builder: BuilderChoice, limit: Duration) -> Vec<Check> {
    if config.is_managed() {
        return vec![managed(config, "--engine managed")];
    }
    let mut attempts = Vec::new();
    let looking = async {
        let engine = Engine::connect_and_list(config, &mut attempts).await?;
        engine.survey(builder).await
    };
    let found = timeout(limit, looking).await;
    let tried: Vec<_> = attempts.iter().map(|(place, answer)| format!("{place} ({answer})")).collect();
    let tried = if tried.is_empty() { String::new() } else { format!("tried before: {}", tried.join(", ")) };
    match found {
        Ok(Ok(survey)) => of_survey(survey, &tried),
        Ok(Err(error @ (EngineError::NoneAnswers { .. } | EngineError::Forbidden { .. })))
            if config.may_be_managed() =>
        {
            vec![managed(config, &format!("{}: `run` starts an engine of its own", ErrorChain(&error)))]
        }
        Ok(Err(error @ EngineError::Forbidden { .. })) => {
            vec![Check::problem("engine", error), Check::note("engine", tried)]
        }
        Ok(Err(error)) => vec![Check::problem("engine", error)],
        Err(_) => {
            let late = Check::problem("engine", DoctorProblem::Late { seconds: limit.as_secs() });
            vec![late, Check::note("engine", tried)]
        }
    }
}

fn of_survey(EngineSurvey { name, builder, directory, storage }: EngineSurvey, tried: &str) -> Vec<Check> {
    let tried = if tried.is_empty() { String::new() } else { format!("; {tried}") };
    let mut checks = vec![Check::ok("engine", name + &tried)];
    checks.push(match builder {
        Ok(builder) => Check::ok("builder", builder),
        Err(error) => Check::problem("builder", error),
    });
    checks.push(match storage {
        Ok(()) => Check::ok("engine-storage", "images are read where the engine keeps them"),
        Err(error) => {
            Check::note("engine-storage", format!("{}: images come by the engine's export", ErrorChain(&error)))
        }
    });
    if let Some(free) = directory.as_deref().and_then(free_space) {
        checks.push(room("engine-room", directory.as_deref().unwrap_or(Path::new("/")), free));
    }
    checks
}

/// Whether a managed engine can start. `why` is what asks for one.
fn managed(config: &EngineConfig, why: &str) -> Check {
    match Engine::managed_program(config) {
        Ok(program) => Check::ok("engine", format!("{why}, {}", program.display())),
        Err(error) => Check::problem("engine", error),
    }
}

/// Whether the directory for unfinished files can be written, by a file without a name; and its room.
pub(super) fn work_directory(path: &Path) -> Vec<Check> {
    if let Err(source) = tempfile::tempfile_in(path) {
        return vec![Check::problem("work-directory", CommandError::Write { path: path.to_owned(), source })];
    }
    match free_space(path) {
        Some(free) => vec![room("work-directory", path, free)],
        None => vec![Check::ok("work-directory", format!("{} can be written", path.display()))],
    }
}

fn room(name: &'static str, path: &Path, free: u64) -> Check {
    let found = format!("{} has {} free", path.display(), Bytes(free));
    if free < ROOM {
        return Check::warning(name, format!("{found}; an image can need {}: make room", Bytes(ROOM)));
    }
    Check::ok(name, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::doctor::CheckState;

    #[test]
    fn little_room_is_worth_a_look() {
        let full = room("work-directory", Path::new("/x"), ROOM - 1);
        assert_eq!(full.state, CheckState::Warning);
        assert_eq!(full.message, "/x has 4.00 GiB free; an image can need 4.00 GiB: make room");
        assert_eq!(room("work-directory", Path::new("/x"), ROOM).state, CheckState::Ok);
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_a_problem_and_the_probe_leaves_nothing() {
        let missing = work_directory(Path::new("/nonexistent/directory"));
        assert_eq!(missing[0].state, CheckState::Problem);
        assert!(
            missing[0].message.starts_with("cannot write /nonexistent/directory: no such directory"),
            "{missing:?}"
        );
        let directory = tempfile::tempdir().unwrap();
        assert_ne!(work_directory(directory.path())[0].state, CheckState::Problem);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
