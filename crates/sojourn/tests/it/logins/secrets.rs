//! L-57 over everything at once: a day of a gateway with every kind of secret in it, and a search for
//! each of them in all that it keeps and says.

use data_encoding::BASE32_NOPAD;
use sojourn_testkit::Ask;

use super::factors::Factor;
use super::factors::halfway;
use super::*;

/// The lines of private keys below `keys/`, which belong there and nowhere else.
fn private_lines(gateway: &Gateway) -> Vec<String> {
    let files = crate::files_below(&gateway.data().join("keys"));
    assert!(files.len() >= 3, "host keys and others: {files:?}");
    let texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    let lines = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    // Public halves and fingerprints are nobody's secret.
    lines
        .filter(|line| line.len() >= 40 && !line.starts_with("---"))
        .filter(|line| !line.starts_with("ssh-") && !line.starts_with("ecdsa-"))
        .collect()
}

#[test]
fn l_57_a_day_with_every_kind_of_secret_leaves_none_of_them() {
    // Whatever it says when it says everything.
    let options = Options { level: "trace".to_owned(), ..Options::default() };
    let Some(mut gateway) = house_with(options) else { return };
    let mut secrets = vec![PASSWORD.to_owned(), ADMINS.to_owned()];

    // A login, its page's token, and a second factor with what belongs to it.
    let mut browser = bob(&gateway);
    let mut remember = |browser: &Browser| {
        secrets.extend(browser.token().map(str::to_owned));
        secrets.extend(browser.csrf.clone());
        secrets.extend(browser.jar.get("sojourn-dev").map(str::to_owned));
        secrets.extend(browser.jar.get("sojourn-pre").map(str::to_owned));
    };
    remember(&browser);
    let factor = Factor::of(&gateway, &mut browser);
    remember(&browser);
    let mut second = halfway(&gateway);
    remember(&second);
    second.prove("/api/auth/login/totp", &factor.now(&gateway)).expect(200);
    remember(&second);
    let mut third = halfway(&gateway);
    let recovery = serde_json::json!({"code": factor.recovery[0]});
    third.prove("/api/auth/login/recovery", &recovery).expect(200);
    remember(&third);

    // Tokens of programs and runners, a one-time link, the answer to a repeated request.
    let mut admin = carol(&gateway);
    let link = admin.post("/api/users/bob/reset", &json!({})).expect(200);
    let tokens = [
        gateway.cli(&["token", "create", "--user", "bob", "--scope", "read"]),
        gateway.cli(&["token", "create", "--runner", "laptop", "--owner", "bob"]),
        link["token"].as_str().expect("a token").to_owned(),
    ];
    secrets.extend(tokens.iter().map(|token| token.trim().to_owned()));
    secrets.push(factor.secret.clone());
    secrets.extend(factor.recovery.clone());

    // Passwords at the SSH door: right, wrong, and typed inside where the terminal does not echo.
    let wrong = "no one may read this guess 77";
    let typed = "typed at a prompt inside 5512";
    for guess in [wrong, PASSWORD] {
        let ssh = gateway.client(gateway.port, "bob").passwords(&[guess]);
        let _refused = ssh.with("-oNumberOfPasswordPrompts=1").run("true");
    }
    let ask = "stty -echo; printf 'Password: '; read -r p; stty echo; echo; echo got ${#p}";
    let mut shell = gateway.alice().with("-tt").start(&[ask]);
    shell.expect("Password: ");
    shell.write(format!("{typed}\n").as_bytes());
    shell.expect(&format!("got {}", typed.len()));
    shell.finish(sojourn_testkit::PATIENCE);
    secrets.extend([wrong.to_owned(), typed.to_owned()]);

    // Bad requests with secrets in them: what is said of an error is a place for them, too.
    let mut said = Vec::new();
    for body in [json!({"username": "bob", "password": [wrong]}), json!({"password": PASSWORD})] {
        said.extend(gateway.browser().post("/api/auth/login", &body).text().into_bytes());
    }
    let asked = Ask::new("GET", &format!("/api/sessions?cursor={}", tokens[0].trim()));
    said.extend(browser.send(&asked).text().into_bytes());
    let (_, out, err) = gateway.try_cli(&["token", "revoke", tokens[0].trim()], "");
    // What the caller typed is theirs to see again; what they did not is not.
    said.extend(format!("{out}{err}").replace(tokens[0].trim(), "").into_bytes());
    said.extend(admin.get("/metrics").text().into_bytes());
    said.extend(gateway.cli(&["config", "show"]).into_bytes());

    secrets.extend(private_lines(&gateway));
    // As bytes, secrets of authenticators are something else than as text.
    let raw = BASE32_NOPAD.decode(factor.secret.as_bytes()).expect("base 32");
    let raw: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
    secrets.push(raw);
    // Beside the database while it is open: what is not written into it yet.
    let mut kept = everything_kept(&gateway);
    kept.retain(|(name, _)| name.contains("sojourn.db"));
    assert!(kept.len() > 1, "a log ahead of the database");
    gateway.stop();
    kept.extend(everything_kept(&gateway));
    kept.push(("answers".to_owned(), said));
    kept.retain(|(name, _)| !name.contains("/data/keys/"));
    for kind in [".cast", ".json", ".jsonl", "sojourn.db"] {
        assert!(kept.iter().any(|(name, _)| name.ends_with(kind)), "no {kind} was looked at");
    }
    secrets.retain(|secret| secret.len() > 8);
    assert!(secrets.len() > 25, "{}", secrets.len());
    for secret in &secrets {
        assert_eq!(found_in(&kept, secret), Vec::<String>::new(), "{secret}");
    }
    assert!(!found_in(&kept, "login_succeeded").is_empty(), "it looks where things are kept");
}
