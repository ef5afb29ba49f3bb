//! What whole-system tests share: programs in other languages, and what they are asked.

pub mod python;
