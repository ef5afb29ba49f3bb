//! Runs on a real Postgres server: what is refused, what is written, what is proved, what holds against triggers,
//! locks and lost connections.

mod common;
mod errors;
mod pooler;
mod proof;
mod refusals;
mod resume;
mod run;
mod stalls;
mod stripes;
mod triggers;
mod values;
