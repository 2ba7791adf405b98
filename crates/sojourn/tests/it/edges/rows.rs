//! The edge cases: what is done, and what comes of it.
//!
//! `{90|2}` is 90 in a long run and 2 in a normal one. What a recipe prints, its lines joined by commas,
//! is its result.

/// One edge case.
pub(super) struct Row {
    /// Its number; the whole part is its section.
    pub(super) id: &'static str,
    /// What it is about, for people.
    pub(super) what: &'static str,
    /// What is run.
    pub(super) recipe: &'static str,
    /// What comes of it with OpenSSH's server.
    pub(super) sshd: &'static str,
    /// What comes of it here.
    pub(super) ours: &'static str,
    /// Why that is not the same.
    pub(super) why: &'static str,
}

const fn same(
    id: &'static str,
    what: &'static str,
    recipe: &'static str,
    result: &'static str,
) -> Row {
    Row { id, what, recipe, sshd: result, ours: result, why: "" }
}

/// All of them.
pub(super) const ROWS: &[Row] = &[
    // The client's end of input is a half-close.
    same(
        "1.1",
        "Input ends; the program runs on, prints and ends",
        "printf abc | ssh H 'cat >/dev/null; sleep {3|1}; echo late; exit 5'; status",
        "late, status 5",
    ),
    same(
        "1.2",
        "No input at all, and a long silence",
        "ssh H 'sleep {90|2}; echo x; exit 3' </dev/null; status",
        "x, status 3",
    ),
    same(
        "1.3",
        "The program ends before its input does",
        "start; sleep {3|1} | ssh H 'exit 4'; status",
        "status 4",
    ),
    same(
        "1.4",
        "`^D` on a terminal ends `cat`",
        r"printf 'hi\n\004' | ssh -tt H cat >out; status; grep -c hi out",
        "status 0, 2",
    ),
    same(
        "1.5",
        "The end of input on a terminal does not hang it up",
        "timeout {6|2} ssh -tt H cat </dev/null; status",
        "status 124",
    ),
    // Output, its end, the exit status, the close: in this order, once.
    same(
        "2.1",
        "Much output, then a status",
        "ssh H 'head -c {200000000|10000000} /dev/zero; exit 9' | wc -c; echo ${PIPESTATUS[0]}",
        "{200000000|10000000}, 9",
    ),
    same(
        "2.2",
        "The same to a reader that begins late",
        "ssh H 'head -c {200000000|10000000} /dev/zero; exit 9' | (sleep {5|1}; wc -c); echo ${PIPESTATUS[0]}",
        "{200000000|10000000}, 9",
    ),
    same(
        "2.3",
        "A line and a status, {500|10} times",
        "for i in $(seq {500|10}); do ssh H 'echo running; exit 3'; status; done | sort | uniq -c | sed 's/^ *//'",
        "{500|10} running, {500|10} status 3",
    ),
    same(
        "2.4",
        "A child in the background holds the output open",
        "start; ssh H 'sleep {4|2} & echo p; exit 8'; status; waited {40|20}",
        "p, status 8, waited",
    ),
    same(
        "2.5",
        "The program closes its output and runs on",
        "start; ssh H 'exec >&- 2>&-; sleep {2|1}; exit 6'; status; waited {20|10}",
        "status 6, waited",
    ),
    // Backpressure, both ways, a channel at a time.
    same(
        "3.1",
        "Much there and back",
        "head -c {300000000|20000000} /dev/zero | ssh H cat | wc -c",
        "{300000000|20000000}",
    ),
    same(
        "3.2",
        "A reader that stalls holds up nobody else on its connection",
        "master; ssh -S ctl H yes | sleep 60 &\nsleep 1; timeout 12 ssh -S ctl H 'echo alive'; status; unmaster",
        "alive, status 0",
    ),
    same(
        "3.3",
        "Nor does a program that ignores 100 MB of input",
        "master; head -c 100000000 /dev/zero | ssh -S ctl H 'sleep 22' &\n\
         sleep 1; timeout 12 ssh -S ctl H 'echo alive'; status; unmaster",
        "alive, status 0",
    ),
    same(
        "3.4",
        "A terminal that floods can be interrupted",
        r"(echo yes; sleep 1; printf '\003'; sleep 1; echo 'echo $((6*7)); exit 5') | ssh -tt H 'bash --norc' >out; status; grep -ac $'42\r$' out",
        "status 5, 1",
    ),
    // Data that comes before there is somebody to take it.
    same(
        "4.1",
        "A command, its input and the end of it at once",
        "seq 100000 >in; ssh H 'cat; exit 2' <in >out; status; cmp in out && echo same",
        "status 2, same",
    ),
    same(
        "4.2",
        "`tar` into a fresh session",
        "mkdir d; seq 50000 >d/a; tar c d | ssh H 'rm -rf d; tar x && cksum <d/a' >out; status; cksum <d/a | cmp - out && echo same",
        "status 0, same",
    ),
    same(
        "4.3",
        "`rsync -a` into a fresh session, and back on the same connection",
        "master; mkdir d; seq 50000 >d/a; ln -s a d/b; rsync -a -e 'ssh -S ctl' d/ H:x-$$/; status\n\
         rsync -a -e 'ssh -S ctl' H:x-$$/ e/; status; diff -r d e && readlink e/b; ssh -S ctl H \"rm -r x-$$\"; unmaster",
        "status 0, status 0, a",
    ),
    same(
        "4.4",
        "`git push` of 4 MB, and a clone",
        "master; export GIT_SSH_COMMAND='ssh -S '$PWD/ctl GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null\n\
         ssh -S ctl H \"git init -q --bare r-$$\"; git init -q w; cd w; head -c 4000000 /dev/urandom >f; git add f\n\
         git -c user.name=a -c user.email=a@b commit -qm one; git push -q H:r-$$ HEAD:refs/heads/main; status\n\
         git clone -q -b main H:r-$$ ../c; status; cmp f ../c/f && echo same; cd ..; ssh -S ctl H \"rm -rf r-$$\"; unmaster",
        "status 0, status 0, same",
    ),
    same(
        "4.5",
        "Typed before the shell is there",
        r"printf 'echo $((6*7)); exit 3\n' | ssh -tt H >out; status; grep -ac $'42\r$' out",
        "status 3, 1",
    ),
    // Streams apart and binary-clean without a terminal; together, with CR LF, on one.
    same("5.1", "Output and errors apart", "ssh H 'echo o; echo e >&2' 1>o 2>e; cat o e", "o, e"),
    same(
        "5.2",
        "Together on a terminal",
        "ssh -tt H 'echo o; echo e >&2' 2>err | cat -A; grep -v '^Shared\\|^Connection' err",
        "o^M$, e^M$",
    ),
    same(
        "5.3",
        "{30|2} MB of noise, unharmed",
        "ssh H 'head -c {30000000|2000000} /dev/urandom | tee >(sha256sum >&2)' 2>e | sha256sum >o; cmp o e && echo same",
        "same",
    ),
    same(
        "5.4",
        "Nothing of the server's on standard output or error",
        "ssh H true 2>&1 | wc -c; ssh -tt H true 2>/dev/null | wc -c",
        "0, 0",
    ),
    // Death and signals.
    same(
        "6.1",
        "Killed by a signal",
        "ssh -o LogLevel=DEBUG1 H 'kill -TERM $$' 2>err; status; grep -o 'rtype exit-signal' err",
        "status 255, rtype exit-signal",
    ),
    same(
        "6.2",
        "`exit 143` is not a signal",
        "ssh -o LogLevel=DEBUG1 H 'exit 143' 2>err; status; grep -o 'rtype exit-s[a-z]*' err",
        "status 143, rtype exit-status",
    ),
    same(
        "6.3",
        "The client is killed: a program on a terminal gets HUP",
        "ssh -tt H \"trap '' TERM; trap 'exec -a hupped-$$ sleep 2' HUP; exec -a waits-$$ sleep 99 & wait\" >/dev/null 2>&1 &\n\
         within 50 pgrep -f ^waits-$$ >/dev/null; kill -9 $!; within 50 pgrep -f ^hupped-$$",
        "yes",
    ),
    Row {
        id: "6.4",
        what: "The client is killed: a program without one",
        recipe: "ssh H \"exec -a stays-$$ sleep 99\" >/dev/null 2>&1 &\n\
                 within 50 pgrep -f ^stays-$$ >/dev/null; kill -9 $!; gone() { ! pgrep -f ^stays-$$; }; within 30 gone",
        sshd: "no",
        ours: "yes",
        why: "the sandbox goes with its session; nothing runs on in nobody's name",
    },
    same(
        "6.5",
        "Signals that the client sends",
        "/usr/bin/python3 $CLIENTS/signals.py TERM INT USR1 HUP",
        "TERM INT USR1 HUP, status 9",
    ),
    same(
        "6.6",
        "A program that is not there",
        "ssh H no-such-program >out 2>err; status; wc -c <out; grep -c 'not found' err",
        "status 127, 0, 1",
    ),
    // Many channels, many connections.
    Row {
        id: "7.1",
        what: "Twelve commands at once on one connection: statuses that are wrong, commands refused",
        recipe: "master; for i in $(seq 12); do (ssh -S ctl H \"sleep {2|1}; exit $i\"; [ $? = $i ] || echo wrong >>bad) 2>>err & done; \
                 wait $(jobs -p); touch bad; wc -l <bad; grep -c refused err; unmaster",
        sshd: "0, 2",
        ours: "0, 0",
        why: "a session takes 64 channels; what `MaxSessions 10` refuses comes again as a connection of its own, which here would be another sandbox",
    },
    same(
        "7.2",
        "{1000|40} commands after one another on one connection: statuses that are wrong",
        "master; for i in $(seq {1000|40}); do ssh -S ctl H \"exit $((i % 100))\"; [ $? = $((i % 100)) ] || echo wrong; done | wc -l; unmaster",
        "0",
    ),
    same(
        "7.3",
        "One of two is killed, the other goes on",
        "master; ssh -S ctl H 'sleep 2; echo other' >out & other=$!\n\
         ssh -S ctl H 'sleep 99' & sleep 0.5; kill -9 $!; wait $other; status; cat out; unmaster",
        "status 0, other",
    ),
    Row {
        id: "7.4",
        what: "Two connections and one file",
        recipe: "ssh H \"echo mine >f-$$\"; ssh H \"cat f-$$; rm -f f-$$\" 2>/dev/null; echo .",
        sshd: "mine, .",
        ours: ".",
        why: "each connection has a sandbox of its own (`share = \"user\"`: one for all of a user's)",
    },
    // New keys in mid-stream.
    same(
        "8.1",
        "New keys every 1 MB, {30|4} MB there and back",
        "head -c {30000000|4000000} /dev/urandom >in; ssh -o RekeyLimit=1M H cat <in | cmp - in && echo same",
        "same",
    ),
    same(
        "8.2",
        "New keys every {2|1} s",
        "ssh -o 'RekeyLimit=default {2|1}s' H 'for i in 1 2 3; do sleep {1.5|0.8}; echo $i; done'; status",
        "1, 2, 3, status 0",
    ),
    same(
        "8.3",
        "The end of input just where keys change ({33|5} sizes around 1 MB)",
        "for d in $(seq {-16|-2} {16|2}); do n=$((1048576 + d * 4096)); head -c $n /dev/zero | ssh -o RekeyLimit=1M H wc -c | grep -qx $n || echo $n; done; echo all",
        "all",
    ),
    same(
        "8.4",
        "New keys every 1 MB with a terminal that floods and one that is idle",
        "master -o RekeyLimit=1M; ssh -S ctl H 'head -c {20000000|4000000} /dev/zero' | wc -c; ssh -S ctl H 'echo alive'; unmaster",
        "{20000000|4000000}, alive",
    ),
    Row {
        id: "8.5",
        what: "A client that goes on sending data after it has asked for new keys (asyncssh 2.10), which RFC 4253 section 7.1 forbids",
        recipe: "/usr/bin/python3 -W ignore $CLIENTS/asyncssh_rekey.py 2>/dev/null || echo cut",
        sshd: "same",
        ours: "cut",
        why: "the SSH library ends such a connection; asyncssh 2.15 and newer keep to the rule",
    },
    // The terminal: its size, its modes, the environment.
    same(
        "9.1",
        "The terminal's size",
        "script -qec \"stty rows 33 cols 101; ssh -tt H 'stty size'\" /dev/null </dev/null | grep -ao '[0-9]* [0-9]*'",
        "33 101",
    ),
    same(
        "9.2",
        "A terminal of nothing: 0 × 0",
        "ssh -tt H 'stty size' </dev/null 2>/dev/null | tr -d '\\r'",
        "0 0",
    ),
    same(
        "9.3",
        "`LANG`, another variable and `TERM` without a terminal",
        "LANG=C.UTF-8 FOO=x ssh -o SendEnv='LANG FOO' H 'echo $LANG,$FOO,$TERM,$LD_PRELOAD'",
        "C.UTF-8,,dumb,",
    ),
    same(
        "9.4",
        "`TERM` with one",
        "TERM=vt220 ssh -tt H 'echo $TERM' 2>/dev/null | tr -d '\\r'",
        "vt220",
    ),
    same(
        "9.5",
        "Modes come along: no echo",
        "script -qec \"stty -echo; ssh -tt H 'stty -a'\" /dev/null </dev/null | tr ' ;' '\\n\\n' | grep -x -- '-\\?echo'",
        "-echo",
    ),
    Row {
        id: "9.6",
        what: "A variable that is not accepted, and a client that asks for an answer",
        recipe: "/usr/bin/python3 $CLIENTS/environment.py LANG FOO",
        sshd: "LANG yes, FOO no",
        ours: "LANG yes, FOO yes",
        why: "the profile's `accept_env` is applied when the program starts; the variable does not reach it",
    },
    same(
        "9.7",
        "{1000|100} changes of the terminal's size, and the last one counts",
        "/usr/bin/python3 $CLIENTS/resizes.py {1000|100}",
        "44 99",
    ),
    same(
        "9.8",
        "A program that lets go of its terminal and runs on",
        "ssh -tt H 'exec 0<&- >&- 2>&-; sleep 0.5; exit 6'; status",
        "status 6",
    ),
    Row {
        id: "9.9",
        what: "`~NAME` of the name one signed in with",
        recipe: "ssh H 'cd; [ ~alice = \"$PWD\" ] && echo known || echo unknown'",
        sshd: "known",
        ours: "unknown",
        why: "inside everybody is root, at home in `/root`; names of people are the gateway's",
    },
    // Files.
    same(
        "10.1",
        "`sftp -b`: put, get, rename, links, modes, a listing",
        r#"seq 300000 >in; R=d-$$
        printf "%s\n" "mkdir $R" "put in $R/a" "chmod 640 $R/a" "rename $R/a $R/b" "ln -s b $R/l" \
            "ln $R/b $R/h" "get $R/l out" "ls -l $R" "rm $R/h" "rm $R/l" "rm $R/b" "rmdir $R" |
            sftp -b - H >ls; status; cmp in out && echo same; grep -o '^-rw-r-----\|^lrwxrwxrwx' ls"#,
        "status 0, same, -rw-r-----, -rw-r-----, lrwxrwxrwx",
    ),
    same(
        "10.2",
        "A tree there and back with `scp -rp`",
        r#"mkdir -p t/sub/empty; seq 30000 >t/one; seq 5 >'t/sub/two words'; : >t/sub/nothing
        chmod 751 t/one; touch -d @1580702706 t/one; R=d-$$; master
        scp -o ControlPath=ctl -rpq t H:$R && scp -o ControlPath=ctl -rpq H:$R back; status
        diff -r t back && stat -c '%a %Y' back/one; ssh -S ctl H rm -r $R; unmaster"#,
        "status 0, 751 1580702706",
    ),
    same(
        "10.3",
        "The same with `scp -O`",
        r#"mkdir -p t/sub/empty; seq 30000 >t/one; seq 5 >'t/sub/two words'; : >t/sub/nothing
        chmod 751 t/one; touch -d @1580702706 t/one; R=d-$$; master
        scp -O -o ControlPath=ctl -rpq t H:$R && scp -O -o ControlPath=ctl -rpq H:$R back; status
        diff -r t back && stat -c '%a %Y' back/one; ssh -S ctl H rm -r $R; unmaster"#,
        "status 0, 751 1580702706",
    ),
    same(
        "10.4",
        "A copy that was cut is taken up again, both ways",
        r#"seq 300000 >in; head -c 1000000 in >half; head -c 500000 in >out; R=f-$$
        printf "%s\n" "put half $R" "reput in $R" "reget $R out" "rm $R" | sftp -q -b - H >/dev/null
        status; cmp in out && echo same"#,
        "status 0, same",
    ),
    same(
        "10.5",
        "{300|20} MB of noise with `scp` and `scp -O`, there and back",
        r#"head -c {300|20}M /dev/urandom >in; R=f-$$; master
        for p in -s -O; do scp $p -o ControlPath=ctl -q in H:$R && scp $p -o ControlPath=ctl -q H:$R out
        cmp in out && echo same; done; ssh -S ctl H rm $R; unmaster"#,
        "same, same",
    ),
    same(
        "10.6",
        "`scp` of a file that is not there, by either protocol",
        r#"for p in -s -O; do scp $p H:nowhere/x . 2>err; status; grep -c 'No such file' err; done"#,
        "status 1, 1, status 1, 1",
    ),
    same(
        "10.7",
        "Patterns, blanks and `~` with `scp -O`",
        r#"R=d-$$; master; ssh -S ctl H "mkdir $R; cd $R; echo 1 >a.txt; echo 2 >'b c.txt'; echo 3 >.h.txt"
        mkdir got; scp -O -q -o ControlPath=ctl "H:~/$R/*.txt" got; status; ls got
        scp -O -q -o ControlPath=ctl "H:$R/b\ c.txt" got/d; cat got/d; ssh -S ctl H rm -r $R; unmaster"#,
        "status 0, a.txt, b c.txt, 2",
    ),
    same(
        "10.8",
        "A file that is to lie elsewhere, to `scp -t`",
        r#"R=d-$$; printf 'C0644 2 ../x\nhi\0' | ssh H "mkdir -p $R; exec scp -t $R" | tr -d '\0\1'
        printf 'C0644 2 ../x\nhi\0' | ssh H "scp -t ." | tr -d '\0\1'; ssh H "rmdir $R" 2>/dev/null; echo ."#,
        "scp: error: unexpected filename: ../x, scp: error: unexpected filename: ../x, .",
    ),
    same(
        "10.9",
        "Names that are not UTF-8",
        r#"f=$(printf 'a\377b'); mkdir t; seq 9 >"t/$f"; R=d-$$; master
        for p in -s -O; do scp $p -rq -o ControlPath=ctl t H:$R && scp $p -rq -o ControlPath=ctl H:$R back
        cmp "t/$f" "back/$f" && echo same; rm -r back; ssh -S ctl H rm -r $R; done; unmaster"#,
        "same, same",
    ),
    same(
        "10.10",
        "`curl sftp://`, there and back",
        r#"seq 300000 >in; R=f-$$; U=sftp://127.0.0.1:$PORT/~
        curl -sk --key $KEY --pubkey $KEY.pub -u $USER: -T in $U/$R -o /dev/null --next \
            -sk --key $KEY --pubkey $KEY.pub -u $USER: $U/$R -o out; status; cmp in out && echo same
        ssh H rm -f $R"#,
        "status 0, same",
    ),
    same(
        "10.11",
        "`rsync` of {2000|300} files, and again after changes",
        r#"mkdir t; for i in $(seq {2000|300}); do echo $i >t/$i; done; R=d-$$; master
        rsync -a -e 'ssh -S ctl' t/ H:$R/ && echo changed >t/7 && rm t/8
        rsync -a --delete -e 'ssh -S ctl' t/ H:$R/; status; rsync -a -e 'ssh -S ctl' H:$R/ back/
        diff -r t back && echo same; ssh -S ctl H rm -r $R; unmaster"#,
        "status 0, same",
    ),
    same(
        "10.12",
        "Paramiko: random access, a list, what is not there",
        "/usr/bin/python3 $CLIENTS/paramiko_files.py",
        "whole True, parts True, names ['a', 'b'], missing 2, size 300000",
    ),
    same(
        "10.13",
        "Paramiko: 200 small files at once on one connection",
        "/usr/bin/python3 $CLIENTS/paramiko_files.py many",
        "many True",
    ),
    same(
        "10.14",
        "`sftp -b`: a command that fails ends it, unless it is marked",
        "printf -- '-rm none\\nmkdir d-%s\\nrmdir d-%s\\nrm none\\npwd\\n' $$ $$ | sftp -q -b - H >out 2>err; status; grep -c 'rmdir d-' out; grep -c '^Remote' out",
        "status 1, 1, 0",
    ),
    same(
        "10.15",
        "A subsystem that is not there",
        "ssh -s H nonesuch 2>err; status; grep -c 'subsystem request failed' err",
        "status 255, 1",
    ),
    // Forwarded connections; the profile allows them.
    same(
        "11.1",
        "`-W` to where nobody listens",
        "ssh -o LogLevel=INFO -W 127.0.0.1:1 H </dev/null 2>err; status; grep -o 'open failed.*' err",
        "status 255, open failed: connect failed: Connection refused",
    ),
    // Time, and what counts as activity: here with 5 s for a session, 3 s for idleness, 2 s of grace.
    Row {
        id: "12.1",
        what: "A terminal at its limit",
        recipe: "timeout -s KILL 8 ssh -tt H 'while sleep 0.5; do echo; done' >out 2>err; status; tr -d '\\r' <out | grep '^S'",
        sshd: "status 137",
        ours: "status 124, Session ends in 2 s, Session timeout - connection closed",
        why: "`sshd` knows no limit for a session (nor in 12.2 to 12.5)",
    },
    Row {
        id: "12.2",
        what: "A command at its limit",
        recipe: "timeout -s KILL 8 ssh H 'sleep 99' >out 2>err; status; tr -d '\\r' <err | grep '^Session timeout'; wc -c <out",
        sshd: "status 137, 0",
        ours: "status 124, Session timeout - connection closed, 0",
        why: "on standard error, so that standard output stays the program's",
    },
    Row {
        id: "12.3",
        what: "A client that has stopped reading, at the limit and its grace: is the program gone?",
        recipe: "ssh H \"exec -a stalled-$$ yes\" 2>/dev/null | sleep 99 &\n\
                 within 50 pgrep -f ^stalled-$$ >/dev/null; gone() { ! pgrep -f ^stalled-$$; }; within 85 gone",
        sshd: "no",
        ours: "yes",
        why: "",
    },
    Row {
        id: "12.4",
        what: "Keepalives of the client are no activity",
        recipe: "timeout -s KILL 8 ssh -o ServerAliveInterval=1 -tt H </dev/null >out 2>err; status; grep -ao 'Session idle timeout (3 s)' out",
        sshd: "status 137",
        ours: "status 124, Session idle timeout (3 s)",
        why: "",
    },
    Row {
        id: "12.5",
        what: "A shared connection at its limit: what is left of it",
        recipe: "master; timeout -s KILL 9 ssh -S ctl H 'sleep 99' 2>/dev/null; status; over() { ! ssh -S ctl -O check H; }; within 40 over; unmaster; true",
        sshd: "status 137, no",
        ours: "status 124, yes",
        why: "a connection is one session; what comes next is a new one",
    },
    same(
        "12.6",
        "Signed in, and nothing asked for: there is no session and so no limit",
        "timeout -s KILL 7 ssh -N H; status",
        "status 137",
    ),
    // Forwards and the key agent, as they are without configuration.
    Row {
        id: "13.1",
        what: "`-L`: the first connection through it",
        recipe: "port=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind((\"127.0.0.1\", 0)); print(s.getsockname()[1])')\n\
                 ssh -N -L $port:127.0.0.1:$PORT H 2>err & within 100 grep -q $(printf ':%04X ' $port) /proc/net/tcp\n\
                 (exec 3<>/dev/tcp/127.0.0.1/$port; timeout 5 head -c 7 <&3) 2>/dev/null; echo; kill %1",
        sshd: "yes, SSH-2.0",
        ours: "yes",
        why: "off unless the profile's `forward` has `local`, and then made inside the sandbox",
    },
    Row {
        id: "13.2",
        what: "`-R`",
        recipe: "ssh -o ExitOnForwardFailure=yes -R 0:127.0.0.1:1 H true 2>/dev/null; status",
        sshd: "status 0",
        ours: "status 255",
        why: "off unless the profile's `forward` has `remote`",
    },
    Row {
        id: "13.3",
        what: "`-A`",
        recipe: "eval $(ssh-agent) >/dev/null; ssh -A H 'test -S \"$SSH_AUTH_SOCK\"'; status; ssh-agent -k >/dev/null",
        sshd: "status 0",
        ours: "status 1",
        why: "off unless the profile's `forward` has `agent`",
    },
];
