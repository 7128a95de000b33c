//! worker-pool.yml against the task that runs there. The types are the parts of worker-manager's and generic-worker's
//! schemas that the file uses, so that a key that neither knows is an error.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{definition, plan, read, uncommented, yaml};

/// worker-pool.yml.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkerPool {
    machine: Machine,
    pool: Pool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Machine {
    engine: MachineEngine,
    disk: Disk,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct MachineEngine {
    name: String,
    minimum_version: String,
    socket: String,
    group: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Disk {
    engine_gigabytes: u64,
    temporary_gigabytes: u64,
}

/// The body of createWorkerPool.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Pool {
    provider_id: String,
    description: String,
    owner: String,
    email_on_error: bool,
    config: PoolConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PoolConfig {
    worker_config: WorkerConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WorkerConfig {
    generic_worker: GenericWorker,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GenericWorker {
    config: GenericWorkerConfig,
}

/// The configuration of generic-worker; a worker refuses to start with a key that it does not know.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "generic-worker's own switches")]
struct GenericWorkerConfig {
    enable_mounts: bool,
    #[serde(rename = "enableOSGroups")]
    enable_os_groups: bool,
    enable_taskcluster_proxy: bool,
    enable_chain_of_trust: bool,
    headless_tasks: bool,
    capacity: u8,
    max_task_run_time: u64,
    required_disk_space_megabytes: u64,
    worker_type_metadata: BTreeMap<String, String>,
}

#[test]
fn the_pool_has_what_the_task_requires() {
    let WorkerPool { machine, pool } = yaml("worker-pool.yml");
    let worker = pool.config.worker_config.generic_worker.config;
    let payload = definition(&plan()).payload;
    assert!(worker.enable_mounts && worker.enable_os_groups && worker.enable_taskcluster_proxy);
    assert!(worker.enable_chain_of_trust, "task-payload.yml requires it");
    assert!(worker.headless_tasks && worker.capacity == 1);
    assert!(worker.max_task_run_time >= payload.max_run_time, "the worker refuses tasks that may run longer");
    assert_eq!(payload.os_groups, [machine.engine.group.as_str()], "the group that may open the engine's socket");
    assert_eq!(machine.engine.name, "docker");
    let version = &machine.engine.minimum_version;
    assert!(worker.worker_type_metadata.values().any(|value| value.contains(version)), "{version} is there twice");
    assert!(read("README.md").contains(version), "{version} is in README.md too");
    assert!(
        uncommented().contains(&format!("unix://{}", machine.engine.socket)),
        "and the socket in image-worker.toml"
    );
    assert!(machine.disk.temporary_gigabytes * 1024 <= worker.required_disk_space_megabytes);
    assert!(machine.disk.engine_gigabytes > machine.disk.temporary_gigabytes);
    assert!(!pool.provider_id.is_empty() && !pool.description.is_empty() && pool.email_on_error);
    assert!(pool.owner.ends_with("@example.com"), "no real address in an example");
}
