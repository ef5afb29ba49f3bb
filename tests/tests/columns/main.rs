//! Columns re-encrypted on real servers while an application writes: killed, raced, fed with what does not open.

mod forced_race;
mod forced_race_sqlite;
mod kill_engine;
mod kill_engine_command;
mod kill_engine_sqlite;
mod kill_postgres;
mod mixed_input;
mod mixed_input_command;
mod mixed_input_sqlite;
mod narrow_column_command;
mod races;
mod runbook_r2_column;
