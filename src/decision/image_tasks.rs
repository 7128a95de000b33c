//! Which images of a graph get a task, and these tasks: missing images, those to rebuild, and those that expire
//! soon. `graph` adds the tasks.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tracing::{info, warn};

use super::graph::{ImageTask, Resolved};
use super::lookup::FoundEntry;
use super::task::Template;
use super::{Cause, DecisionContext, DecisionError, Definition, ImageTaskSpec, definition, image_expires, missing};
use crate::config::DecideConfig;
use crate::context::{HashScheme, ImageName};
use crate::repository::Tree;
use crate::repository::lineage::Identified;
use crate::taskcluster::TaskId;

/// The images of a graph, and what is known about them.
pub struct GraphImages<'a> {
    /// The tree that they are from.
    pub tree: &'a Tree,
    /// Those that the graph's tasks use, and all that they are built from.
    pub identified: &'a BTreeMap<ImageName, Identified>,
    /// Those that the graph's tasks use.
    pub named: &'a [ImageName],
    /// The tasks that wait for each of them.
    pub waiting: &'a BTreeMap<ImageName, Vec<&'a Definition>>,
    /// Those that the index has.
    pub found: BTreeMap<ImageName, FoundEntry>,
    /// Those that are rebuilt although the index has them.
    pub rebuilt: &'a BTreeSet<ImageName>,
    /// Those that the index will not have any more at a time, which get a task for later pushes.
    pub expiring: Expiring,
    /// What their tasks are made from.
    pub template: &'a Template,
    /// What their tasks have in common.
    pub common: &'a DecisionContext,
}

/// Images that expire.
#[derive(Clone, Debug)]
pub struct Expiring {
    /// Their names.
    pub images: BTreeSet<ImageName>,
    /// Before this time.
    pub until: Timestamp,
}

/// What becomes of a graph's images.
#[derive(Debug, Default)]
pub struct ImageTasks {
    /// What the graph's tasks use.
    pub images: BTreeMap<ImageName, Resolved>,
    /// Tasks that are added though nothing in the graph may wait for them.
    pub besides: Vec<ImageTask>,
    /// Placeholders that have dummies.
    pub unknown: BTreeSet<String>,
}

impl DecisionContext {
    /// What the image tasks of this decision have in common.
    #[must_use]
    pub fn of(config: &DecideConfig) -> Self {
        Self {
            decision_task: config.decision_task.clone(),
            project: config.project.clone(),
            pushdate: config.pushdate,
            index: config.index.clone(),
            artifact: config.artifact.clone(),
            scheme: HashScheme::Tar,
            given: config.given.clone(),
            dummies: config.deployment.is_none(),
            now: config.now,
        }
    }
}

