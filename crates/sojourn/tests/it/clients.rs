//! Clients as people have them, each with what it does differently.

use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Peer;
use sojourn_testkit::can_make_sandboxes;

use crate::edges::CLIENTS;
use crate::gateway;

/// PuTTY's and Dropbear's clients, with keys of their own making.
const OTHERS: &str = r#"
puttygen $KEY -O private -o key.ppk
fingerprint=$(ssh-keyscan -p $PORT -t ed25519 127.0.0.1 2>/dev/null | ssh-keygen -lf - | awk '{print $2}')
putty() { local program=$1; shift; $program -batch -hostkey $fingerprint -P $PORT -i key.ppk "$@"; }
dropbearconvert openssh dropbear $KEY key.db 2>/dev/null
dropbear() { dbclient -y -y -p $PORT -i key.db "$@" 2> >(grep -v 'skipping hostkey\|^$' >&2); }
"#;

/// Runs a recipe and gives its lines.
#[track_caller]
fn lines(peer: &Peer, recipe: &str) -> Vec<String> {
    let output = peer.run(&format!("CLIENTS={CLIENTS}\n{recipe}"), PATIENCE);
    let lines: Vec<String> = output.text().lines().map(str::to_owned).collect();
    assert!(output.code == 0, "{}: {lines:#?}\n{}", output.code, output.err);
    lines
}

#[test]
fn putty() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let said = lines(
        &gateway.peer(),
        &format!(
            r#"{OTHERS}
            echo in | putty plink $USER@127.0.0.1 'cat; echo err >&2; exit 5' 2>err; status; cat err
            echo 'exit 4' | putty plink -t $USER@127.0.0.1 >/dev/null 2>&1; status
            seq 200000 >in; putty plink $USER@127.0.0.1 cat <in | cmp - in && echo same
            script -qec "stty rows 33 cols 101; $(declare -f putty); fingerprint=$fingerprint
                putty plink -t $USER@127.0.0.1 'stty size'" /dev/null </dev/null | grep -ao '33 101'
            putty plink $USER@127.0.0.1 -v 'kill -TERM $$' 2>&1 | grep -o 'signal "TERM"'
            "#
        ),
    );
    assert_eq!(said, ["in", "status 5", "err", "status 4", "same", "33 101", "signal \"TERM\""]);
}

#[test]
fn puttys_files() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let said = lines(
        &gateway.peer(),
        &format!(
            r#"{OTHERS}
            head -c 3000000 /dev/urandom >big
            printf 'mkdir d\nput big d/big\nget d/big back\nchmod 600 d/big\nmv d/big d/x\nls d\nrm d/x\nrmdir d\nls\n' >batch
            putty psftp -b batch $USER@127.0.0.1 2>/dev/null | grep -o -- '-rw-------.*x$\|rm /root/d/x: OK\|rmdir /root/d: OK' | sed 's/ .* x/ x/'
            cmp big back && echo same
            for protocol in -sftp -scp; do
                putty pscp $protocol -q big $USER@127.0.0.1:x 2>&1; status
                putty pscp $protocol -q $USER@127.0.0.1:/etc/hostname host 2>&1; wc -l <host
                putty pscp $protocol -q $USER@127.0.0.1:/not/there host >/dev/null 2>&1; status
            done
            "#
        ),
    );
    let each = ["status 0", "1", "status 1"];
    let listed = ["-rw------- x", "rm /root/d/x: OK", "rmdir /root/d: OK", "same"];
    assert_eq!(said, [&listed[..], &each, &each].concat());
}

#[test]
fn files_by_python() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    assert_eq!(
        lines(&gateway.peer(), "/usr/bin/python3 -W ignore $CLIENTS/python_files.py"),
        [
            "paramiko True True 3000003 0o640 1000000000 ['b', 'link'] a",
            "gone",
            "asyncssh 10 True True",
            "scp same 20"
        ]
    );
}

