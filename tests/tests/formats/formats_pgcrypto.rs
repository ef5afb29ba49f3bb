//! Our pgcrypto messages against pgcrypto itself, in both directions: every combination of options, every encoding,
//! every length at which the bytes change their form.

use reseal_crypto::random::{OsRandom, Random, RandomPool, SeededRandom};
use reseal_crypto::{ColumnId, KeyMaterial, SecretBytes};
use reseal_formats::pgcrypto::MessageShape;
use reseal_formats::{Codec, ColumnType, FormatSpec, OpenError, Opened, Shape};
use reseal_sandbox::postgres::{Options, Server};
use serde_json::{Value, json};
use tokio_postgres::Client;

const OLD: &str = "the old passphrase: käse";
const NEW: &str = "pVnqlKBcvJZHbsXrJ8Kf5m2VQy0w1sTz9dEoUaGxRiI";

/// Lengths at which padding, length octets or parts change.
const LENGTHS: [usize; 14] =
    [0, 1, 15, 16, 17, 191, 192, 8383, 8384, 16_383, 16_384, 16_385, 65_530, 1 << 20];

/// From here on a value is long.
const LONG: usize = 65_000;

/// A private server with pgcrypto.
struct Oracle {
    client: Client,
    _server: Server,
}

impl Oracle {
    async fn start() -> Self {
        let server =
            Server::start(Options { durable: false, ..Options::default() }).expect("a private Postgres");
        let client = server.connect().await.expect("connects");
        client
            .batch_execute("CREATE EXTENSION pgcrypto")
            .await
            .expect("pgcrypto is installed (postgresql-contrib)");
        Self { client, _server: server }
    }

    /// What `query` makes of each (value, options); it sees them as `v` and `o`, the passphrase as `k`.
    async fn each(&self, query: &str, passphrase: &str, values: &[(Vec<u8>, String)]) -> Vec<Vec<u8>> {
        let (bytes, options): (Vec<&[u8]>, Vec<&str>) =
            values.iter().map(|(bytes, options)| (&bytes[..], &options[..])).unzip();
        let sql = format!(
            "SELECT ({query})::bytea FROM unnest($1::bytea[], $2::text[]) WITH ORDINALITY AS u(v, o, n), \
             (SELECT $3::text AS k) AS p ORDER BY n"
        );
        let rows = self.client.query(&sql, &[&bytes, &options, &passphrase]).await;
        rows.unwrap_or_else(|error| panic!("{query}: {error:?}")).iter().map(|row| row.get(0)).collect()
    }
}

/// One way of calling `pgp_sym_encrypt`, and what the message then says.
#[derive(Clone)]
struct Way {
    options: String,
    plan: Value,
    binary: bool,
}

impl Way {
    fn encrypt(&self) -> &'static str {
        if self.binary {
            "pgp_sym_encrypt_bytea(v, k, o)"
        } else {
            "pgp_sym_encrypt(convert_from(v, 'UTF8'), k, o)"
        }
    }

    fn decrypt(&self) -> &'static str {
        if self.binary { "pgp_sym_decrypt_bytea(v, k)" } else { "convert_to(pgp_sym_decrypt(v, k), 'UTF8')" }
    }

    fn kind(&self) -> u8 {
        match (self.binary, self.plan.get("unicode-mode")) {
            (true, _) => b'b',
            (false, Some(mode)) if mode == 1 => b'u',
            (false, _) => b't',
        }
    }
}

/// Every combination of the options that pgcrypto has, with a cheap count.
fn every_way() -> Vec<Way> {
    let mut ways = Vec::new();
    for cipher in ["aes128", "aes192", "aes256"] {
        for mode in [0, 1, 3] {
            for digest in ["md5", "sha1", "sha256", "sha384", "sha512"] {
                for session in [None, Some("aes128"), Some("aes192"), Some("aes256")] {
                    for compression in [0, 1, 2] {
                        for (unicode, binary) in [(0, false), (1, false), (0, true)] {
                            let mut plan = json!({
                                "cipher-algo": cipher, "s2k-mode": mode, "s2k-count": 1024,
                                "s2k-digest-algo": digest, "sess-key": 0, "compress-algo": compression,
                                "unicode-mode": unicode,
                            });
                            if let Some(session) = session {
                                plan["sess-key"] = 1.into();
                                plan["s2k-cipher-algo"] = session.into();
                            }
                            ways.push(Way { options: as_options(&plan), plan, binary });
                        }
                    }
                }
            }
        }
    }
    ways
}

