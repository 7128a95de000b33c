//! The program's texts for people, as snapshots: each change of wording shows in one place, in `snapshots/`. After a change that
//! is meant, `INSTA_UPDATE=always cargo test --test integration -- cli::` writes them again; git shows the difference.

mod completions;
mod errors;
mod help;
mod terminal;
mod version;
