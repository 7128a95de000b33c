//! How large the measured things are: as people have them, or so small that every test run can afford them. What is done
//! with them is each row's own.

/// The sizes of one run of the benchmark.
pub(super) struct Scale {
    /// How often ours and theirs take turns.
    pub(super) rounds: usize,
    /// Images, in MiB.
    pub(super) small_image: u64,
    pub(super) middle_image: u64,
    pub(super) large_image: u64,
    /// What the image of a whole job of this size is built on: the engine has it.
    pub(super) below_large: u64,
    /// A base for the larger images of whole jobs, with packages to list.
    pub(super) base: &'static str,
    /// The layer of a new version of the largest image, in MiB.
    pub(super) changed: u64,
    /// Files of a context of many files, of some 4 KiB each.
    pub(super) files: u64,
    /// MiB of a context of few files, and of each of the large files that are hashed.
    pub(super) context: u64,
    pub(super) large_file: u64,
    /// MiB of files of this machine's, which compress as files do.
    pub(super) compressible: u64,
    /// Images of the repository of a graph, how many files they have where they have many, and tasks of the graphs.
    pub(super) graph_images: u32,
    pub(super) graph_files: u32,
    pub(super) graphs: &'static [u32],
    /// MiB of what the expensive step makes, and how often it reads them.
    pub(super) step: u64,
    pub(super) step_reads: u32,
    /// How often the program is started only to print its version.
    pub(super) starts: u32,
}

/// What docs/benchmarks.md is made of.
pub(super) const FULL: Scale = Scale {
    rounds: 3,
    small_image: 10,
    middle_image: 500,
    large_image: 2048,
    below_large: 1536,
    base: "debian:12",
    changed: 50,
    files: 10_000,
    context: 500,
    large_file: 256,
    compressible: 560,
    graph_images: 200,
    graph_files: 10_000,
    graphs: &[1250, 5000, 20_000],
    step: 100,
    step_reads: 30,
    starts: 100,
};

/// That everything runs: tested with every change, also with the slow program of a debug build.
pub(super) const SMALL: Scale = Scale {
    rounds: 1,
    small_image: 1,
    middle_image: 2,
    large_image: 4,
    below_large: 3,
    base: "scratch",
    changed: 1,
    files: 100,
    context: 2,
    large_file: 1,
    compressible: 3,
    graph_images: 10,
    graph_files: 200,
    graphs: &[20, 40],
    step: 1,
    step_reads: 2,
    starts: 3,
};
