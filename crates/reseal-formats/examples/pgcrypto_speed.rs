//! How fast pgcrypto values are opened, sealed and proved on one core, in one run: all code paths on the same values.
//!
//! `cargo run --release -p reseal-formats --example pgcrypto_speed`

#![allow(clippy::print_stdout)]

use reseal_crypto::random::{OsRandom, RandomPool};
use reseal_crypto::{ColumnId, ColumnKey, KeyMaterial, SecretBytes};
use reseal_formats::{Codec, ColumnType, Encoding, FormatSpec, Opened, Shape};
use rustix::time::{ClockId, clock_gettime};

/// Values at a time, as the engine takes them.
const VALUES: usize = 3072;
const PLAINTEXT_LEN: usize = 45;

fn codec(spec: &str, key: &KeyMaterial) -> Codec {
    let spec: FormatSpec = serde_json::from_str(spec).expect("a description");
    spec.codec(ColumnType::Text, key, ColumnId([0; 16])).expect("a codec")
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = cpu_seconds();
    let result = work();
    let per_second = VALUES as f64 / (cpu_seconds() - start);
    println!("{what:44} {per_second:9.0} values/s");
    result
}

/// Processor time of this thread: what others do on the machine does not count.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn main() {
    let key = ColumnKey::from_bytes(&[7; 32]);
    let passphrase = KeyMaterial::Foreign(SecretBytes::copy_from(key.to_text().as_bytes()));
    let plaintexts = vec![b'p'; PLAINTEXT_LEN * VALUES];
    let place = |number| number * PLAINTEXT_LEN..(number + 1) * PLAINTEXT_LEN;
    let value = |number| Opened { plaintext: place(number), shape: Shape::Plain, encoding: Encoding::Raw };
    let values: Vec<Opened> = (0..VALUES).map(value).collect();
    let rows = vec![None; VALUES];
    let mut random = RandomPool::new(&OsRandom);
    let envelope = codec(r#"{"format":"reseal"}"#, &KeyMaterial::Column(key));
    for (name, spec) in [
        ("AES-128, server's counts", r#"{"format":"pgcrypto"}"#),
        ("AES-256, server's counts", r#"{"format":"pgcrypto","cipher-algo":"aes256"}"#),
        ("AES-128, lowest count", r#"{"format":"pgcrypto","s2k-count":1024}"#),
    ] {
        println!("{name}:");
        let codec = codec(spec, &passphrase);
        let mut stored = Vec::new();
        let places = timed("  seal, 16 lanes", || {
            codec.seal_many(&plaintexts, &values, &rows, &mut random, &mut stored).expect("seals")
        });
        let messages: Vec<&[u8]> = places.into_iter().map(|place| &stored[place]).collect();
        let mut opened = Vec::new();
        let values = timed("  open, 16 lanes", || codec.open_many(&messages, &rows, &mut opened));
        let mut again = Vec::new();
        timed("  open, one after the other (the proof)", || codec.reopen_many(&messages, &rows, &mut again));
        assert_eq!((&opened, &again), (&plaintexts, &plaintexts));
        let values: Vec<Opened> = values.into_iter().map(|value| value.expect("opens")).collect();
        let mut sealed = Vec::new();
        timed("  seal again as our envelope", || {
            envelope.seal_many(&opened, &values, &rows, &mut random, &mut sealed).expect("seals")
        });
    }
}
