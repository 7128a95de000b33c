//! task-payload.yml against task.yml, and against what a run writes and the program would have indexed by itself. What
//! both templates have in common is tested in `mod`.

use image_worker::config::plan::ImageFile;
use image_worker::decision::task::ContentEncoding;
use image_worker::net::ImageId;
use image_worker::taskcluster::ArtifactName;
use serde_json::Value;

use super::{BY_PAYLOAD, TEMPLATES, around, definition_by, flags, plan, small_plan, yaml};

#[test]
fn the_two_templates_differ_in_who_publishes() {
    let [mut api, mut payload] = TEMPLATES.map(yaml::<Value>);
    for (task, own) in [(&mut api, "index:insert-task:"), (&mut payload, "{{route_")] {
        for list in ["scopes", "routes"] {
            task[list].as_array_mut().unwrap().retain(|text| !text.as_str().unwrap().starts_with(own));
        }
        task["payload"]["command"][0].as_array_mut().unwrap().truncate(2);
    }
    for (parent, own) in [("/payload", "artifacts"), ("/payload/features", "chainOfTrust"), ("/extra", "index")] {
        assert!(payload.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(own).is_some(), "{own}");
    }
    assert_eq!(payload, api, "left: task-payload.yml without what is its own, right: task.yml without its scope");
}

#[test]
fn the_task_declares_every_file_that_a_run_leaves() {
    for plan in [plan(), small_plan()] {
        let definition = definition_by(BY_PAYLOAD, &plan);
        assert!(definition.payload.features.chain_of_trust, "else nothing is signed");
        let out = flags(&definition)["output"].clone();
        let mut wanted = ArtifactName::documents().to_vec();
        wanted.push(ArtifactName::build_log());
        wanted.push(plan.artifact.name.clone());
        wanted.sort_by_key(ToString::to_string);
        let mut declared = definition.payload.artifacts;
        declared.sort_by_key(|artifact| artifact.name.to_string());
        let names: Vec<_> = declared.iter().map(|artifact| artifact.name.clone()).collect();
        assert_eq!(names, wanted, "left: declared in task-payload.yml, right: what `run` writes");
        for artifact in &declared {
            assert_eq!(artifact.path, format!("{out}/{}", artifact.name.file_name()));
            assert_eq!(artifact.content_encoding, ContentEncoding::Identity, "{}: as it was signed", artifact.name);
            assert!(definition.deadline <= artifact.expires && artifact.expires <= definition.expires);
        }
        let required: Vec<_> = declared.iter().filter(|artifact| !artifact.optional).collect();
        let [provenance, image] = &required[..] else { panic!("a green task has an image and its provenance") };
        assert_eq!(
            (&image.name, image.content_type.as_deref()),
            (&plan.artifact.name, Some(plan.artifact.content_type()))
        );
        assert_eq!(provenance.name, ArtifactName::provenance());
    }
}

#[test]
fn the_queue_indexes_what_the_program_would_have_indexed() {
    for plan in [plan(), small_plan()] {
        let definition = definition_by(BY_PAYLOAD, &plan);
        let identity = plan.identity(plan.context.hash.unwrap()).unwrap();
        let image = ImageFile { sha256: "ab".repeat(32).parse().unwrap(), size: 1, image_id: ImageId::of(b"") };
        let expires = around()["image_expires"].parse().unwrap();
        let publication = plan.publication(&identity, &image, &[], expires);
        let index = definition.extra.index.unwrap();
        for insert in &publication.insert_task {
            let route = insert.namespace.route();
            assert!(definition.routes.contains(&route), "{route} is not among {:?}", definition.routes);
            assert_eq!((i64::from(index.rank), index.expires), (insert.payload.rank, Some(insert.payload.expires)));
        }
        assert_eq!(definition.routes.len(), publication.insert_task.len() + 1, "and Treeherder's");
    }
}
