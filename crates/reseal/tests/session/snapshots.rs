//! `reseal snapshot`: whole files and streams, encrypted, and given back as they were.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use super::Session;

fn write(session: &Session, name: &str, text: &str, mode: u32) {
    fs::write(session.path(name), text).unwrap();
    fs::set_permissions(session.path(name), fs::Permissions::from_mode(mode)).unwrap();
}

fn add(session: &Session, arguments: &[&str]) -> Vec<String> {
    let object = session.json(&[&["snapshot", "add"], arguments].concat());
    let ids = object["snapshots"].as_array().unwrap().iter();
    ids.map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_file_comes_back_with_bytes_mode_and_owner() {
    let session = Session::new();
    write(&session, ".env", "A=old\n", 0o640);
    let before = fs::metadata(session.path(".env")).unwrap();
    let id = &add(&session, &[".env"])[0];
    assert!(session.path(".env").exists(), "it is only removed where that is asked for");
    let shown = session.json(&["snapshot", "show", id]);
    assert_eq!((&shown["mode"], &shown["bytes"]), (&"0640".into(), &6.into()));
    assert_eq!(session.run(&["snapshot", "cat", id]).done().stdout, "A=old\n");
    fs::remove_file(session.path(".env")).unwrap();
    session.run(&["snapshot", "restore", id]).done();
    let after = fs::metadata(session.path(".env")).unwrap();
    assert_eq!(fs::read(session.path(".env")).unwrap(), b"A=old\n");
    assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
    let left = fs::read_dir(session.path("")).unwrap();
    let drafts =
        left.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".reseal"));
    assert_eq!(drafts.count(), 0);
}

#[test]
fn what_a_restore_replaces_is_kept() {
    let session = Session::new();
    write(&session, ".env", "A=old\n", 0o600);
    let id = &add(&session, &[".env"])[0];
    write(&session, ".env", "A=new\n", 0o600);
    session.run(&["snapshot", "restore", id]).code(8).says("not confirmed");
    assert_eq!(fs::read(session.path(".env")).unwrap(), b"A=new\n");
    let restored = session.json(&["snapshot", "restore", id, "-y"]);
    assert_eq!(fs::read(session.path(".env")).unwrap(), b"A=old\n");
    let replaced = restored["replaced"].as_str().unwrap();
    assert_eq!(session.run(&["snapshot", "cat", replaced]).done().stdout, "A=new\n");
    session.run(&["snapshot", "restore", id, "--to", "elsewhere"]).done();
    assert_eq!(fs::read(session.path("elsewhere")).unwrap(), b"A=old\n");
    symlink(".env", session.path("link")).unwrap();
    session.run(&["snapshot", "restore", id, "--to", "link", "-y"]).code(8).says("symbolic link");
}

#[test]
fn streams_come_from_stdin() {
    let session = Session::new();
    let dump: String = (0..200_000).map(|n| format!("INSERT INTO t VALUES ({n});\n")).collect();
    session.feed(&["snapshot", "add", "crm/before", "-"], dump.as_bytes()).done();
    assert!(session.run(&["snapshot", "cat", "crm/before"]).done().stdout == dump);
    session.run(&["snapshot", "restore", "crm/before"]).code(2).says("--to");
    session.run(&["snapshot", "cat", "crm/before", "--output", "dump.sql"]).done();
    assert_eq!(fs::metadata(session.path("dump.sql")).unwrap().mode() & 0o777, 0o600);
    session.run(&["snapshot", "add", "-"]).code(2).says("NAME -");
    session
        .feed_bare(&["--passphrase-fd", "0", "snapshot", "add", "x", "-"], b"y")
        .code(2)
        .says("descriptor 0");
    let listed = session.json(&["snapshot", "list"]);
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 1);
    session.run(&["snapshot", "remove", "crm/before"]).code(8);
    session.run(&["snapshot", "remove", "crm/before", "-y"]).done();
    session.run(&["snapshot", "cat", "crm/before"]).code(3).says("snapshot list");
}

#[test]
fn leftovers_are_swallowed_and_gone() {
    let session = Session::new();
    let leftovers =
        [".env.backup.1", ".env.backup.2", ".redis-password-backup", ".credentials-backup-20260101"];
    leftovers.iter().for_each(|name| write(&session, name, &format!("PASSWORD={name}\n"), 0o600));
    write(&session, ".env", "PASSWORD=x\n", 0o600);
    let plan = "schema = 1\nleftovers = [\".env.backup.*\", \".redis-password-backup\", \".credentials-backup-*\"]\n";
    fs::write(session.path("reseal.toml"), plan).unwrap();
    let ids = add(&session, &["--leftovers", "--delete-source"]);
    assert_eq!(ids.len(), leftovers.len());
    for name in leftovers {
        assert!(!session.path(name).exists(), "{name}");
        let path = session.path("").canonicalize().unwrap().join(name);
        let content = session.run(&["snapshot", "cat", path.to_str().unwrap()]).done().stdout;
        assert_eq!(content, format!("PASSWORD={name}\n"));
    }
    assert!(session.path(".env").exists());
    let log = session.run(&["audit", "log"]).done().stdout;
    assert_eq!(log.matches("remove file").count(), 2 * leftovers.len(), "intent and result: {log}");
    assert!(
        session.run(&["snapshot", "add", "--leftovers"]).done().stderr.contains("nothing is lying around")
    );
}

