//! Files to measure with: text that compresses as text does, bytes that nothing can compress, and copies of the
//! machine's own files. How many and how large is for the scale.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::Path;

use super::measure::run;
use crate::harness::path;

const MIB: u64 = 1024 * 1024;

/// The size of a file among many, about; theirs differ, as sizes do.
const SMALL: u64 = 4096;

/// So many small files of text, a hundred in a directory.
pub(super) fn many(directory: &Path, files: u64) {
    for number in 0..files {
        let directory = directory.join(format!("folder-{:03}", number / 100));
        std::fs::create_dir_all(&directory).unwrap();
        let size = SMALL / 2 + number * 7919 % SMALL;
        text(&directory.join(format!("file-{number}.txt")), size, number);
    }
}

/// So many files of text, with so many MiB in total.
pub(super) fn text_files(directory: &Path, files: u64, mib: u64) {
    std::fs::create_dir_all(directory).unwrap();
    for number in 0..files {
        text(&directory.join(format!("file-{number}.txt")), mib * MIB / files, number);
    }
}

/// Files that nothing can compress.
pub(super) fn random_files(directory: &Path, files: u64, mib: u64) {
    std::fs::create_dir_all(directory).unwrap();
    for number in 0..files {
        let mut file = File::create(directory.join(format!("file-{number}"))).unwrap();
        let random = File::open("/dev/urandom").unwrap();
        io::copy(&mut random.take(mib * MIB), &mut file).unwrap();
    }
}

const WORDS: [&str; 16] = [
    "install",
    "the",
    "package",
    "with",
    "configure",
    "--prefix=/usr",
    "make",
    "&&",
    "a",
    "of",
    "library",
    "\n",
    "to",
    "export",
    "PATH=/builds/worker/bin",
    "and",
];

/// Words in an order of their own for each `seed`, with numbers between them: some three times smaller when packed.
fn text(file: &Path, size: u64, seed: u64) {
    let mut out = BufWriter::new(File::create(file).unwrap());
    // splitmix64: nothing more is needed than that it does not repeat.
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut left = usize::try_from(size).unwrap();
    while left > 0 {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        let at = |shift: u32| WORDS[usize::try_from((mixed >> shift) & 15).unwrap()];
        let line = format!("{} {} {} {:x} ", at(0), at(4), at(8), mixed >> 44);
        let line = &line.as_bytes()[..line.len().min(left)];
        out.write_all(line).unwrap();
        left -= line.len();
    }
    out.into_inner().unwrap();
}

/// A tar of regular files of the machine's programs and documents, of at least so many MiB, or all of them.
pub(super) fn machine(tar: &Path, mib: u64) {
    let script = "\
        find /usr/lib /usr/share -xdev -type f -readable -size +0 -printf '%s %p\\n' | sort --key 2 |\n\
        awk -v most=$(($2 * 1048576)) '{ sum += $1; sub(/^[0-9]+ /, \"\"); print } sum >= most { exit }' >\"$1.list\" || true\n\
        tar --create --file \"$1\" --files-from \"$1.list\" 2>/dev/null\n\
        rm \"$1.list\"";
    run(script, &[path(tar), &mib.to_string()]);
}
