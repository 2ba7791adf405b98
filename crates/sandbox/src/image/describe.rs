//! What an archive says that it holds: the index, manifest and configuration of the OCI's form, or the
//! two texts that `docker save` writes.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::About;
use super::Problem;
use super::archive::Archive;
use super::problem;
use super::shown;

/// The most layers of an image.
const MOST_LAYERS: usize = 512;
/// Indexes that name indexes.
const MOST_INDEXES: usize = 4;
/// What is kept of an environment.
const MOST_VARIABLES: usize = 256;
const LONGEST_ENVIRONMENT: usize = 24 << 10;

const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const MANIFESTS: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
const LAYERS: [&str; 5] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
];

/// An image: its layers, the lowest first.
#[derive(Debug)]
pub(super) struct Image {
    /// The digest of its configuration, which names every layer by what it holds.
    pub(super) digest: String,
    pub(super) layers: Vec<Blob>,
    pub(super) about: About,
}

/// A layer in the archive.
#[derive(Debug)]
pub(super) struct Blob {
    /// Its name in the archive.
    pub(super) name: String,
    /// Its digest as it lies there, where that is said.
    pub(super) digest: Option<String>,
    /// The digest of what it holds.
    pub(super) holds: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    config: Descriptor,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Clone, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

/// An entry of the table of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    rootfs: RootFs,
    #[serde(default)]
    config: Option<Runtime>,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Runtime {
    #[serde(default)]
    env: Option<Vec<String>>,
}

/// Reads what the archive says of its image.
pub(super) fn image(archive: &Archive) -> Result<Image, Problem> {
    if archive.has("index.json") {
        return of_index(archive);
    }
    if archive.has("manifest.json") {
        return of_saved(archive);
    }
    problem(
        "it is neither an OCI image archive (index.json) nor one of docker save (manifest.json)",
    )
}

fn of_index(archive: &Archive) -> Result<Image, Problem> {
    let (text, _) = archive.text("index.json")?;
    let mut index: Index = parse("index.json", &text)?;
    for _ in 0..MOST_INDEXES {
        let chosen = choose(index.manifests)?;
        let text = blob_text(archive, &chosen)?;
        let is_index = INDEXES.contains(&chosen.media_type.as_str());
        if !is_index && !chosen.media_type.is_empty() {
            expect(&chosen, &MANIFESTS, "a manifest")?;
        }
        if is_index {
            index = parse("an index", &text)?;
            continue;
        }
        let manifest: Manifest = parse("the manifest", &text)?;
        expect(&manifest.config, &CONFIGS, "a configuration")?;
        let digest = hex_digest(&manifest.config.digest)?.to_owned();
        let config: Config = parse("the configuration", &blob_text(archive, &manifest.config)?)?;
        let layers = manifest.layers.iter().map(|layer| {
            expect(layer, &LAYERS, "a layer")?;
            Ok((blob_name(layer)?, Some(hex_digest(&layer.digest)?.to_owned())))
        });
        let layers: Result<Vec<_>, Problem> = layers.take(MOST_LAYERS + 1).collect();
        return assemble(digest, config, layers?);
    }
    problem("its indexes lead nowhere")
}

fn of_saved(archive: &Archive) -> Result<Image, Problem> {
    let (text, _) = archive.text("manifest.json")?;
    let mut saved: Vec<Saved> = parse("manifest.json", &text)?;
    let count = saved.len();
    let (Some(saved), 1) = (saved.pop(), count) else {
        return problem(format!("it holds {count} images: save one"));
    };
    let (text, digest) = archive.text(&saved.config)?;
    // Its name is its digest, in both of the places where it can be.
    let name = saved.config.trim_end_matches(".json").rsplit('/').next().unwrap_or_default();
    if is_hex(name) && name != digest {
        return problem("the configuration is not the one that its name says");
    }
    let config: Config = parse("the configuration", &text)?;
    let layers = saved.layers.into_iter().map(|layer| {
        let digest = layer.strip_prefix("blobs/sha256/").filter(|name| is_hex(name));
        (layer.clone(), digest.map(str::to_owned))
    });
    assemble(digest, config, layers.take(MOST_LAYERS + 1).collect())
}

fn assemble(
    digest: String,
    config: Config,
    layers: Vec<(String, Option<String>)>,
) -> Result<Image, Problem> {
    let own = architecture();
    if !config.os.is_empty() && config.os != "linux" {
        return problem(format!("it is for {}", shown(config.os.as_bytes())));
    }
    if !config.architecture.is_empty() && config.architecture != own {
        let other = shown(config.architecture.as_bytes());
        return problem(format!("it is for {other} processors; this machine's are {own}"));
    }
    if layers.len() > MOST_LAYERS {
        return problem("it has more layers than an image has");
    }
    if layers.len() != config.rootfs.diff_ids.len() {
        return problem("its configuration names another number of layers than there are");
    }
    let layers = layers.into_iter().zip(&config.rootfs.diff_ids).map(|((name, digest), holds)| {
        Ok(Blob { name, digest, holds: hex_digest(holds)?.to_owned() })
    });
    let layers = layers.collect::<Result<_, Problem>>()?;
    let env = config.config.unwrap_or_default().env.unwrap_or_default();
    let mut room = LONGEST_ENVIRONMENT;
    let env = env.into_iter().take(MOST_VARIABLES).take_while(|variable| {
        let fits = variable.len() <= room;
        room = room.saturating_sub(variable.len());
        fits
    });
    Ok(Image { digest, layers, about: About { env: env.collect() } })
}

/// The one for this machine.
fn choose(manifests: Vec<Descriptor>) -> Result<Descriptor, Problem> {
    let own = architecture();
    let fits = |descriptor: &Descriptor| {
        let platform = descriptor.platform.as_ref();
        platform.is_none_or(|p| p.os == "linux" && p.architecture == own)
    };
    let count = manifests.len();
    let mut fitting: Vec<_> = manifests.into_iter().filter(fits).collect();
    match (fitting.len(), fitting.pop()) {
        (1, Some(chosen)) => Ok(chosen),
        (0, _) if count == 0 => problem("it holds no image"),
        (0, _) => problem(format!("it holds no image for linux and {own}")),
        (several, _) => problem(format!("it holds {several} images: save one")),
    }
}

/// The processors of this machine, as images name them.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn expect(descriptor: &Descriptor, types: &[&str], what: &str) -> Result<(), Problem> {
    let media_type = descriptor.media_type.as_str();
    if types.contains(&media_type) {
        return Ok(());
    }
    let kind = shown(media_type.as_bytes());
    if ["foreign", "nondistributable"].iter().any(|word| media_type.contains(word)) {
        return problem(format!("{what} has to be fetched from elsewhere ({kind})"));
    }
    if media_type.contains("encrypted") {
        return problem(format!("{what} is encrypted ({kind})"));
    }
    problem(format!("{what} is of a kind that is not known: {kind}"))
}

fn blob_text(archive: &Archive, descriptor: &Descriptor) -> Result<Vec<u8>, Problem> {
    let name = blob_name(descriptor)?;
    let (text, digest) = archive.text(&name)?;
    if digest != hex_digest(&descriptor.digest)? || text.len() as u64 != descriptor.size {
        return problem(format!("{} is not what its digest says", shown(name.as_bytes())));
    }
    Ok(text)
}

fn blob_name(descriptor: &Descriptor) -> Result<String, Problem> {
    Ok(format!("blobs/sha256/{}", hex_digest(&descriptor.digest)?))
}

fn hex_digest(digest: &str) -> Result<&str, Problem> {
    match digest.strip_prefix("sha256:") {
        Some(hex) if is_hex(hex) => Ok(hex),
        _ => problem(format!("{} is no SHA-256 digest", shown(digest.as_bytes()))),
    }
}

fn is_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn parse<T: DeserializeOwned>(what: &str, text: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(text).map_err(|error| Problem(format!("{what}: {error}")))
}
