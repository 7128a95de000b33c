//! The stand-in Taskcluster as a program, for demonstrations and shell scripts: it writes where it listens to a
//! file, logs each call on stderr, and stops on SIGTERM. What it does is in the library.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::json;
use stand_in::{Call, ENDPOINTS, Options, StandIn};
use tokio::signal::unix::{SignalKind, signal};

const ABOUT: &str =
    "A stand-in for Taskcluster on local sockets: queue, index, object service, S3 and taskcluster-proxy";
const EXAMPLE: &str = "
For example, a task that failed, and a sheriff who may rerun it:
  task=$(curl -d '{\"scopes\": []}' $ROOT_URL/stand-in/tasks | jq -r .taskId)
  curl -d '{\"state\": \"failed\"}' $ROOT_URL/stand-in/tasks/$task/resolve
  curl -d '{\"scopes\": [\"queue:rerun-task:*\"]}' $ROOT_URL/stand-in/credentials";

fn arguments() -> Command {
    let address = |name: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("ADDRESS")
            .default_value("127.0.0.1:0")
            .value_parser(value_parser!(SocketAddr))
    };
    let path = |name: &'static str, value: &'static str| {
        Arg::new(name).long(name).value_name(value).required(true).value_parser(value_parser!(PathBuf))
    };
    Command::new("stand-in")
        .about(ABOUT)
        .after_help(format!("{ENDPOINTS}{EXAMPLE}"))
        .arg(address("listen").help("Where the API listens"))
        .arg(address("store-listen").help("Where the S3-like store listens"))
        .arg(path("dir", "DIR").help("Where uploaded bytes are kept"))
        .arg(path("ready-file", "FILE").help("Written as JSON with the URLs as soon as they answer"))
        .arg(
            Arg::new("delay")
                .long("delay")
                .value_name("MILLISECONDS")
                .default_value("0")
                .value_parser(value_parser!(u64).range(..=10_000))
                .help("How long each call to the API takes at least, as over a network"),
        )
        .arg(
            Arg::new("no-object-service")
                .long("no-object-service")
                .action(ArgAction::SetTrue)
                .help("Refuse `storageType: object`, as a deployment without an object service"),
        )
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let arguments = arguments().get_matches();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stand_in = StandIn::start(Options {
        listen: take(&arguments, "listen"),
        store_listen: take(&arguments, "store-listen"),
        delay: Duration::from_millis(take(&arguments, "delay")),
        dir: Some(take(&arguments, "dir")),
        object_service: !arguments.get_flag("no-object-service"),
        on_call: Some(Arc::new(report)),
        ..Options::default()
    });
    announce(&stand_in, &take::<PathBuf>(&arguments, "ready-file"))?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn take<T: Clone + Send + Sync + 'static>(arguments: &ArgMatches, name: &str) -> T {
    arguments.get_one(name).cloned().expect("required, or with a default")
}

/// Writes the ready file at once: a script that waits for it never reads half of it.
fn announce(stand_in: &StandIn, file: &Path) -> std::io::Result<()> {
    let root_url = stand_in.root_url();
    let ready = json!({
        "rootUrl": root_url,
        "storeUrl": stand_in.store_url(),
        "adminUrl": format!("{root_url}/stand-in"),
    });
    let draft = file.with_extension("part");
    std::fs::write(&draft, format!("{ready:#}\n"))?;
    std::fs::rename(draft, file)
}

/// One line per call.
fn report(call: &Call) {
    let status = call.status.map_or("no answer".to_owned(), |status| status.to_string());
    let who = call.client_id.as_deref().unwrap_or("-");
    let via = if call.via_proxy { " via proxy" } else { "" };
    let fault = call.fault.as_ref().map(|fault| format!(" fault: {fault}")).unwrap_or_default();
    eprintln!("{} {} {} {status} {who}{via}{fault}", call.name, call.method, call.path);
}