impl GraphImages<'_> {
    /// The tasks of these images: existing ones, and those that are to be added.
    pub fn tasks(&self) -> Result<ImageTasks, DecisionError> {
        let parent_of = |image: &ImageName| self.identified.get(image).and_then(|image| image.parent.clone());
        let stays = |image: &ImageName| self.found.contains_key(image) && !self.rebuilt.contains(image);
        let expiring = self.expiring.images.iter().filter(|image| stays(image));
        let renewed: Vec<_> = expiring.filter(|image| self.can_be_renewed(image)).collect();
        let parents = renewed.iter().filter_map(|image| parent_of(image));
        let made = missing(self.named.iter().chain(self.rebuilt).cloned().chain(parents), stays, parent_of);

        let mut added = ImageTasks::default();
        let mut ids = BTreeMap::new();
        for (image, found) in self.found.iter().filter(|(image, _)| stays(image)) {
            let task_id = found.at.task_id.clone();
            ids.insert(image.clone(), task_id.clone());
            added.images.insert(image.clone(), Resolved::Existing { task_id });
        }
        for image in made {
            let cause = if self.rebuilt.contains(&image) { Cause::Rebuild } else { Cause::Missing };
            let task = self.task(&image, cause, &ids, &mut added.unknown)?;
            ids.insert(image.clone(), task.task_id.clone());
            added.besides.extend((cause == Cause::Rebuild).then(|| task.clone()));
            added.images.insert(image, Resolved::NewTask(task));
        }
        for image in renewed {
            let cause = Cause::Renew { until: self.expiring.until };
            added.besides.push(self.task(image, cause, &ids, &mut added.unknown)?);
        }
        self.tell_of_children(&added.images);
        Ok(added)
    }

    /// Whether a new image would last longer. Otherwise each push would build another one.
    fn can_be_renewed(&self, image: &ImageName) -> bool {
        let until = self.expiring.until;
        let waiting = self.waiting.get(image).map(Vec::as_slice).unwrap_or_default();
        let arch = self.tree.image(image).ok().and_then(|image| image.arch).map(|arch| arch.to_string());
        let expires = image_expires(waiting, arch.as_deref(), self.common);
        if let Some(expires) = expires.filter(|expires| *expires <= until) {
            warn!("{image} is not renewed: a new image would expire with its task at {expires:.0}, before {until:.0}");
            return false;
        }
        true
    }

    /// One image's task. `ids` are the tasks of the images that it may be built from.
    fn task(
        &self,
        name: &ImageName,
        cause: Cause,
        ids: &BTreeMap<ImageName, TaskId>,
        unknown: &mut BTreeSet<String>,
    ) -> Result<ImageTask, DecisionError> {
        let (image, hashes) = (self.tree.task_image(name)?, &self.identified[name]);
        let spec = ImageTaskSpec {
            image: name.clone(),
            context: hashes.context,
            index_hash: hashes.index_hash,
            args: image.args.clone(),
            parent: hashes.parent.as_ref().and_then(|parent| ids.get(parent)).cloned(),
            symbol: image.symbol.clone(),
            arch: image.arch.map(|arch| arch.to_string()),
            cause,
        };
        // A second decision in one decision task gives the same result.
        let hash = hashes.name_in_index().to_string();
        let task_id = TaskId::derived(&[self.common.decision_task.as_str(), name.as_str(), &hash]);
        let waiting = self.waiting.get(name).map(Vec::as_slice).unwrap_or_default();
        let defined = definition(&spec, waiting, self.template, self.common)?;
        unknown.extend(defined.unknown);
        Ok(ImageTask {
            name: name.clone(),
            task_id,
            definition: defined.definition,
            parent: hashes.parent.clone(),
            packages: image.packages.clone(),
        })
    }

    /// Says which images stay as they are, although the image that they are built from is rebuilt.
    fn tell_of_children(&self, images: &BTreeMap<ImageName, Resolved>) {
        for (name, resolved) in images {
            let parent = self.identified.get(name).and_then(|image| image.parent.as_ref());
            if let (Resolved::Existing { .. }, Some(parent)) = (resolved, parent)
                && self.rebuilt.contains(parent)
            {
                info!("{name} is built from {parent}, and stays as it is: --rebuild {name} rebuilds it, too");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;
    use crate::config::ImagesDir;
    use crate::config::plan::ArtifactPlan;
    use crate::context::checkout::Checkout;
    use crate::repository::document;
    use crate::taskcluster::TaskRun;

    const DECISION: &str = "fN1SbArXTPSVFNUvaOlinQ";
    const OLD: &str = "YZXRUnMrR5SNKzLUaTbZEA";
    const NOW: &str = "2026-11-23T00:00:00Z";
    const SOON: &str = "2026-11-30T00:00:00Z";

    fn image(name: &str) -> ImageName {
        name.parse().unwrap()
    }

    fn images(names: &[&str]) -> BTreeSet<ImageName> {
        names.iter().map(|name| image(name)).collect()
    }

    /// What a decision comes to about `child`, which is built from `base`, and which a task of a graph uses.
    struct Case<'c> {
        found: &'c [&'c str],
        rebuilt: &'c [&'c str],
        expiring: &'c [&'c str],
        /// When the task of the graph expires, and so a new image.
        expires: &'c str,
    }

    /// The images that have a new task for the graph's tasks, and the tasks that are added besides: each image's name, what makes
    /// its task build, and its parent's task.
    fn decided(case: &Case<'_>) -> (Vec<String>, Vec<(String, String, String)>) {
        let root = TempDir::new().unwrap();
        for (name, dockerfile) in
            [("base", "FROM scratch\n"), ("child", "ARG DOCKER_IMAGE_PARENT=base\nFROM $DOCKER_IMAGE_PARENT\n")]
        {
            let directory = root.path().join("taskcluster/docker").join(name);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("Dockerfile"), dockerfile).unwrap();
        }
        let tree = Tree::open(&ImagesDir { checkout: Checkout::from(root.path()), ..ImagesDir::default() }).unwrap();
        let named = [image("child")];
        let identified = tree.identify(&named, HashScheme::Tar).unwrap();
        let user = json!({
            "expires": case.expires, "deadline": "2026-11-24T00:00:00Z", "schedulerId": "x",
            "metadata": { "owner": "a@example.com", "source": "https://example.com" },
            "routes": ["tc-treeherder.v2.try.abcdef"],
        });
        let user = user.as_object().unwrap();
        let waiting = [("base", vec![user]), ("child", vec![user])].map(|(name, users)| (image(name), users)).into();
        let found = case.found.iter().map(|name| {
            let found = FoundEntry {
                image: image(name),
                namespace: "a.b".parse().unwrap(),
                project: "try".parse().unwrap(),
                at: TaskRun { task_id: OLD.parse().unwrap(), run_id: 0 },
                artifact: "public/image.tar".parse().unwrap(),
                data: None,
                expires: SOON.parse().unwrap(),
                indexed_until: SOON.parse().unwrap(),
            };
            (image(name), found)
        });
        let given = [
            ("provisioner_id", "p"),
            ("worker_type", "w"),
            ("image_worker_task_id", OLD),
            ("image_worker_sha256", &"0".repeat(64)),
        ];
        let common = DecisionContext {
            decision_task: DECISION.parse().unwrap(),
            project: "try".parse().unwrap(),
            pushdate: "20261123000000".parse().unwrap(),
            index: "index".parse().unwrap(),
            artifact: ArtifactPlan { expires: None, ..ArtifactPlan::example() },
            scheme: HashScheme::Tar,
            given: given.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            dummies: false,
            now: NOW.parse().unwrap(),
        };
        let template = Template::new(document::parse("the template", Template::BUILT_IN).unwrap());
        let decision = GraphImages {
            tree: &tree,
            identified: &identified,
            named: &named,
            waiting: &waiting,
            found: found.collect(),
            rebuilt: &images(case.rebuilt),
            expiring: Expiring { images: images(case.expiring), until: SOON.parse().unwrap() },
            template: &template,
            common: &common,
        };
        let ImageTasks { images, besides, .. } = decision.tasks().unwrap();
        let new = images.iter().filter(|(_, resolved)| matches!(resolved, Resolved::NewTask(_)));
        let told = |task: &ImageTask| {
            let env = &task.definition["payload"]["env"];
            let text = |name: &str| env.get(name).and_then(Value::as_str).unwrap_or_default();
            let parent = if text("PARENT_TASK_ID") == OLD { "old" } else { text("PARENT_TASK_ID") };
            (task.name.to_string(), format!("{}{}", text("REBUILD"), text("NEEDED_UNTIL")), parent.to_owned())
        };
        (new.map(|(name, _)| name.to_string()).collect(), besides.iter().map(told).collect())
    }

    const ALL: [&str; 2] = ["base", "child"];
    const LATER: &str = "2026-12-23T00:00:00Z";

    #[test]
    fn what_expires_gets_a_task_that_nobody_waits_for() {
        let until = "2026-11-30T00:00:00.000Z".to_owned();
        let case = Case { found: &ALL, rebuilt: &[], expiring: &["child"], expires: LATER };
        assert_eq!(decided(&case), (vec![], vec![("child".to_owned(), until.clone(), "old".to_owned())]));
        // A parent that is gone is built before.
        let (new, besides) = decided(&Case { found: &["child"], ..case });
        assert_eq!((new, besides.len()), (vec!["base".to_owned()], 1));
        assert!(besides[0].1 == until && !["", "old"].contains(&besides[0].2.as_str()), "{besides:?}");
        // A new image would not last longer, and each push would make another.
        let case = Case { found: &ALL, rebuilt: &[], expiring: &["child"], expires: SOON };
        assert_eq!(decided(&case), (vec![], vec![]));
        // What is built anyway is not built twice.
        let case = Case { found: &[], rebuilt: &[], expiring: &["child"], expires: LATER };
        assert_eq!(decided(&case), (ALL.map(str::to_owned).to_vec(), vec![]));
    }

    #[test]
    fn what_is_rebuilt_is_used_and_its_children_stay_unless_they_are_named() {
        let of =
            |rebuilt: &[&str], expiring: &[&str]| decided(&Case { found: &ALL, rebuilt, expiring, expires: LATER });
        let (new, besides) = of(&["base"], &[]);
        assert_eq!((new, besides), (vec!["base".to_owned()], vec![("base".to_owned(), "1".to_owned(), String::new())]));
        let (new, besides) = of(&["child"], &["child"]);
        assert_eq!(
            (new, besides),
            (vec!["child".to_owned()], vec![("child".to_owned(), "1".to_owned(), "old".to_owned())])
        );
        let (new, besides) = of(&ALL, &[]);
        assert_eq!(new, ALL);
        assert!(
            besides.len() == 2 && besides[1].0 == "child" && besides[1].2 != "old",
            "of the new parent: {besides:?}"
        );
    }
}
