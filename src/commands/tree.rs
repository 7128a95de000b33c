//! `tree`: all images of a repository, what each is built from, and everything that is wrong with them. What there is to
//! say is the word of `repository`; here it gets its form, and its exit code.

use tracing::{info, warn};

use super::Failed;
use crate::config::{TreeConfig, TreeForm};
use crate::repository::Tree;

/// The images as they are shown.
#[derive(Debug)]
pub struct Shown {
    /// What goes to stdout, also where something is wrong.
    pub answer: String,
    /// The failure that it is where something is wrong.
    pub problems: Option<Failed>,
}

/// Shows the images.
pub fn tree(config: &TreeConfig) -> Result<Shown, Failed> {
    let tree = Tree::open(&config.place)?;
    let survey = tree.lint(config.scheme);
    let answer = match config.form {
        TreeForm::Drawing => survey.to_string(),
        TreeForm::Json => {
            let json = serde_json::to_string(&survey).map_err(|error| Failed::Bug(error.to_string()))?;
            format!("{json}\n")
        }
        TreeForm::Dot => survey.dot(),
    };
    if config.form == TreeForm::Dot {
        // The other forms have them.
        survey.problems.iter().for_each(|problem| warn!("problem: {}", problem.message));
        survey.hints.iter().for_each(|hint| info!("hint: {}", hint.message));
    }
    let problems = survey.problems.first().map(|first| Failed::Problems {
        what: survey.images_dir.clone(),
        count: survey.problems.len(),
        first: first.message.clone(),
    });
    Ok(Shown { answer, problems })
}
