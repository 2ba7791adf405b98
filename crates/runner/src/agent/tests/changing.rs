//! Modes that change by themselves, and files that an agent changes.

use std::path::Path;
use std::process::Command as Program;

use super::*;

#[tokio::test]
async fn a_mode_that_the_agent_changes_is_told_and_one_that_never_asks_put_back() {
    let house = Setup::new("mode plan").start().await;
    house.told.turns(1).await;
    let changed = |mode: &str| Event::Mode { mode: mode.to_owned(), by_agent: true };
    assert!(house.told.events().contains(&changed("plan")));
    house.say("m", "mode bypassPermissions").await;
    house.told.notice("bypass_refused").await;
    let back = async {
        while house.got("session/set_mode").len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("it is put back");
    let set = house.got("session/set_mode");
    assert_eq!(set[1]["params"]["modeId"], "default");
}

fn git(cwd: &Path, arguments: &[&str]) {
    let status = Program::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
        .args(arguments)
        .current_dir(cwd)
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "git {arguments:?}");
}

async fn diff(told: &Told, file: &str) -> (Vec<String>, String, bool) {
    told.until("a diff", |events| {
        events.iter().rev().find_map(|event| match event {
            Event::Diff { files, patch, truncated } if files.iter().any(|name| name == file) => {
                Some((files.clone(), patch.clone(), *truncated))
            }
            _ => None,
        })
    })
    .await
}

#[tokio::test]
async fn what_an_agent_changes_is_shown_and_what_was_so_before_is_not() {
    let mut setup = Setup::new("");
    setup.prompt = None;
    let cwd = setup.cwd.path().canonicalize().unwrap();
    fs::write(cwd.join("kept"), "one\n").unwrap();
    fs::write(cwd.join("dirty"), "committed\n").unwrap();
    git(&cwd, &["init", "-q"]);
    git(&cwd, &["add", "."]);
    git(&cwd, &["commit", "-qm", "x"]);
    fs::write(cwd.join("dirty"), "changed before\n").unwrap();
    fs::write(cwd.join("untracked"), "there before\n").unwrap();
    fs::write(cwd.join(".gitignore"), "ignored\n").unwrap();
    let house = setup.start().await;
    house.say("1", &format!("edit {} two", cwd.join("kept").display())).await;
    let (files, patch, truncated) = diff(&house.told, "kept").await;
    assert_eq!((files, truncated), (vec!["kept".to_owned()], false));
    assert!(patch.contains("-one\n+two\n"), "{patch}");
    house.say("2", &format!("edit {} new", cwd.join("fresh").display())).await;
    house.say("3", &format!("edit {} x", cwd.join("ignored").display())).await;
    let (files, patch, _) = diff(&house.told, "fresh").await;
    assert_eq!(files, ["fresh", "kept"]);
    assert!(patch.contains("+new\n") && !patch.contains("before"), "{patch}");
}

#[tokio::test]
async fn a_hostile_repository_runs_nothing() {
    let mut setup = Setup::new("");
    setup.prompt = None;
    let cwd = setup.cwd.path().canonicalize().unwrap();
    let marker = setup.state.path().join("ran");
    fs::write(cwd.join("a.txt"), "one\n").unwrap();
    fs::write(cwd.join(".gitattributes"), "* filter=evil diff=evil\n").unwrap();
    git(&cwd, &["init", "-q"]);
    git(&cwd, &["add", "."]);
    git(&cwd, &["commit", "-qm", "x"]);
    let run = format!("touch {}; cat", marker.display());
    for name in [
        "core.fsmonitor",
        "filter.evil.clean",
        "filter.evil.smudge",
        "diff.evil.textconv",
        "diff.evil.command",
        "diff.external",
        "core.pager",
        "core.sshCommand",
        "core.alternateRefsCommand",
    ] {
        git(&cwd, &["config", name, &run]);
    }
    for hook in ["post-index-change", "pre-commit", "fsmonitor-watchman"] {
        use std::os::unix::fs::PermissionsExt;
        let path = cwd.join(".git/hooks").join(hook);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{run}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let house = setup.start().await;
    house.say("1", &format!("edit {} two", cwd.join("a.txt").display())).await;
    let (_, patch, _) = diff(&house.told, "a.txt").await;
    assert!(patch.contains("-one\n+two\n"), "{patch}");
    assert!(!marker.exists(), "the repository ran a program");
    // The trap is a trap: git by itself runs it.
    let status = Program::new("git")
        .args(["diff"])
        .current_dir(&cwd)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(status.is_ok() && marker.exists(), "this test can fail");
}

#[tokio::test]
async fn a_large_diff_is_cut_and_says_so() {
    let mut setup = Setup::new("");
    setup.prompt = None;
    let cwd = setup.cwd.path().canonicalize().unwrap();
    git(&cwd, &["init", "-q"]);
    let house = setup.start().await;
    for n in 0..600 {
        fs::write(cwd.join(format!("{n:03}")), "x\n".repeat(200)).unwrap();
    }
    fs::write(cwd.join("huge"), "x".repeat(2 << 20)).unwrap();
    house.say("1", &format!("edit {} y", cwd.join("000").display())).await;
    let (files, patch, truncated) = diff(&house.told, "000").await;
    assert!(truncated && files.len() == 500, "{}", files.len());
    assert!(patch.len() <= 100 << 10 && patch.ends_with('\n'));
    assert!(!files.contains(&"huge".to_owned()));
}

#[tokio::test]
async fn where_there_is_no_repository_there_is_no_diff() {
    let mut setup = Setup::new("");
    setup.prompt = None;
    let cwd = setup.cwd.path().canonicalize().unwrap();
    let house = setup.start().await;
    house.say("1", &format!("edit {} y", cwd.join("a").display())).await;
    house.told.turns(1).await;
    house.say("2", "say 1").await;
    house.told.turns(2).await;
    assert!(!house.told.events().iter().any(|event| matches!(event, Event::Diff { .. })));
}
