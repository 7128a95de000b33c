//! What the image task publishes and what it builds on: parents, the layer cache, documents, measurements, scopes.

mod cache;
mod metrics;
mod outputs;
mod parent;
mod payload;
mod provenance;
mod rebuild;
mod report_page;
mod scopes;
mod taskgraph_images;
