//! Trees of the worst kind, ended whole. The warden is this test's own binary, told to be one.

use std::fs::File;
use std::process::ExitCode;

use tokio::io::AsyncReadExt;

use super::*;

/// What makes this binary a warden: the test below, alone.
const ACT: &str = "process::tests::a_warden_when_it_is_told_to_be_one";

#[test]
fn a_warden_when_it_is_told_to_be_one() {
    // Its standard input is a socket only where a runner started it.
    if seqpacket::next_len(io::stdin()).is_ok() && warden::run() == ExitCode::FAILURE {
        std::process::exit(1);
    }
}

pub(crate) fn warden() -> Warden {
    Warden {
        program: "/proc/self/exe".into(),
        arguments: [ACT, "--exact", "--nocapture", "--test-threads=1"].map(Into::into).into(),
    }
}

fn shell(script: &str, tag: &str) -> Run {
    Run {
        argv: ["/bin/sh", "-c", script].map(Into::into).into(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into()), (descendants::TAG.into(), tag.into())],
        directory: File::open("/tmp").unwrap().into(),
        tag: tag.to_owned(),
    }
}

fn tag() -> String {
    sojourn_core::ids::SessionId::new().to_string()
}

/// A program that forks twice into a session of its own, ignores every polite signal, and keeps
/// standard output open.
const STUBBORN: &str = "trap '' TERM HUP INT; \
    setsid sh -c 'trap \"\" TERM HUP INT; sleep 300 & echo child; wait' & \
    echo ready; wait";

async fn until_lines(stdout: &mut pipe::Receiver, lines: usize) -> String {
    let mut said = String::new();
    let mut byte = [0];
    while said.lines().count() < lines || !said.ends_with('\n') {
        assert_eq!(stdout.read(&mut byte).await.unwrap(), 1, "{said}");
        said.push(char::from(byte[0]));
    }
    said
}

#[tokio::test]
async fn case_10_a_tree_that_does_not_want_to_die_is_ended_whole() {
    let tag = tag();
    let (tree, mut pipes) = Tree::on_pipes(&warden(), shell(STUBBORN, &tag)).await.unwrap();
    until_lines(&mut pipes.stdout, 2).await;
    assert!(descendants::tagged(&tag).len() >= 3);
    assert_eq!(tree.end(Duration::from_millis(100)).await, Left::Nothing);
    assert_eq!(descendants::tagged(&tag), []);
    assert_eq!(tree.exited().await, Some(Exit::Signal("KILL".to_owned())));
}

#[tokio::test]
async fn flaw_22_what_outlives_its_program_is_ended_with_the_session() {
    let tag = tag();
    let script = "setsid sleep 300 & echo up; exit 7";
    let (tree, mut pipes) = Tree::on_pipes(&warden(), shell(script, &tag)).await.unwrap();
    until_lines(&mut pipes.stdout, 1).await;
    assert_eq!(tree.exited().await, Some(Exit::Code(7)), "told though its child holds the pipe");
    assert_eq!(descendants::tagged(&tag).len(), 1);
    assert_eq!(tree.end(Duration::from_secs(60)).await, Left::Nothing, "and politely, at once");
    assert_eq!(descendants::tagged(&tag), []);
}

#[tokio::test]
async fn case_10_the_death_of_the_runner_ends_the_tree() {
    let tag = tag();
    let (tree, mut pipes) = Tree::on_pipes(&warden(), shell(STUBBORN, &tag)).await.unwrap();
    until_lines(&mut pipes.stdout, 2).await;
    // The other end of its socket closes, as at the death of the runner.
    let closed =
        tree.socket.write(|fd| Ok(rustix::net::shutdown(fd, rustix::net::Shutdown::Both)?));
    closed.await.unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !descendants::tagged(&tag).is_empty() {
        assert!(std::time::Instant::now() < deadline, "it lives");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn case_10_what_a_killed_warden_leaves_is_found_by_its_tag() {
    let tag = tag();
    let (tree, mut pipes) = Tree::on_pipes(&warden(), shell(STUBBORN, &tag)).await.unwrap();
    until_lines(&mut pipes.stdout, 2).await;
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", tree.pid)).unwrap();
    let warden = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
    let warden = rustix::process::Pid::from_raw(warden).unwrap();
    rustix::process::kill_process(warden, rustix::process::Signal::KILL).unwrap();
    let mut left = tree.left.clone();
    assert_eq!(*left.wait_for(|left| *left != Left::Alive).await.unwrap(), Left::Nothing);
    assert_eq!(descendants::tagged(&tag), []);
}

#[tokio::test]
async fn a_program_that_is_not_there_is_refused_in_the_systems_words() {
    let mut run = shell("", &tag());
    run.argv = vec!["/nowhere/agent".into()];
    let error = Tree::on_pipes(&warden(), run).await.unwrap_err();
    assert_eq!(error.to_string(), "/nowhere/agent: No such file or directory");
}

#[tokio::test]
async fn a_program_has_the_directory_and_environment_it_was_given_and_no_more() {
    let tag = tag();
    let script = "pwd; env | cut -d= -f1 | sort | tr '\\n' ' '; echo; ls /proc/self/fd | wc -l";
    let (tree, mut pipes) = Tree::on_pipes(&warden(), shell(script, &tag)).await.unwrap();
    drop(pipes.stdin);
    let mut said = String::new();
    pipes.stdout.read_to_string(&mut said).await.unwrap();
    // What whoever started this test let be inherited, everything has.
    let count = ["-c", "ls /proc/self/fd | wc -l"];
    let usual = std::process::Command::new("/bin/sh").args(count).output().unwrap().stdout;
    let usual = String::from_utf8(usual).unwrap();
    assert_eq!(said, format!("/tmp\nPATH PWD SOJOURN_SESSION \n{usual}"));
    assert_eq!(tree.end(Duration::ZERO).await, Left::Nothing);
}