/// The options as pgcrypto's functions take them.
fn as_options(plan: &Value) -> String {
    let options = plan.as_object().expect("an object").iter();
    let written = options.map(|(name, value)| format!("{name}={}", value.to_string().trim_matches('"')));
    written.collect::<Vec<_>>().join(", ")
}

fn codec(plan: &Value, column: ColumnType, passphrase: &str) -> Codec {
    let mut plan = plan.clone();
    plan["format"] = "pgcrypto".into();
    let spec: FormatSpec = serde_json::from_value(plan).expect("a description");
    let key = KeyMaterial::Foreign(SecretBytes::copy_from(passphrase.as_bytes()));
    spec.codec(column, &key, ColumnId([0; 16])).expect("a codec")
}

/// Opens all at once and then one by one by the second code path, which must agree.
fn open_all(codec: &Codec, stored: &[Vec<u8>]) -> (Vec<u8>, Vec<Result<Opened, OpenError>>) {
    let stored: Vec<&[u8]> = stored.iter().map(Vec::as_slice).collect();
    let rows = vec![None; stored.len()];
    let (mut plaintexts, mut again) = (Vec::new(), Vec::new());
    let opened = codec.open_many(&stored, &rows, &mut plaintexts);
    assert_eq!(opened, codec.reopen_many(&stored, &rows, &mut again));
    assert!(plaintexts == again);
    (plaintexts, opened)
}

fn seal_all(codec: &Codec, plaintexts: &[u8], values: &[Opened]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let rows = vec![None; values.len()];
    let mut random = RandomPool::new(&OsRandom);
    let places = codec.seal_many(plaintexts, values, &rows, &mut random, &mut out).expect("seals");
    places.into_iter().map(|place| out[place].to_vec()).collect()
}

fn shape_of(opened: &Result<Opened, OpenError>, what: &str) -> MessageShape {
    match opened.as_ref().unwrap_or_else(|error| panic!("{what}: {error}")).shape {
        Shape::Pgcrypto(shape) => shape,
        other => panic!("{what}: {other:?}"),
    }
}

/// Text of this many bytes: lines, and letters outside of ASCII.
fn text(bytes: usize) -> Vec<u8> {
    let line = "Zoë Müller, 12 rue de l'Été\r\n0123456789\n";
    let mut text: String = line.chars().cycle().take(bytes).collect();
    while text.len() > bytes {
        text.pop();
    }
    let mut text = text.into_bytes();
    text.resize(bytes, b'.');
    text
}

#[tokio::test]
async fn every_combination_of_options_in_both_directions() {
    let oracle = Oracle::start().await;
    let ways = every_way();
    assert_eq!(ways.len(), 3 * 3 * 5 * 4 * 3 * 3);
    let mut checked = both_directions(&oracle, &ways, |number| Some(number % 90)).await;
    for length in LENGTHS {
        // Long values with some of the combinations: 37 has no factor in common with the number of any option.
        let takes = |number: usize| length < LONG || number.is_multiple_of(37);
        checked += both_directions(&oracle, &ways, |number| takes(number).then_some(length)).await;
    }
    println!("{} combinations of pgcrypto's options, {checked} with lengths, in both directions", ways.len());
    assert_eq!(checked, 13 * ways.len() + 2 * ways.len().div_ceil(37));
}

