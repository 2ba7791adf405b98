//! A real PostgreSQL of the tests' own: its own data directory, a Unix socket, no network port unless
//! one is asked for, and never root. It goes when the test's process does, in whatever way that ends.

use std::fs;
use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use crate::PATIENCE;
use crate::until;

/// The account that owns the databases, which is no superuser and has to say its password.
const OWNER: &str = "sojourn";

/// Its password, which no log and no message may show.
pub const PASSWORD: &str = "the-word-of-the-url";

/// Waits with the server until a line comes, or until whoever would write one is gone; then nothing
/// of it is left. A process group of its own: what interrupts the tests does not interrupt this.
const KEEPER: &str = r#"
home=$1; shift
"$@" >>"$home/log" 2>&1 </dev/null &
server=$!
if read -r _; then
    kill -INT "$server"; wait "$server"
else
    kill -QUIT "$server"; wait "$server"
    rm -rf "$home"
fi
"#;

/// A server. Stopped and removed when dropped.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    home: PathBuf,
    account: Option<(u32, u32)>,
    port: Option<u16>,
    keeper: Option<Child>,
}

/// A database of one test.
#[derive(Clone, Debug)]
pub struct Database {
    /// What to put into `[store] url`: with a password.
    pub url: String,
    /// Its name.
    pub name: String,
}

