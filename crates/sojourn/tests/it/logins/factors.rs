//! L-09, L-43 to L-45: the second factor and recovery codes.

use std::process::Stdio;
use std::sync::Barrier;

use sojourn_testkit::Ask;
use sojourn_testkit::Cookie;

use super::*;

/// The code for a secret in base 32 at a time, as RFC 6238 has it.
fn code(secret: &str, at: &str) -> String {
    const SCRIPT: &str = "
import base64, datetime, hashlib, hmac, struct, sys
secret, at = sys.argv[1:]
key = base64.b32decode(secret + '=' * (-len(secret) % 8))
when = datetime.datetime.fromisoformat(at.replace('Z', '+00:00')).timestamp()
mac = hmac.new(key, struct.pack('>Q', int(when) // 30), hashlib.sha1).digest()
at = mac[-1] & 15
print('%06d' % ((struct.unpack('>I', mac[at:at + 4])[0] & 0x7fffffff) % 1000000))
";
    let output = Command::new("python3")
        .args(["-c", SCRIPT, secret, at])
        .stderr(Stdio::inherit())
        .output()
        .expect("python3");
    let code = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_eq!(code.len(), 6);
    code
}

pub(super) struct Factor {
    pub(super) secret: String,
    pub(super) recovery: Vec<String>,
}

impl Factor {
    /// Gives bob a second factor; the clock is held.
    pub(super) fn of(gateway: &Gateway, browser: &mut Browser) -> Self {
        gateway.clock().hold();
        let begun = browser.post("/api/me/totp", &json!({})).expect(200);
        let secret = begun["secret"].as_str().expect("a secret").to_owned();
        let uri = begun["uri"].as_str().expect("an address");
        assert!(uri.starts_with("otpauth://totp/") && uri.contains(&secret), "{uri}");
        let me = browser.get("/api/me").expect(200);
        assert_eq!(me["second_factor"], false, "not before it is confirmed");
        browser.post("/api/me/totp", &json!({"code": "000000"})).refused(422, "INVALID");
        let code = code(&secret, &gateway.clock().now());
        let confirmed = browser.post("/api/me/totp", &json!({"code": code})).expect(200);
        let recovery = confirmed["recovery_codes"].as_array().expect("codes").clone();
        let recovery = recovery.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        gateway.clock().advance("30s");
        Self { secret, recovery }
    }

    pub(super) fn now(&self, gateway: &Gateway) -> Value {
        json!({"code": code(&self.secret, &gateway.clock().now())})
    }
}

/// A browser in which the password has been given.
pub(super) fn halfway(gateway: &Gateway) -> Browser {
    let mut browser = gateway.browser();
    let told = browser.sign_in("bob", PASSWORD).expect(200);
    assert_eq!(told, json!({"step": "totp"}));
    assert_eq!(browser.token(), None, "no login yet");
    browser
}

#[test]
fn l_09_what_is_there_before_a_sign_in_is_another_cookie_and_dead_after_it() {
    let Some(gateway) = house() else { return };
    let factor = Factor::of(&gateway, &mut bob(&gateway));
    let mut attacker = gateway.browser();
    let answer = attacker.sign_in("bob", PASSWORD);
    let cookie =
        answer.headers_of("set-cookie").map(Cookie::parse).find(|c| c.name == "sojourn-pre");
    let cookie = cookie.expect("a cookie of its own");
    assert_eq!(cookie.attributes.get("samesite").map(String::as_str), Some("Strict"));
    // The victim completes what the attacker began.
    let mut victim = attacker.copy();
    victim.prove("/api/auth/login/totp", &factor.now(&gateway)).expect(200);
    assert_eq!(victim.jar.get("sojourn-pre"), None, "it is taken away");
    assert_ne!(victim.token(), Some(cookie.value.as_str()));
    gateway.clock().advance("30s");
    attacker.prove("/api/auth/login/totp", &factor.now(&gateway)).refused(401, "LOGIN_REQUIRED");
    attacker.jar.put("sojourn", &cookie.value);
    attacker.get("/api/me").refused(401, "LOGIN_REQUIRED");
}

#[test]
fn l_43_a_code_is_good_once() {
    let Some(gateway) = house() else { return };
    let factor = Factor::of(&gateway, &mut bob(&gateway));
    let right = factor.now(&gateway);
    let mut halves: Vec<Browser> = (0..20).map(|_| halfway(&gateway)).collect();
    let barrier = Barrier::new(halves.len());
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let racing: Vec<_> = halves
            .iter_mut()
            .map(|browser| {
                let (barrier, right) = (&barrier, &right);
                scope.spawn(move || {
                    barrier.wait();
                    browser.prove("/api/auth/login/totp", right).status
                })
            })
            .collect();
        racing.into_iter().map(|racing| racing.join().expect("an answer")).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    // Those that came too late have failed, and that counts.
    gateway.clock().advance("2h");
    // The step before is good as well, but not after a newer one.
    let mut browser = halfway(&gateway);
    gateway.clock().advance("30s");
    let early = factor.now(&gateway);
    gateway.clock().advance("30s");
    browser.prove("/api/auth/login/totp", &early).expect(200);
    let mut browser = halfway(&gateway);
    let now = factor.now(&gateway);
    gateway.clock().advance("60s");
    browser.prove("/api/auth/login/totp", &now).refused(401, "INVALID_CREDENTIALS");
    browser.prove("/api/auth/login/totp", &factor.now(&gateway)).expect(200);
}

#[test]
fn l_44_few_tries_little_time_and_no_other_door() {
    let Some(gateway) = house() else { return };
    let factor = Factor::of(&gateway, &mut bob(&gateway));
    let wrong = json!({"code": "000000"});
    let mut browser = halfway(&gateway);
    for path in ["/api/me", "/api/me/logins", "/api/sessions", "/api/users", "/api/audit"] {
        browser.get(path).refused(401, "LOGIN_REQUIRED");
    }
    for _ in 0..5 {
        assert_eq!(browser.prove("/api/auth/login/totp", &wrong).status, 401);
    }
    let right = factor.now(&gateway);
    browser.prove("/api/auth/login/totp", &right).refused(401, "LOGIN_REQUIRED");
    let mut browser = halfway(&gateway);
    browser.prove("/api/auth/login/totp", &right).expect(200);

    let mut browser = halfway(&gateway);
    gateway.clock().advance("5m");
    browser.prove("/api/auth/login/totp", &factor.now(&gateway)).refused(401, "LOGIN_REQUIRED");
    let mut stranger = gateway.browser();
    stranger.prove("/api/auth/login/totp", &factor.now(&gateway)).refused(401, "LOGIN_REQUIRED");
}

#[test]
fn l_45_recovery_codes_are_good_once_and_kept_by_nobody_else() {
    let Some(gateway) = house() else { return };
    let mut first = bob(&gateway);
    let factor = Factor::of(&gateway, &mut first);
    assert_eq!(factor.recovery.len(), 10);
    let kept = everything_kept(&gateway);
    for code in &factor.recovery {
        let characters = code.chars().filter(|c| c.is_ascii_alphanumeric()).count();
        assert!(characters * 5 >= 112, "{code}: 112 bits");
        assert_eq!(found_in(&kept, code), Vec::<String>::new());
    }
    let recovery = json!({"code": factor.recovery[0]});
    let mut browser = halfway(&gateway);
    browser.prove("/api/auth/login/recovery", &recovery).expect(200);
    assert_eq!(browser.get("/api/me/totp").expect(200)["recovery_codes_left"], 9);
    let mut browser = halfway(&gateway);
    browser.prove("/api/auth/login/recovery", &recovery).refused(401, "INVALID_CREDENTIALS");
    // Written as people write them.
    let loosely = factor.recovery[1].to_lowercase().replace('-', " ");
    browser.prove("/api/auth/login/recovery", &json!({"code": loosely})).expect(200);
    let new = browser.post("/api/me/totp/recovery-codes", &json!({})).expect(200);
    assert_eq!(new["recovery_codes"].as_array().map(Vec::len), Some(10));
    let mut browser = halfway(&gateway);
    let old = json!({"code": factor.recovery[2]});
    browser.prove("/api/auth/login/recovery", &old).refused(401, "INVALID_CREDENTIALS");
}

#[test]
fn a_new_proof_asks_for_the_second_factor_too() {
    let Some(gateway) = house() else { return };
    let mut browser = bob(&gateway);
    let factor = Factor::of(&gateway, &mut browser);
    let token = browser.token().map(str::to_owned);
    let told = browser.prove("/api/auth/reauth", &json!({"password": PASSWORD})).expect(200);
    assert_eq!(told, json!({"step": "totp"}));
    assert_eq!(browser.token().map(str::to_owned), token, "nothing is proved yet");
    let code = factor.now(&gateway)["code"].clone();
    browser.prove("/api/auth/reauth", &json!({"password": PASSWORD, "code": code})).expect(200);
    assert_ne!(browser.token().map(str::to_owned), token);
    browser.delete("/api/me/totp").expect(204);
    assert_eq!(browser.get("/api/me").expect(200)["second_factor"], false);
    gateway.browser().sign_in("bob", PASSWORD).expect(200)["user"].as_str().expect("signed in");
    browser.send(&Ask::new("DELETE", "/api/me/totp")).refused(404, "NOT_FOUND");
}