/// Puts a plaintext of the length that `length_of` says through each way, and says how many there were.
async fn both_directions(oracle: &Oracle, ways: &[Way], length_of: impl Fn(usize) -> Option<usize>) -> usize {
    let plaintexts: Vec<Vec<u8>> =
        (0..ways.len()).map(|number| length_of(number).map(text).unwrap_or_default()).collect();
    let mut checked = 0;
    for (encrypt, decrypt, mut ways) in by_function(ways) {
        ways.retain(|(number, _)| length_of(*number).is_some());
        let question = |(number, way): &(usize, Way)| (plaintexts[*number].clone(), way.options.clone());
        let theirs = oracle.each(encrypt, OLD, &ways.iter().map(question).collect::<Vec<_>>()).await;
        // They seal, we open.
        let (opened_plaintexts, opened) = open_all(&codec(&json!({}), ColumnType::Bytes, OLD), &theirs);
        for ((number, way), opened) in ways.iter().zip(&opened) {
            let shape = shape_of(opened, &way.options);
            assert_eq!(shape.kind, way.kind(), "{}", way.options);
            assert_eq!(u64::from(shape.s2k.id()), way.plan["s2k-mode"], "{}", way.options);
            assert_eq!(u64::from(shape.compression.id()), way.plan["compress-algo"], "{}", way.options);
            assert_eq!(u64::from(shape.session.is_some()), way.plan["sess-key"], "{}", way.options);
            assert_eq!(
                names_of(&shape),
                ["cipher-algo", "s2k-digest-algo"].map(|name| way.plan[name].clone()),
                "{}",
                way.options
            );
            let place = opened.as_ref().expect("opened above").plaintext.clone();
            assert_eq!(opened_plaintexts[place], plaintexts[*number], "{}", way.options);
        }
        // We seal with each message's own options under the new key, they open; the shape has not changed.
        let values: Vec<Opened> = opened.into_iter().map(|value| value.expect("opened above")).collect();
        let ours = seal_all(&codec(&json!({}), ColumnType::Bytes, NEW), &opened_plaintexts, &values);
        let (_, again) = open_all(&codec(&json!({}), ColumnType::Bytes, NEW), &ours);
        again.iter().zip(&values).for_each(|(again, value)| {
            assert_eq!(again.as_ref().map(|again| again.shape), Ok(value.shape));
        });
        let back = oracle.each(decrypt, NEW, &with_no_options(&ours)).await;
        // We seal from nothing by the options of the plan, they open.
        let by_plan: Vec<Vec<u8>> =
            ways.iter().map(|(number, way)| seal_new(way, &plaintexts[*number])).collect();
        let back_by_plan = oracle.each(decrypt, NEW, &with_no_options(&by_plan)).await;
        for (place, (number, way)) in ways.iter().enumerate() {
            assert_eq!(back[place], plaintexts[*number], "kept: {}", way.options);
            assert_eq!(back_by_plan[place], plaintexts[*number], "by plan: {}", way.options);
            if way.plan["compress-algo"] == 0 {
                assert_eq!(ours[place].len(), theirs[place].len(), "{}", way.options);
                assert_eq!(by_plan[place].len(), theirs[place].len(), "{}", way.options);
            }
            checked += 1;
        }
    }
    checked
}

/// The names that pgcrypto has for a message's cipher and hash.
fn names_of(shape: &MessageShape) -> [String; 2] {
    [format!("{:?}", shape.cipher).to_lowercase(), format!("{:?}", shape.digest).to_lowercase()]
}

/// The server's two functions, and the numbered ways that go through them.
type Group = (&'static str, &'static str, Vec<(usize, Way)>);

fn by_function(ways: &[Way]) -> [Group; 2] {
    let numbered = ways.iter().cloned().enumerate();
    let (binary, text): (Vec<_>, Vec<_>) = numbered.partition(|(_, way)| way.binary);
    [binary, text].map(|group| (group[0].1.encrypt(), group[0].1.decrypt(), group))
}

fn with_no_options(messages: &[Vec<u8>]) -> Vec<(Vec<u8>, String)> {
    messages.iter().map(|message| (message.clone(), String::new())).collect()
}

/// A message made by the plan's options alone.
fn seal_new(way: &Way, plaintext: &[u8]) -> Vec<u8> {
    let codec = codec(&way.plan, ColumnType::Bytes, NEW);
    let value = Opened { plaintext: 0..plaintext.len(), shape: Shape::Plain, encoding: codec.encoding() };
    seal_all(&codec, plaintext, &[value]).remove(0)
}

