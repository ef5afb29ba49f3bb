//! Child processes: what they learn, how long they live, what of their output is kept.

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use reseal_crypto::secret::SecretBytes;
use reseal_rotate::process::{Call, Output, ProcessError, Runner};
use reseal_rotate::scrub::Known;
use reseal_rotate::stream::Stream;

const CANARY: &str = "canary-6f1c2";

fn canary() -> SecretBytes {
    SecretBytes::copy_from(CANARY.as_bytes())
}

/// A runner whose caller has exported what must not go on.
fn runner(known: Known) -> Runner {
    let exported = [
        ("PATH", std::env::var("PATH").expect("tests have a PATH")),
        ("LC_ALL", "C.UTF-8".into()),
        ("REDIS_PASSWORD", "stale-value".into()),
        ("RESEAL_VAULT", "some.vault".into()),
        ("COMPOSE_PROJECT_NAME", CANARY.into()),
        ("DOCKER_HOST", "unix:///elsewhere.sock".into()),
    ];
    let exported = exported.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Runner::new(Path::new("/"), exported, known)
}

fn shell(script: &str) -> Call {
    Call::new(["sh", "-c", script]).limit(Duration::from_secs(30))
}

fn text(bytes: &SecretBytes) -> String {
    bytes.expose_str().expect("the shell writes UTF-8").to_owned()
}