#[test]
fn dropbear() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let said = lines(
        &gateway.peer(),
        &format!(
            r#"{OTHERS}
            echo in | dropbear $USER@127.0.0.1 'cat; echo err >&2; exit 5' 2>err; status; cat err
            seq 200000 >in; dropbear $USER@127.0.0.1 cat <in | cmp - in && echo same
            script -qec "stty rows 33 cols 101; dbclient -y -y -t -p $PORT -i key.db $USER@127.0.0.1 'stty size'" \
                /dev/null 2>/dev/null | grep -ao '33 101'
            tar c in | dropbear $USER@127.0.0.1 'tar x; cksum <in' >out; cksum <in | cmp - out && echo same
            "#
        ),
    );
    assert_eq!(said, ["in", "status 5", "err", "same", "33 101", "same"]);
}

#[test]
fn paramiko_and_asyncssh() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let peer = gateway.peer();
    assert_eq!(
        lines(&peer, "/usr/bin/python3 $CLIENTS/paramiko_client.py"),
        ["exec in err 5", "shell True True 7", "closed True", "rekeyed True 0"]
    );
    assert_eq!(
        lines(&peer, "/usr/bin/python3 $CLIENTS/asyncssh_client.py"),
        ["exec in err 5", "together True", "terminal ['44', '99'] 0", "killed TERM"]
    );
}