#[tokio::test]
async fn every_length_with_the_servers_own_counts() {
    let oracle = Oracle::start().await;
    let seed = 11;
    println!("seed {seed}");
    let mut checked = 0;
    for (options, binary) in [
        ("", false),
        ("", true),
        ("compress-algo=1, cipher-algo=aes192", false),
        ("compress-algo=2, compress-level=9", true),
        ("sess-key=1, cipher-algo=aes256, unicode-mode=1", false),
        ("s2k-mode=1, sess-key=1, compress-algo=1", true),
    ] {
        let way = Way { options: options.to_owned(), plan: json!({}), binary };
        let plaintexts: Vec<Vec<u8>> =
            LENGTHS.iter().map(|length| if binary { noise(seed, *length) } else { text(*length) }).collect();
        let question = |plaintext: &Vec<u8>| (plaintext.clone(), options.to_owned());
        let theirs =
            oracle.each(way.encrypt(), OLD, &plaintexts.iter().map(question).collect::<Vec<_>>()).await;
        let (opened_plaintexts, opened) = open_all(&codec(&json!({}), ColumnType::Bytes, OLD), &theirs);
        let values: Vec<Opened> = opened.into_iter().map(|value| value.expect(options)).collect();
        let ours = seal_all(&codec(&json!({}), ColumnType::Bytes, NEW), &opened_plaintexts, &values);
        let back = oracle.each(way.decrypt(), NEW, &with_no_options(&ours)).await;
        for (place, plaintext) in plaintexts.iter().enumerate() {
            let length = plaintext.len();
            assert!(
                opened_plaintexts[values[place].plaintext.clone()] == plaintext[..],
                "{options} {length}"
            );
            assert!(back[place] == plaintext[..], "{options} {length}");
            if !options.contains("compress") {
                assert_eq!(ours[place].len(), theirs[place].len(), "{options} {length}");
            }
            checked += 1;
        }
    }
    println!("{checked} combinations of length and options, each in both directions");
    assert_eq!(checked, 84);
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    SeededRandom::new(seed).fill(&mut bytes).expect("seeded");
    bytes
}

#[tokio::test]
async fn every_encoding_as_the_server_writes_and_reads_it() {
    let oracle = Oracle::start().await;
    let plain = text(300);
    let options = "s2k-count=1024".to_owned();
    for (wrapped, unwrapped, plan) in [
        ("encode(M, 'base64')", "decode(T, 'base64')", json!({ "encoding": "base64" })),
        (
            "translate(encode(M, 'base64'), E'\\n', '')",
            "decode(T, 'base64')",
            json!({ "encoding": "base64" }),
        ),
        ("encode(M, 'hex')", "decode(T, 'hex')", json!({ "encoding": "hex" })),
        ("upper(encode(M, 'hex'))", "decode(T, 'hex')", json!({ "encoding": "hex" })),
        ("M::text", "T::bytea", json!({ "encoding": "bytea-hex" })),
        ("armor(M)", "dearmor(T)", json!({ "encoding": "armor" })),
        (
            "armor(M, ARRAY['Version', 'Comment'], ARRAY['1', 'a: b'])",
            "dearmor(T)",
            json!({ "encoding": "armor" }),
        ),
    ] {
        // The column detects, or is told.
        for plan in [plan, json!({}), json!({ "encoding": "text" })] {
            let encrypt = wrapped.replace('M', "pgp_sym_encrypt(convert_from(v, 'UTF8'), k, o)");
            let encrypt = format!("convert_to({encrypt}, 'UTF8')");
            let theirs = oracle.each(&encrypt, OLD, &[(plain.clone(), options.clone())]).await;
            let (plaintexts, opened) = open_all(&codec(&plan, ColumnType::Text, OLD), &theirs);
            let value = opened[0].clone().unwrap_or_else(|error| panic!("{wrapped} {plan}: {error}"));
            assert_eq!(plaintexts, plain, "{wrapped} {plan}");
            let ours = seal_all(&codec(&plan, ColumnType::Text, NEW), &plaintexts, &[value]);
            let look = |text: &[u8]| {
                let text = String::from_utf8(text.to_vec()).expect("text");
                let capitals = text.contains('\\') || !text.chars().any(|c| c.is_ascii_lowercase());
                (text.matches('\n').count(), text.starts_with('-'), text.starts_with('\\'), capitals)
            };
            if !wrapped.contains("Comment") {
                assert_eq!(look(&ours[0]), look(&theirs[0]), "{wrapped} {plan}");
                assert_eq!(ours[0].len(), theirs[0].len(), "{wrapped} {plan}");
            }
            let decode = unwrapped.replace('T', "convert_from(v, 'UTF8')");
            let decrypt = format!("convert_to(pgp_sym_decrypt({decode}, k), 'UTF8')");
            assert_eq!(
                oracle.each(&decrypt, NEW, &with_no_options(&ours)).await[0],
                plain,
                "{wrapped} {plan}"
            );
        }
    }
}