/// Whether a process with this id runs; one that has ended and is not yet waited for does not.
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn assert_gone(pid: &str) {
    let begin = Instant::now();
    while runs(pid) {
        assert!(begin.elapsed() < Duration::from_secs(5), "process {pid} is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn a_child_gets_the_named_environment_and_nothing_known() {
    // Without known values the variable goes through: it is the value that keeps it out.
    let open = runner(Known::default()).run(&shell("env")).await.unwrap();
    assert!(text(&open.stdout).contains(CANARY), "the planted value is seen where nothing hides it");

    let finished = runner(Known::new([&canary()])).run(&shell("env")).await.unwrap();
    let environment = text(&finished.stdout);
    for absent in ["REDIS_PASSWORD", "stale-value", "RESEAL_VAULT", CANARY] {
        assert!(!environment.contains(absent), "{absent} in {environment}");
    }
    for present in ["LC_ALL=C.UTF-8", "DOCKER_HOST=unix:///elsewhere.sock", "PATH="] {
        assert!(environment.contains(present), "{present} in {environment}");
    }
}

#[tokio::test]
async fn a_value_in_the_arguments_is_refused_in_every_spelling() {
    let value = SecretBytes::copy_from(b"p@ss word/1");
    let runner = runner(Known::default()).knowing([&value]);
    for argument in ["p@ss word/1", "redis://:p%40ss%20word%2F1@h", "70407373"] {
        let called = runner.run(&Call::new(["echo", argument])).await;
        match called {
            Err(error @ ProcessError::SecretInArguments { .. }) => {
                assert!(!error.to_string().contains("p@ss"), "{error}");
            }
            Ok(finished) => assert_eq!(text(&finished.stdout).trim(), "70407373", "half a value is none"),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_value_goes_in_by_stdin_alone() {
    let call = shell("cat; cat /proc/$$/cmdline /proc/$$/environ >&2").stdin(canary());
    let finished = runner(Known::new([&canary()])).run(&call).await.unwrap();
    assert_eq!(finished.stdout, canary());
    assert!(finished.stderr.len() > 20 && !text(&finished.stderr).contains(CANARY));
}

#[tokio::test]
async fn a_program_that_reads_nothing_is_no_failure() {
    let call = shell("exec true").stdin(SecretBytes::new(vec![b'x'; 1 << 20]));
    assert!(runner(Known::default()).run(&call).await.unwrap().success());
}

#[tokio::test]
async fn failure_is_an_answer() {
    let finished = runner(Known::default()).run(&shell("echo no >&2; exit 7")).await.unwrap();
    assert!(!finished.success());
    assert_eq!((finished.status.code(), text(&finished.stderr).as_str()), (Some(7), "no\n"));
    let missing = runner(Known::default()).run(&Call::new(["no-such-program-here"])).await.unwrap_err();
    assert!(matches!(missing, ProcessError::Start { .. }), "{missing}");
    let empty = runner(Known::default()).run(&Call::new(Vec::<OsString>::new())).await.unwrap_err();
    assert!(matches!(empty, ProcessError::Empty), "{empty}");
}

#[tokio::test]
async fn a_time_out_ends_the_whole_group_and_shows_scrubbed_lines() {
    // The grandchild ignores SIGTERM and is not waited for by anyone.
    let script = format!("(trap '' TERM; sleep 300 & echo $!; echo {CANARY}; wait) & wait");
    let call = Call::new(["sh"]).stdin(SecretBytes::new(script.into_bytes())).limit(Duration::from_secs(1));
    let begin = Instant::now();
    let error = runner(Known::new([&canary()])).run(&call).await.unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(10), "it took {:?}", begin.elapsed());
    let ProcessError::TimedOut { last, .. } = error else { panic!("{error}") };
    assert_eq!(last.len(), 2, "{last:?}");
    assert_eq!(last[1], "[secret]");
    assert_gone(&last[0]);
}

#[tokio::test]
async fn a_dropped_call_kills_the_whole_group() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let script = format!("sleep 300 & echo $$ $! > {}; wait", pids.display());
    let runner = runner(Known::default());
    let call = shell(&script);
    let running = runner.run(&call);
    assert!(tokio::time::timeout(Duration::from_millis(800), running).await.is_err(), "it still runs");
    let pids = std::fs::read_to_string(pids).unwrap();
    assert_eq!(pids.split_whitespace().count(), 2);
    pids.split_whitespace().for_each(assert_gone);
}

#[tokio::test]
async fn what_is_left_in_the_background_lives_on_and_holds_nobody_up() {
    let begin = Instant::now();
    let finished = runner(Known::default()).run(&shell("sleep 20 & echo $!")).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(10), "it took {:?}", begin.elapsed());
    let pid = text(&finished.stdout).trim().to_owned();
    assert!(runs(&pid), "the program ended well: what it started stays");
    let ended = runner(Known::default()).run(&Call::new(["kill", &pid])).await.unwrap();
    assert!(ended.success());
}

#[tokio::test]
async fn output_is_bounded() {
    let runner = runner(Known::new([&canary()]));
    let endless = shell("yes").output(Output::Whole(100_000));
    assert!(matches!(runner.run(&endless).await, Err(ProcessError::TooMuch { limit: 100_000, .. })));

    let last = shell("seq 1 200000; echo end").output(Output::Last(1_000));
    let kept = text(&runner.run(&last).await.unwrap().stdout);
    assert!(kept.len() <= 1_000 && kept.ends_with("\n200000\nend\n"), "{kept}");
    assert!(kept.lines().rev().skip(1).all(|line| line.len() == 6), "whole lines: {kept}");
}

#[tokio::test]
async fn a_cut_does_not_show_half_a_value() {
    // A value of two lines: what is left of it after a cut begins a line, like any other text.
    let value = SecretBytes::copy_from(b"canary-of-two-lines\nsecond-half");
    let script = b"for i in 1 2; do printf 'canary-of-two-lines\nsecond-half\n'; done; printf 'last line\n'";
    let (blind, knowing) = (runner(Known::default()), runner(Known::new([&value])));
    let (mut torn, mut kept) = (0, 0);
    for limit in 10..90 {
        let call = Call::new(["sh"]).stdin(SecretBytes::copy_from(script)).output(Output::Last(limit));
        let shown = knowing.known().scrub(blind.run(&call).await.unwrap().stdout.expose());
        torn += usize::from(shown.contains("half"));
        let shown = knowing.known().scrub(knowing.run(&call).await.unwrap().stdout.expose());
        assert!(!shown.contains("half"), "{limit}: {shown}");
        kept += usize::from(shown.contains("last line"));
    }
    assert!(torn > 10, "without knowing the value, it is shown in part: {torn}");
    assert!(kept > 10, "and what is no part of it is kept: {kept}");
}

/// Reads on while nothing comes.
fn to_end(stream: &mut Stream) -> std::io::Result<Vec<u8>> {
    let mut whole = Vec::new();
    stream.read_to_end(&mut whole).map(|_| whole)
}

#[test]
fn a_stream_ends_only_where_its_program_succeeds() {
    let known = Known::new([&canary()]);
    let mut whole = runner(known.clone()).stream(&shell("printf one; sleep 0.3; printf two")).unwrap();
    assert_eq!(to_end(&mut whole).unwrap(), b"onetwo");
    let script = "printf half; echo \"no space for $0\" >&2; exit 3";
    let failing = shell(&script.replace("$0", &["canary", "-6f1", "c2"].join("\"\"")));
    let error = to_end(&mut runner(known).stream(&failing).unwrap()).unwrap_err().to_string();
    assert!(error.contains("exit status: 3") && error.contains("no space for"), "{error}");
    assert!(!error.contains(CANARY), "{error}");
}

#[test]
fn a_stream_that_nobody_reads_on_ends_its_program() {
    let mut stream = runner(Known::default()).stream(&shell("sleep 100 & echo $! $$; wait")).unwrap();
    let mut line = [0; 64];
    let length = loop {
        match stream.read(&mut line) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => break other.unwrap(),
        }
    };
    let pids = String::from_utf8(line[..length].to_vec()).unwrap();
    drop(stream);
    pids.split_whitespace().for_each(assert_gone);
}