#[test]
fn ansible() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let said = lines(
        &gateway.peer(),
        r#"
        echo "H ansible_host=127.0.0.1 ansible_port=$PORT ansible_user=$USER ansible_ssh_private_key_file=$KEY \
            ansible_python_interpreter=/usr/bin/python3" >hosts
        export ANSIBLE_HOST_KEY_CHECKING=False ANSIBLE_NOCOLOR=1 ANSIBLE_HOME=$PWD/home \
            ANSIBLE_LOCAL_TEMP=$PWD/temp ANSIBLE_SSH_CONTROL_PATH_DIR=$PWD/c ANSIBLE_PIPELINING=True
        ansible -i hosts -m ping all | grep -o pong
        ansible-playbook -i hosts $CLIENTS/playbook.yml >out; status
        grep -o 'ok=6 *changed=4 *unreachable=0 *failed=0' out | tr -s ' '
        done_with() { for socket in c/*; do ssh -S $socket -O exit H 2>/dev/null; done; true; }
        done_with
        export ANSIBLE_PIPELINING=False ANSIBLE_SSH_TRANSFER_METHOD=sftp
        ansible -i hosts -m ping all | grep -o pong; done_with
        "#,
    );
    assert_eq!(said, ["pong", "status 0", "ok=6 changed=4 unreachable=0 failed=0", "pong"]);
}

#[test]
fn rsync_takes_up_what_was_broken_off() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let said = lines(
        &gateway.peer(),
        r#"
        master; head -c 8000000 /dev/urandom >big
        rsync --partial --inplace --bwlimit=4m -e 'ssh -S ctl' big H:big 2>/dev/null & broken=$!
        half() { [ "$(ssh -S ctl H 'stat -c %s big 2>/dev/null || echo 0')" -gt 500000 ]; }
        within 50 half; kill $broken; wait $broken; echo $(( $? != 0 ))
        rsync --partial --inplace --no-whole-file --stats -e 'ssh -S ctl' big H:big >stats; status
        awk '/^Matched data/ { gsub(",", ""); print ($3 > 400000) }' stats
        ssh -S ctl H cat big | cmp - big && echo same; unmaster
        "#,
    );
    assert_eq!(said, ["yes", "1", "status 0", "1", "same"]);
}

#[test]
fn keys_of_every_kind_and_no_other() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let at = gateway.scratch().path();
    let kinds = [("rsa", "3072"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521")];
    for (kind, bits) in kinds {
        let key = at.join(format!("{kind}-{bits}"));
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", kind, "-b", bits, "-N", "", "-C", "", "-f"])
            .arg(&key)
            .status();
        assert!(made.unwrap().success());
        gateway.cli(&["user", "key", "add", "alice", key.with_extension("pub").to_str().unwrap()]);
    }
    let said = lines(
        &gateway.peer(),
        &format!(
            r#"
            for key in rsa-3072 ecdsa-256 ecdsa-384 ecdsa-521; do
                ssh -F none -i {at}/$key -p $PORT -o BatchMode=yes -o IdentitiesOnly=yes -o UserKnownHostsFile=known \
                    -o StrictHostKeyChecking=accept-new -o LogLevel=ERROR $USER@127.0.0.1 echo $key
            done
            ssh-keygen -q -t ed25519 -N '' -f stranger; ssh -o IdentitiesOnly=no -i stranger H echo known by another
            ssh -F none -i stranger -p $PORT -o BatchMode=yes -o IdentitiesOnly=yes -o UserKnownHostsFile=known \
                $USER@127.0.0.1 echo no; status
            ssh -F none -i {at}/rsa-3072 -p $PORT -o BatchMode=yes -o IdentitiesOnly=yes -o UserKnownHostsFile=known \
                -o PubkeyAcceptedAlgorithms=ssh-rsa $USER@127.0.0.1 echo no; status
            "#,
            at = at.display(),
        ),
    );
    assert_eq!(
        said,
        [
            "rsa-3072",
            "ecdsa-256",
            "ecdsa-384",
            "ecdsa-521",
            "known by another",
            "status 255",
            "status 255"
        ]
    );
}

#[test]
fn passwords() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let password = "correct horse battery";
    let (status, _, err) =
        gateway.try_cli(&["user", "add", "bob", "--password-stdin"], &format!("{password}\n"));
    assert!(status.success(), "{err}");
    let said = lines(
        &gateway.peer_as("bob"),
        &format!(
            r#"{OTHERS}
            printf '#!/bin/sh\necho "$ASKED"\n' >ask; chmod +x ask
            asked() {{ ASKED=$1 SSH_ASKPASS=$PWD/ask SSH_ASKPASS_REQUIRE=force ssh -o BatchMode=no -o PubkeyAuthentication=no \
                -o NumberOfPasswordPrompts=1 H "${{@:2}}"; }}
            asked '{password}' echo openssh; asked 'wrong password here' echo no; status
            plink -batch -hostkey $fingerprint -P $PORT -noagent -pw '{password}' bob@127.0.0.1 echo putty 2>/dev/null
            DROPBEAR_PASSWORD='{password}' dbclient -y -y -p $PORT bob@127.0.0.1 echo dropbear 2>/dev/null
            PASSWORD='{password}' /usr/bin/python3 $CLIENTS/password.py
            "#
        ),
    );
    assert_eq!(said, ["openssh", "status 255", "putty", "dropbear", "paramiko"]);
}

#[test]
fn what_is_agreed_on() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let said = lines(
        &gateway.peer(),
        r#"
        for cipher in chacha20-poly1305@openssh.com aes128-gcm@openssh.com aes256-gcm@openssh.com aes128-ctr aes256-ctr; do
            head -c 100000 /dev/zero | ssh -c $cipher H wc -c
        done | sort | uniq -c | tr -s ' '
        for mac in hmac-sha2-256-etm@openssh.com hmac-sha2-512-etm@openssh.com hmac-sha2-256 hmac-sha2-512; do
            head -c 100000 /dev/zero | ssh -c aes128-ctr -m $mac H wc -c
        done | sort | uniq -c | tr -s ' '
        for kex in curve25519-sha256 curve25519-sha256@libssh.org ecdh-sha2-nistp256 ecdh-sha2-nistp384 ecdh-sha2-nistp521; do
            ssh -o KexAlgorithms=$kex H echo kex
        done | uniq -c | tr -s ' '
        for old in Ciphers=aes128-cbc Ciphers=3des-cbc KexAlgorithms=diffie-hellman-group14-sha1 \
            KexAlgorithms=diffie-hellman-group-exchange-sha256 HostKeyAlgorithms=ssh-rsa; do
            ssh -o $old H echo old 2>/dev/null
        done
        ssh -c aes128-ctr -m hmac-sha1 H echo old 2>/dev/null
        for host in ssh-ed25519 ecdsa-sha2-nistp256; do
            ssh -o UserKnownHostsFile=$PWD/$host -o HostKeyAlgorithms=$host H echo $host
        done
        ssh -C -o LogLevel=DEBUG1 H true 2>&1 | grep -c 'compression: none'
        ssh-keygen -q -t ed25519 -N '' -f other
        echo "[127.0.0.1]:$PORT $(cat other.pub)" >known; ssh -o StrictHostKeyChecking=yes -o UserKnownHostsFile=$PWD/known H echo unseen 2>/dev/null; status
        "#,
    );
    assert_eq!(
        said,
        [
            " 5 100000",
            " 4 100000",
            " 5 kex",
            "ssh-ed25519",
            "ecdsa-sha2-nistp256",
            "2",
            "status 255"
        ]
    );
}
