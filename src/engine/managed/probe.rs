//! Checks whether a service can build: its start proves little, because it first mounts storage when a step runs, and what a
//! step may do depends on the machine. The check is the smallest build that mounts and runs something, on an empty base.

use std::io;

use bollard::models::BuildInfo;
use futures_util::TryStreamExt as _;
use tar::{Builder, Header};

use crate::engine::connection::address::Address;
use crate::engine::connection::messages::{Question, messages, of_an_archive};
use crate::report::ErrorChain;

/// One step that makes a layer, and one that runs a program in it.
const DOCKERFILE: &[u8] = b"FROM scratch\nCOPY nothing /\nRUN [\"/nothing\"]\n";

/// The load address of the program.
const BASE: u64 = 0x40_0000;

/// The number of the machine, as in ELF, and the code of a program that does nothing: `exit(0)`.
const PROGRAM: (u64, &[u8]) = if cfg!(target_arch = "x86_64") {
    // xor edi, edi; mov eax, 60; syscall
    (62, &[0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05])
} else {
    // mov x0, 0; mov x8, 93; svc 0
    (183, &[0, 0, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 1, 0, 0, 0xd4])
};

/// Builds an image without a name, and leaves it there: the storage of the managed engine is removed at the end.
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

/// The smallest program that Linux runs: an ELF header, its one segment, which is the whole file, and the code.
fn nothing() -> Vec<u8> {
    let (machine, code) = PROGRAM;
    let size = 8 * 15 + code.len() as u64;
    let words: [u64; 15] = [
        // The magic number: 64 bits, little-endian.
        0x0001_0102_464c_457f,
        0,
        // A program for this machine; its entry point; the position of its segment's header; the sizes of both headers.
        1 << 32 | machine << 16 | 2,
        BASE + 8 * 15,
        8 * 8,
        0,
        0x0038_0040 << 32,
        1,
        // To be loaded, readable and executable: the position in the file, the address, and the size.
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
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("nothing");
        std::fs::write(&program, nothing()).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let output = Command::new(&program).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}
