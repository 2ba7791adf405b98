//! Where configuration comes from: which file, which variables, and whether root may believe it.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use super::Loaded;
use super::value;

/// The longest file that is read.
const MAX_FILE: u64 = 1 << 20;

/// Where root's file is.
const SYSTEM_FILE: &str = "/etc/sojourn/sojourn.toml";

/// Where root's data is.
const SYSTEM_DATA: &str = "/var/lib/sojourn";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody other than root can change the file that root is to obey.
    #[error(
        "{}: root takes its configuration only from a file that root alone can write; do \
         \"chown root\" and \"chmod go-w\" on it",
        .0.display()
    )]
    Untrusted(PathBuf),
    /// What it says is wrong.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
}

/// The configuration in effect; `explicit` is the file that was asked for, `data_dir` the directory.
///
/// # Errors
/// When there is a file and it cannot be read, or anything in it or in the environment is wrong.
pub(crate) fn load(
    explicit: Option<&Path>,
    data_dir: Option<&Path>,
) -> Result<Loaded, ConfigError> {
    let asked = explicit.map(Path::to_owned).or_else(|| variable("SOJOURN_CONFIG"));
    let optional = asked.is_none();
    let file = asked.or_else(standard_file);
    let (file, text) = match file {
        Some(file) => match read_file(&file, is_root()) {
            Ok(text) => (Some(file), text),
            Err(ConfigError::Unreadable { source, .. })
                if optional && source.kind() == io::ErrorKind::NotFound =>
            {
                (None, String::new())
            }
            Err(error) => return Err(error),
        },
        None => (None, String::new()),
    };
    let mut loaded = parse(file, &text, &overrides(env::vars_os())?)?;
    if let Some(data_dir) = data_dir {
        let absolute = std::path::absolute(data_dir)
            .map_err(|source| ConfigError::Unreadable { file: data_dir.to_owned(), source })?;
        loaded.config.data_dir = value::Path(absolute);
    }
    Ok(loaded)
}

/// The configuration of a gateway that runs, read again from the file it was read from. `roots` is
/// whether only root may be able to change that, as it was at the start.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_again(file: Option<&Path>, roots: bool) -> Result<Loaded, ConfigError> {
    let text = file.map(|file| read_file(file, roots)).transpose()?;
    parse(file.map(Path::to_owned), &text.unwrap_or_default(), &overrides(env::vars_os())?)
}

/// Checks a file for somebody who writes one, without the environment of this moment.
///
/// # Errors
/// As [`load`], but whose the file is does not matter.
pub(crate) fn check_file(file: &Path) -> Result<Loaded, ConfigError> {
    let text = read_file(file, false)?;
    parse(Some(file.to_owned()), &text, &[])
}

fn parse(
    file: Option<PathBuf>,
    text: &str,
    variables: &[(String, String)],
) -> Result<Loaded, ConfigError> {
    let name = file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
    let (config, notes) = super::read(&name, text, variables).map_err(ConfigError::Invalid)?;
    Ok(Loaded { config, notes, file })
}

fn read_file(path: &Path, must_be_roots: bool) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { file: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if about.is_dir() {
        return Err(unreadable(io::ErrorKind::IsADirectory.into()));
    }
    if must_be_roots && about.is_file() && (about.uid() != 0 || about.mode() & 0o022 != 0) {
        return Err(ConfigError::Untrusted(path.to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(unreadable(io::Error::other("larger than 1 MB")));
    }
    String::from_utf8(bytes).map_err(|_| unreadable(io::Error::other("not UTF-8 text")))
}

/// The variables that name a key, in a fixed order.
fn overrides(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut chosen = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| is_override(name)) else { continue };
        let value = value.into_string().map_err(|_| {
            ConfigError::Invalid(vec![format!("environment variable {name}: not UTF-8 text")])
        })?;
        chosen.push((name.to_owned(), value));
    }
    chosen.sort();
    Ok(chosen)
}

/// Single words are not keys but [`super::Config::data_dir`]: `SOJOURN_SESSION`, say, is set inside.
fn is_override(name: &str) -> bool {
    let key = name.strip_prefix("SOJOURN_");
    key.is_some_and(|key| key == "DATA_DIR" || key.contains("__"))
}

/// Whether commands read this file when none is named.
pub(crate) fn is_standard(file: &Path) -> bool {
    standard_file().as_deref() == Some(file)
}

fn standard_file() -> Option<PathBuf> {
    if is_root() {
        return Some(PathBuf::from(SYSTEM_FILE));
    }
    let directory = home_directory("XDG_CONFIG_HOME", ".config")?;
    Some(directory.join("sojourn/sojourn.toml"))
}

/// Where data is unless the configuration says otherwise.
pub(crate) fn default_data_dir() -> value::Path {
    let own = || home_directory("XDG_DATA_HOME", ".local/share").map(|dir| dir.join("sojourn"));
    let directory = if is_root() { None } else { own() };
    value::Path(directory.unwrap_or_else(|| PathBuf::from(SYSTEM_DATA)))
}

fn home_directory(name: &str, below_home: &str) -> Option<PathBuf> {
    let set = variable(name).filter(|path| path.is_absolute());
    set.or_else(|| Some(variable("HOME")?.join(below_home))).filter(|path| path.is_absolute())
}

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.as_bytes().is_empty()).map(PathBuf::from)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