#[test]
fn what_would_survive_its_removal_is_refused_first() {
    let session = Session::new();
    write(&session, "a", "1", 0o600);
    write(&session, "b", "2", 0o600);
    fs::hard_link(session.path("b"), session.path("c")).unwrap();
    session.run(&["snapshot", "add", "a", "b", "--delete-source"]).code(8).says("2 names");
    symlink("a", session.path("link")).unwrap();
    session.run(&["snapshot", "add", "link", "--delete-source"]).code(8).says("symbolic link");
    session.run(&["snapshot", "add", "a", "missing"]).code(3);
    assert!(session.path("a").exists());
    assert_eq!(session.json(&["snapshot", "list"])["snapshots"].as_array().unwrap().len(), 0);
}

#[test]
fn differences_are_told_by_name() {
    let session = Session::new();
    write(&session, ".env", "A=canary-1\nB=2\n", 0o600);
    let first = add(&session, &[".env"]).remove(0);
    session.run(&["snapshot", "diff", &first]).done();
    write(&session, ".env", "A=canary-2\nC=3\n", 0o600);
    let second = add(&session, &[".env"]).remove(0);
    let told = session.run(&["snapshot", "diff", &first]).done();
    assert_eq!(told.stdout, "changed  A\nadded    C\nremoved  B\nlines    -2 +2\n");
    let object = session.json(&["snapshot", "diff", &first, "--to", &second]);
    assert_eq!((&object["same"], &object["variables"]["changed"][0]), (&false.into(), &"A".into()));
    assert!(!object.to_string().contains("canary"));
    let shown = session.run(&["snapshot", "diff", &first, "--reveal"]).done().stdout;
    assert!(shown.ends_with("-A=canary-1\n-B=2\n+A=canary-2\n+C=3\n"), "{shown}");
}

#[test]
fn nothing_of_a_snapshot_is_in_the_vault_file_in_clear() {
    let session = Session::new();
    write(&session, "planted-name", "planted-content", 0o600);
    add(&session, &["planted-name"]);
    let vault = fs::read(session.path("v.vault")).unwrap();
    let has = |needle: &[u8]| vault.windows(needle.len()).any(|window| window == needle);
    assert!(!has(b"planted-content") && !has(b"planted-name"));
    assert!(fs::read(session.path("planted-name")).unwrap() == b"planted-content");
}

/// Every call by which the vault or the directory changes.
const CALLS: [&str; 5] = ["pwrite64", "fsync", "fdatasync", "unlink", "unlinkat"];

/// Runs the command killed at the n-th call of a kind; says whether it came so far.
fn killed_at(session: &Session, call: &str, number: usize, arguments: &[&str]) -> bool {
    let bare = session.bare(&[&["--key-file", "key", "--no-input"], arguments].concat());
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("inject={call}:signal=KILL:when={number}")]);
    strace.arg(bare.get_program()).args(bare.get_args()).current_dir(bare.get_current_dir().unwrap());
    strace.env_clear().envs(bare.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = strace.output().expect("strace runs; it is the Debian package `strace`");
    output.status.signal() == Some(9)
}

fn copied(session: &Session) -> Session {
    let copy = Session::without_vault();
    let status = Command::new("cp").arg("-a").arg(session.path(".")).arg(copy.path(".")).status().unwrap();
    assert!(status.success());
    copy
}

/// Killed anywhere, what was to be removed is still there, or the vault gives it back.
#[test]
fn a_file_that_is_swallowed_is_never_lost() {
    let prepared = Session::new();
    write(&prepared, "leftover", "PASSWORD=x\n", 0o600);
    let (mut points, mut gone) = (0, 0);
    for call in CALLS {
        for number in 1.. {
            let session = copied(&prepared);
            let arguments = ["snapshot", "add", "leftover", "--name", "it", "--delete-source"];
            let was_killed = killed_at(&session, call, number, &arguments);
            if !session.path("leftover").exists() {
                assert_eq!(session.run(&["snapshot", "cat", "it"]).done().stdout, "PASSWORD=x\n");
                gone += usize::from(was_killed);
            }
            session.run(&["audit", "verify"]).done();
            if !was_killed {
                assert!(!Path::new(&session.path("leftover")).exists());
                break;
            }
            points += 1;
        }
    }
    println!("{points} kill points, {gone} of them after the removal");
    assert!(points >= 40 && gone >= 3, "{points} kill points, {gone} after the removal");
}
