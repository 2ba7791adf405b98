//! What is laid over a root file system, and the server that the built-in profile `bait` seems to be.

use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::Scratch;
use sojourn_testkit::can_make_sandboxes;

use crate::gateway;

/// A gateway where alice may have the profile of honeypots.
fn baited() -> Gateway {
    let more = "[profiles.bait]\nallow = [\"user:alice\"]\npool = 1\n".to_owned();
    gateway(&Options { more, ..Options::default() })
}

#[test]
fn bait_looks_like_a_server_that_people_use() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = baited();
    let mut shell = gateway.alice().user("alice+bait").with("-tt").start(&[]);
    shell.expect("shop front end");
    shell.expect("root@web01:~# ");
    shell.write(b"exit\n");
    let ssh = gateway.alice().user("alice+bait");
    let told = ssh.run(
        "hostname; grep -c web01 /etc/hosts; id -un webadmin; stat -c '%U:%G %a %n' /home/webadmin/todo.txt \
         /root/.my.cnf /etc/shadow /var/www/shop/config.php; test -s /root/.bash_history && echo history; \
         find /etc/passwd /root /home /var/www -newermt '-1 hour' | wc -l; \
         find /etc/passwd -newermt '-2 years' | wc -l; echo more >>/root/.bash_history && echo written",
    );
    assert_eq!(
        told.text(),
        "web01\n1\nwebadmin\nwebadmin:webadmin 644 /home/webadmin/todo.txt\nroot:root 600 /root/.my.cnf\n\
         root:shadow 640 /etc/shadow\nwww-data:www-data 640 /var/www/shop/config.php\nhistory\n\
         0\n1\nwritten\n",
        "{}",
        told.err
    );
    assert_eq!(ssh.run("tail -n 1 /root/.bash_history").text(), "exit\n", "each has its own");
}

#[test]
fn nothing_that_a_guest_sees_names_the_gateway() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = baited();
    let ssh = gateway.alice().user("alice+bait");
    let seen = ssh.run(
        "cat /proc/self/mountinfo /proc/self/cgroup /proc/1/cmdline /proc/1/comm /proc/1/environ \
         /proc/mounts 2>/dev/null; cat /proc/[0-9]*/comm; hostname; uname -a; ls -aR /etc /root /home \
         /var /opt /srv /tmp /run /dev /mnt /media 2>/dev/null; \
         grep -rI '' /etc /root /home /var 2>/dev/null",
    );
    let text = seen.text().to_lowercase();
    assert!(text.contains("config.php") && text.contains("overlay"), "{text}");
    let data = gateway.data();
    for word in ["sojourn", "honeypot", "images/", data.to_str().unwrap()] {
        let line = text.lines().find(|line| line.contains(word));
        assert_eq!(line, None, "{word:?} is seen");
    }
}

#[test]
fn a_directory_is_laid_over_for_everybody_and_changed_by_nobody() {
    if !can_make_sandboxes() {
        return;
    }
    let over = Scratch::new();
    std::fs::create_dir_all(over.path().join("opt/tool")).unwrap();
    std::fs::create_dir_all(over.path().join("usr/bin")).unwrap();
    over.file("opt/tool/run", "#!/bin/sh\necho runs\n");
    over.file("usr/bin/hidden", "");
    let more = format!("[profiles.tooled]\noverlay = {:?}\npool = 1\n", over.path());
    let gateway = gateway(&Options { more, ..Options::default() });
    gateway.wait_for_log("what is hidden", |line| {
        line["message"].as_str().is_some_and(|text| text.contains("usr in it is not seen"))
    });
    let ssh = gateway.alice().user("alice+tooled");
    let told = ssh.run("sh /opt/tool/run; ls /usr/bin/hidden; rm -r /opt/tool; ls /opt | wc -l");
    assert_eq!(told.text(), "runs\n0\n", "{}", told.err);
    assert!(told.err.contains("/usr/bin/hidden"), "{}", told.err);
    assert_eq!(ssh.run("sh /opt/tool/run").text(), "runs\n");
    assert!(over.path().join("opt/tool/run").exists());
}
