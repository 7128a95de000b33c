//! Whether a service can build: a start says little about it, as storage is first mounted when a step runs, and what a step may
//! do is the place's affair. The smallest build that mounts and runs something, on an empty base.

use std::io;

use bollard::models::BuildInfo;
use futures_util::TryStreamExt as _;
use tar::{Builder, Header};

use crate::engine::connection::address::Address;
use crate::engine::connection::messages::{Question, messages, of_an_archive};
use crate::report::ErrorChain;

/// One step that makes a layer, and one that runs a program in it.
const DOCKERFILE: &[u8] = b"FROM scratch\nCOPY nothing /\nRUN [\"/nothing\"]\n";

/// The address that the program is loaded at.
const BASE: u64 = 0x40_0000;

/// The code of a program that does nothing: `exit(0)`. And the number of the machine that it is for, as ELF has it.
const NOTHING: (u64, &[u8]) = if cfg!(target_arch = "x86_64") {
    // xor edi, edi; mov eax, 60; syscall
    (62, &[0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05])
} else {
    // mov x0, 0; mov x8, 93; svc 0
    (183, &[0, 0, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 1, 0, 0, 0xd4])
};

/// Builds an image that nobody names, and leaves it where it is: the storage is ours, and goes with us.
pub(super) async fn build(place: &Address) -> Result<(), String> {
    let context = context().map_err(|error| error.to_string())?;
    let question = Question {
        path: super::BUILD.to_owned(),
        query: [("dockerfile", "Dockerfile")],
        headers: of_an_archive(),
        body: bollard::body_full(context.into()),
    };
    let answer = messages::<BuildInfo, _, _>(place, question);
    answer
        .try_for_each(|_| std::future::ready(Ok(())))
        .await
        .map_err(|error| ErrorChain(&error).innermost().to_string())
}

fn context() -> io::Result<Vec<u8>> {
    let mut context = Builder::new(Vec::new());
    for (name, content) in [("Dockerfile", DOCKERFILE), ("nothing", &nothing())] {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        context.append_data(&mut header, name, content)?;
    }
    context.into_inner()
}

/// The smallest program that Linux runs: an ELF header, the one segment, which is all of the file, and the code.
fn nothing() -> Vec<u8> {
    let (machine, code) = NOTHING;
    let size = 8 * 15 + code.len() as u64;
    let words: [u64; 15] = [
        // The magic number: 64 bits, little end first.
        0x0001_0102_464c_457f,
        0,
        // A program for this machine, where it begins, where its segment is told of, how long the header and that are.
        1 << 32 | machine << 16 | 2,
        BASE + 8 * 15,
        8 * 8,
        0,
        0x0038_0040 << 32,
        1,
        // To be loaded, readable and executable: from where in the file, to where, and how much.
        5 << 32 | 1,
        0,
        BASE,
        BASE,
        size,
        size,
        0x1000,
    ];
    words.into_iter().flat_map(u64::to_le_bytes).chain(code.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_program_runs_and_does_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("nothing");
        std::fs::write(&program, nothing()).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let output = Command::new(&program).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}
