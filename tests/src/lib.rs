//! What whole-system tests share: the engine in a process of its own, formats and keys, the test's own account of
//! what was written, and programs in other languages.

pub mod command;
pub mod crm;
pub mod env_readers;
pub mod erring;
pub mod hanna;
pub mod leather;
pub mod listeners;
pub mod mixture;
pub mod probe;
pub mod process;
pub mod process_lines;
pub mod protocol;
pub mod python;
pub mod random;
pub mod scene;
pub mod scheme;
pub mod stand_in;
pub mod web;
