//! `unlock` and `lock`: commands need no key while the agent holds it.

use super::{Ended, Session};

fn without_key(session: &Session, arguments: &[&str]) -> Ended {
    Ended::of(session.bare(&[&["--no-input"], arguments].concat()).output().unwrap())
}

#[test]
fn an_agent_opens_the_vault_until_it_is_locked() {
    let session = Session::new();
    session.feed(&["put", "a", "-"], b"value").done();
    without_key(&session, &["get", "a"]).code(4).says("reseal unlock");
    session.run(&["unlock", "--for", "1m"]).done();
    assert_eq!(without_key(&session, &["get", "a"]).done().stdout, "value");
    // A second agent takes the first one's place.
    session.run(&["unlock", "--for", "1m"]).done();
    without_key(&session, &["list"]).done();
    without_key(&session, &["lock"]).done();
    without_key(&session, &["get", "a"]).code(4);
    assert_eq!(without_key(&session, &["lock"]).done().stdout, "no agent was running\n");
}

#[test]
fn an_agent_ends_when_its_time_is_over() {
    let session = Session::new();
    session.run(&["unlock", "--for", "1s"]).done();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while without_key(&session, &["list"]).code == Some(0) {
        assert!(std::time::Instant::now() < deadline, "the agent holds the key for longer than it should");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
