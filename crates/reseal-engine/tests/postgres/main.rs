//! Runs on a real Postgres server: what is refused, what is written, what is proved, what holds against triggers,
//! locks and lost connections.

mod common;
mod errors;
mod own;
mod pooler;
mod proof;
mod refusals;
mod resume;
mod run;
mod stalls;
mod stripes;
#[path = "../support/mod.rs"]
mod support;
mod triggers;
mod values;