#[tokio::test]
async fn line_ends_that_the_server_converts_stay_converted() {
    let oracle = Oracle::start().await;
    let way = Way { options: "convert-crlf=1, s2k-count=1024".to_owned(), plan: json!({}), binary: false };
    let theirs = oracle.each(way.encrypt(), OLD, &[(b"one\ntwo\n".to_vec(), way.options.clone())]).await;
    let (plaintexts, opened) = open_all(&codec(&json!({}), ColumnType::Bytes, OLD), &theirs);
    assert_eq!(plaintexts, b"one\r\ntwo\r\n");
    let values = [opened[0].clone().expect("opens")];
    let ours = seal_all(&codec(&json!({}), ColumnType::Bytes, NEW), &plaintexts, &values);
    let decrypt = "convert_to(pgp_sym_decrypt(v, k, 'convert-crlf=1'), 'UTF8')";
    assert_eq!(oracle.each(decrypt, NEW, &with_no_options(&ours)).await[0], b"one\ntwo\n");
}

#[tokio::test]
async fn what_is_not_supported_is_named() {
    let oracle = Oracle::start().await;
    for (options, option) in
        [("disable-mdc=1", "no integrity protection (disable-mdc)"), ("cipher-algo=3des", "the cipher 3DES")]
    {
        let encrypt = "pgp_sym_encrypt(convert_from(v, 'UTF8'), k, o)";
        let question = [(b"value".to_vec(), format!("{options}, s2k-count=1024"))];
        let theirs = oracle.each(encrypt, OLD, &question).await;
        let (_, opened) = open_all(&codec(&json!({}), ColumnType::Bytes, OLD), &theirs);
        assert_eq!(opened[0], Err(OpenError::Unsupported { format: "pgcrypto", option }));
    }
}

#[tokio::test]
async fn messages_without_a_hash_become_messages_with_one() {
    let oracle = Oracle::start().await;
    for extra in ["", ", cipher-algo=aes256", ", sess-key=1, compress-algo=1"] {
        for length in [0, 1, 16, 17, 200, 20_000] {
            let plain = text(length);
            let question = [(plain.clone(), format!("disable-mdc=1, s2k-count=1024{extra}"))];
            let theirs = oracle.each("pgp_sym_encrypt(convert_from(v, 'UTF8'), k, o)", OLD, &question).await;
            let allowing = codec(&json!({ "allow-no-mdc": true }), ColumnType::Bytes, OLD);
            let (plaintexts, opened) = open_all(&allowing, &theirs);
            assert_eq!(plaintexts, plain, "{extra} {length}");
            let values = [opened[0].clone().expect("opens")];
            let ours = seal_all(&codec(&json!({}), ColumnType::Bytes, NEW), &plaintexts, &values);
            let (_, opened) = open_all(&codec(&json!({}), ColumnType::Bytes, NEW), &ours);
            assert!(opened[0].is_ok(), "{extra} {length}: proved by its hash");
            let back =
                oracle.each("convert_to(pgp_sym_decrypt(v, k), 'UTF8')", NEW, &with_no_options(&ours)).await;
            assert_eq!(back[0], plain);
        }
    }
}

#[tokio::test]
async fn neither_side_opens_under_a_wrong_key() {
    let oracle = Oracle::start().await;
    let way = Way { options: String::new(), plan: json!({ "s2k-count": 1024 }), binary: false };
    let theirs = oracle.each(way.encrypt(), OLD, &[(b"value".to_vec(), String::new())]).await;
    let (_, opened) = open_all(&codec(&json!({}), ColumnType::Bytes, NEW), &theirs);
    assert_eq!(opened[0], Err(OpenError::Unopened));
    let ours = seal_new(&way, b"value");
    let query = "SELECT pgp_sym_decrypt($1, $2)";
    let error = oracle.client.query(query, &[&ours, &OLD]).await.expect_err("the wrong key");
    let message = error.as_db_error().expect("the server's refusal").message();
    assert_eq!(message, "Wrong key or corrupt data");
}
