//! What reseal writes, read by others, and the other way round: pgcrypto, Python, readers of `.env` files.

mod env_corpus_values;
mod envelope_python;
mod formats_fernet;
mod formats_pgcrypto;
mod vault_python;