impl Postgres {
    /// The server that all tests of this process share.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A server of a test's own, which may be stopped.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start() -> Self {
        Self::begin(None)
    }

    /// The same, reached at `localhost` too, by TLS alone; [`Postgres::certificate`] is its own.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start_with_tls() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("its address").port();
        drop(free);
        Self::begin(Some(port))
    }

    fn begin(port: Option<u16>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sojourn-postgres-{}-{number}", std::process::id());
        let home = std::env::temp_dir().join(name);
        fs::create_dir(&home).expect("a directory for PostgreSQL");
        fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).expect("its mode");
        let account = rustix::process::geteuid().is_root().then(unprivileged);
        if let Some((uid, gid)) = account {
            chown(&home, Some(uid), Some(gid)).expect("its owner");
        }
        let mut server = Self { programs: programs(), home, account, port, keeper: None };
        server.initialise();
        if port.is_some() {
            server.certify();
        }
        server.launch();
        server.admin("postgres", &format!("CREATE ROLE {OWNER} LOGIN PASSWORD '{PASSWORD}'"));
        server
    }

    /// Makes its data directory: a copy of one that is made once and kept beside the test programs, for
    /// making one takes ten times as long.
    fn initialise(&self) {
        let data = self.home.join("data");
        let beside = std::env::current_exe().expect("our own path");
        let name: String = self.programs.to_string_lossy().replace('/', "-");
        let uid = rustix::process::geteuid();
        let template = beside.with_file_name(format!("sojourn{name}-{}", uid.as_raw()));
        let lock = File::create(template.with_extension("lock")).expect("a file to lock");
        lock.lock().expect("a lock");
        if template.exists() {
            copy(&template, &data);
            return;
        }
        let made = self
            .command("initdb")
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--wal-segsize=1"])
            // An order of letters that is not that of their bytes, as servers have it.
            .args(["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"])
            .arg("-D")
            .arg(&data)
            .output()
            .expect("initdb");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let rules = "local all postgres trust\nlocal all all scram-sha-256\n";
        fs::write(data.join("pg_hba.conf"), rules).expect("its rules");
        let unfinished = template.with_extension("new");
        let _of_a_killed_test = fs::remove_dir_all(&unfinished);
        copy(&data, &unfinished);
        fs::rename(&unfinished, &template).expect("a template");
    }

    /// Makes its certificate, and lets those in who come by TLS.
    fn certify(&self) {
        let made = self
            .command("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-nodes", "-days", "30", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-out", "server.crt", "-keyout", "server.key"])
            .output()
            .expect("openssl");
        assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        let rules = self.home.join("data/pg_hba.conf");
        let mut rules = File::options().append(true).open(rules).expect("its rules");
        rules.write_all(b"hostssl all all 127.0.0.1/32 scram-sha-256\n").expect("one more");
    }

    /// Starts it again after [`Postgres::stop`], with all its data.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn launch(&mut self) {
        assert!(self.keeper.is_none(), "it runs");
        let mut keeper = self.command("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(&self.home).arg(self.programs.join("postgres"));
        keeper.arg("-D").arg(self.home.join("data")).arg("-k").arg(&self.home);
        if let Some(port) = self.port {
            let files = ["cert", "key"].map(|what| {
                let ending = if what == "cert" { "crt" } else { "key" };
                format!("ssl_{what}_file={}", self.home.join(format!("server.{ending}")).display())
            });
            let more = ["ssl=on".to_owned(), format!("port={port}")];
            for setting in files.iter().chain(&more) {
                keeper.args(["-c", setting]);
            }
        }
        let addresses = if self.port.is_some() { "127.0.0.1" } else { "" };
        keeper.args(["-c", &format!("listen_addresses={addresses}")]);
        for setting in [
            "fsync=off",
            "shared_buffers=16MB",
            "shared_memory_type=mmap",
            "dynamic_shared_memory_type=mmap",
        ] {
            keeper.args(["-c", setting]);
        }
        let keeper = keeper
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        self.keeper = Some(keeper);
        until("PostgreSQL", PATIENCE, || {
            let ready = self.command("pg_isready").arg("-q").arg("-h").arg(&self.home).status();
            ready.expect("pg_isready").success().then_some(())
        });
    }

    /// Stops it as its operator would. Its data stays.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn stop(&mut self) {
        let mut keeper = self.keeper.take().expect("a running server");
        let mut input = keeper.stdin.take().expect("its keeper's input");
        input.write_all(b"stop\n").expect("a listening keeper");
        until("PostgreSQL's end", PATIENCE, || keeper.try_wait().expect("its status"));
    }

    /// A new, empty database.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn database(&self) -> Database {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.admin("postgres", &format!("CREATE DATABASE {name} OWNER {OWNER}"));
        let url = format!("postgres://{OWNER}:{PASSWORD}@localhost/{name}?host={}", self.socket());
        Database { url, name }
    }

    /// A new, empty database, reached by TLS; `how` is what stands behind the question mark.
    ///
    /// # Panics
    /// When it cannot be made, or the server does no TLS.
    #[must_use]
    pub fn database_by_tls(&self, how: &str) -> Database {
        let port = self.port.expect("a server with TLS");
        let name = self.database().name;
        let url = format!("postgres://{OWNER}:{PASSWORD}@localhost:{port}/{name}?{how}");
        Database { url, name }
    }

    /// The certificate of a server with TLS, which signed itself.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.home.join("server.crt")
    }

    /// The directory of its socket, which is how it is named in messages.
    ///
    /// # Panics
    /// When the path is not UTF-8.
    #[must_use]
    pub fn socket(&self) -> &str {
        self.home.to_str().expect("a path in UTF-8")
    }

    /// Has the superuser do something in a database; what came out.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn admin(&self, database: &str, sql: &str) -> String {
        let done = self
            .command("psql")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"])
            .args([self.socket(), "-d", database, "-c", sql])
            .output()
            .expect("psql");
        assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    /// A program, as the account that the server has.
    fn command(&self, name: &str) -> Command {
        let beside = self.programs.join(name);
        let mut command = Command::new(if beside.exists() { beside } else { name.into() });
        command.current_dir(&self.home).env_remove("PGPASSWORD");
        if let Some(port) = self.port {
            command.env("PGPORT", port.to_string());
        }
        if let Some((uid, gid)) = self.account {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        match self.keeper.take() {
            Some(mut keeper) => {
                drop(keeper.stdin.take());
                let _status = keeper.wait();
            }
            None => {
                let _left = fs::remove_dir_all(&self.home);
            }
        }
    }
}

/// Copies a directory with all that its files are, owners too.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).output().expect("cp");
    assert!(copied.status.success(), "cp: {}", String::from_utf8_lossy(&copied.stderr));
}

/// Where the server's programs are: Debian has them on nobody's path.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = versions.map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<_> = debian
        .chain(std::env::split_paths(&path))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().expect("PostgreSQL is not installed: run \"scripts/packages test\"")
}

/// An account that PostgreSQL runs as when root tests: it refuses root.
fn unprivileged() -> (u32, u32) {
    let accounts = fs::read_to_string(Path::new("/etc/passwd")).unwrap_or_default();
    let of = |wanted: &str| {
        let mut fields = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let account = fields.find(|fields| fields.first() == Some(&wanted))?;
        Some((account.get(2)?.parse().ok()?, account.get(3)?.parse().ok()?))
    };
    of("postgres").or_else(|| of("nobody")).expect("an account named postgres or nobody")
}
