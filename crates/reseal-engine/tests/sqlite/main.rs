//! The engine on SQLite files, beside an application that uses them.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[path = "../support/mod.rs"]
mod support;

mod file;
mod forced_race;
mod kill_engine;
mod mixed_input;
mod run;
mod survey;
