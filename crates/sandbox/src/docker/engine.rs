//! The way to a container engine, and what its answers mean to people. Nothing is pulled, ever.

use std::collections::HashMap;
use std::error::Error as _;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bollard::API_DEFAULT_VERSION;
use bollard::Docker;
use bollard::errors::Error;
use bollard::models::ContainerCreateBody;
use bollard::models::ContainerStateStatusEnum;
use bollard::models::SystemInfo;
use bollard::query_parameters::CreateContainerOptionsBuilder;
use bollard::query_parameters::InspectContainerOptions;
use bollard::query_parameters::ListContainersOptionsBuilder;
use bollard::query_parameters::RemoveContainerOptionsBuilder;
use bollard::query_parameters::RenameContainerOptionsBuilder;
use bollard::query_parameters::StartContainerOptions;
use sojourn_core::wire::Text;
use sojourn_core::wire::runner::Stage;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Image;
use super::container::INSTANCE;
use super::container::SANDBOX;
use crate::prepared::Failure;

/// How long what nobody waits for may take.
const BEHIND: Duration = Duration::from_secs(60);

/// The most variables of an image that are taken.
const MAX_ENV: usize = 256;

/// The longest message of an engine that is passed on, in characters.
const MAX_MESSAGE: usize = 500;

/// Where an engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A socket of this machine.
    Unix(PathBuf),
    /// A port of this machine, without TLS.
    Tcp(SocketAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// An engine. Connected to when it is needed, and anew after it was gone.
#[derive(Debug)]
pub(crate) struct Engine {
    address: Address,
    client: Mutex<Option<Docker>>,
}

impl Engine {
    pub(crate) fn new(address: Address) -> Self {
        Self { address, client: Mutex::new(None) }
    }

    /// The image of this name.
    pub(crate) async fn image(&self, name: &str, deadline: Instant) -> Result<Image, Failure> {
        let client = self.client(deadline).await?;
        let found =
            self.done(deadline, "to look for the image", client.inspect_image(name)).await?;
        let found = match found {
            Ok(found) => found,
            Err(Refusal { status: 404, .. }) => {
                return Err(Failure::new(
                    Stage::Image,
                    format!(
                        "the engine has no image {name:?}, and nothing is pulled from here: get it \
                         with docker pull, docker load or docker import"
                    ),
                ));
            }
            Err(refusal) => return Err(refusal.at(Stage::Image, "image")),
        };
        let id = found.id.ok_or_else(|| Failure::new(Stage::Image, "an image without an id"))?;
        let env = found.config.and_then(|config| config.env).unwrap_or_default();
        let pairs = env.iter().filter_map(|variable| variable.split_once('='));
        let env = pairs.take(MAX_ENV).map(|(name, value)| (Text::from(name), Text::from(value)));
        Ok(Image { id, env: env.collect() })
    }

    /// Creates a container and gives the engine's id of it.
    pub(crate) async fn create(
        &self,
        name: &str,
        body: ContainerCreateBody,
        deadline: Instant,
    ) -> Result<String, Failure> {
        let client = self.client(deadline).await?;
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        let create = client.create_container(Some(options), body);
        let created = self.done(deadline, "to create the container", create).await?;
        let created = created.map_err(|refusal| refusal.at(Stage::Container, "container"))?;
        for warning in &created.warnings {
            tracing::warn!(warning, "the engine warns of a container");
        }
        Ok(created.id)
    }

    /// Starts it.
    pub(crate) async fn start(&self, container: &str, deadline: Instant) -> Result<(), Failure> {
        let client = self.client(deadline).await?;
        let start = client.start_container(container, None::<StartContainerOptions>);
        let started = self.done(deadline, "to start the container", start).await?;
        started.map_err(|refusal| refusal.at(Stage::Container, "start of the container"))
    }

    /// Process 1 of a container that runs, as this machine sees it.
    pub(crate) async fn process_of(
        &self,
        container: &str,
        deadline: Instant,
    ) -> Result<u32, Failure> {
        let client = self.client(deadline).await?;
        let inspect = client.inspect_container(container, None::<InspectContainerOptions>);
        let found = self.done(deadline, "to look at the container", inspect).await?;
        let found = found.map_err(|refusal| refusal.at(Stage::Container, "container"))?;
        let state = found.state.unwrap_or_default();
        let pid = state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
        match (state.status, pid) {
            (Some(ContainerStateStatusEnum::RUNNING), Some(pid)) => Ok(pid),
            _ => Err(Failure::new(
                Stage::Init,
                format!(
                    "the container ended as soon as it was started (status {}): {}",
                    state.exit_code.unwrap_or_default(),
                    line(state.error.as_deref().unwrap_or("init could not run in it")),
                ),
            )),
        }
    }

    /// Gives a container another name.
    pub(crate) async fn rename(&self, container: &str, name: &str) -> Result<(), Failure> {
        let deadline = Instant::now() + BEHIND;
        let client = self.client(deadline).await?;
        let options = RenameContainerOptionsBuilder::new().name(name).build();
        let rename = client.rename_container(container, options);
        let renamed = self.done(deadline, "to rename the container", rename).await?;
        renamed.map_err(|refusal| refusal.at(Stage::Container, "container"))
    }

    /// The containers of an instance, with the sandboxes they are; or only that of one sandbox.
    pub(crate) async fn list(
        &self,
        instance: &str,
        sandbox: Option<&str>,
    ) -> Result<Vec<(String, String)>, Failure> {
        let deadline = Instant::now() + BEHIND;
        let client = self.client(deadline).await?;
        let mut labels = vec![format!("{INSTANCE}={instance}")];
        labels.extend(sandbox.map(|id| format!("{SANDBOX}={id}")));
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let list = client.list_containers(Some(options));
        let found = self.done(deadline, "to list its containers", list).await?;
        let found = found.map_err(|refusal| refusal.at(Stage::Engine, "list of containers"))?;
        let ours = found
            .into_iter()
            .filter_map(|container| Some((container.id?, container.labels?.remove(SANDBOX)?)));
        Ok(ours.collect())
    }

    /// Removes a container, whatever it is doing. One that is not there is removed.
    pub(crate) async fn remove(&self, container: &str) -> Result<(), Failure> {
        let deadline = Instant::now() + BEHIND;
        let client = self.client(deadline).await?;
        // Images may have volumes made for them.
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let remove = client.remove_container(container, Some(options));
        match self.done(deadline, "to remove a container", remove).await? {
            Ok(()) | Err(Refusal { status: 404 | 409, .. }) => Ok(()),
            Err(refusal) => Err(refusal.at(Stage::Container, "removal of a container")),
        }
    }

    /// A client that has agreed with the engine on a version, of an engine that can keep limits.
    async fn client(&self, deadline: Instant) -> Result<Docker, Failure> {
        let mut kept = self.client.lock().await;
        if let Some(client) = &*kept {
            return Ok(client.clone());
        }
        let timeout = BEHIND.as_secs();
        let made = match &self.address {
            Address::Unix(path) => {
                Docker::connect_with_unix(&path.to_string_lossy(), timeout, API_DEFAULT_VERSION)
            }
            Address::Tcp(address) => {
                Docker::connect_with_http(&address.to_string(), timeout, API_DEFAULT_VERSION)
            }
        };
        let client = made.map_err(|error| self.unreachable(&error))?;
        let asked = client.negotiate_version();
        let client = self.done(deadline, "to say its version", asked).await?;
        let client = client.map_err(|refusal| refusal.at(Stage::Engine, "version"))?;
        let info = self.done(deadline, "to say what it can", client.info()).await?;
        let info = info.map_err(|refusal| refusal.at(Stage::Engine, "question what it can"))?;
        can_limit(&info, has_swap())?;
        *kept = Some(client.clone());
        Ok(client)
    }

    /// Waits for an answer. The engine's refusals come back, all else is a failure.
    async fn done<T>(
        &self,
        deadline: Instant,
        what: &str,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<Result<T, Refusal>, Failure> {
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => Ok(Ok(answer)),
            Ok(Err(Error::DockerResponseServerError { status_code, message })) => {
                Ok(Err(Refusal { status: status_code, message }))
            }
            Err(_) | Ok(Err(Error::RequestTimeoutError)) => Err(Failure::new(
                Stage::Timeout,
                format!("the container engine at {} took too long {what}", self.address),
            )),
            Ok(Err(error)) => {
                // It may come back as another version.
                if let Ok(mut kept) = self.client.try_lock() {
                    *kept = None;
                }
                Err(self.unreachable(&error))
            }
        }
    }

    fn unreachable(&self, error: &Error) -> Failure {
        let mut cause = error.to_string();
        let mut source = error.source();
        while let Some(next) = source {
            cause = next.to_string();
            source = next.source();
        }
        let message = format!(
            "no answer from the container engine at {}: {}; is it running?",
            self.address,
            line(&cause)
        );
        Failure::new(Stage::Engine, message)
    }
}

/// What an engine will not do.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: u16,
    message: String,
}

impl Refusal {
    fn at(self, stage: Stage, what: &str) -> Failure {
        Failure::new(stage, format!("the engine refuses the {what}: {}", line(&self.message)))
    }
}

/// Whether the engine can keep all limits of a profile, or which not.
fn can_limit(info: &SystemInfo, has_swap: bool) -> Result<(), Failure> {
    let missing: Vec<&str> = [
        ("memory", info.memory_limit),
        ("swap", info.swap_limit.filter(|_| has_swap)),
        ("cpu", info.cpu_cfs_quota),
        ("pids", info.pids_limit),
    ]
    .into_iter()
    // One that says nothing refuses what it cannot do.
    .filter(|(_, can)| *can == Some(false))
    .map(|(what, _)| what)
    .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the container engine cannot limit {} here, so profiles with sandbox = \"docker\" cannot be \
         had; docker info says more",
        missing.join(", ")
    );
    Err(Failure::new(Stage::Engine, message))
}

fn has_swap() -> bool {
    std::fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() > 1)
}

/// Foreign text as one bounded line.
fn line(text: &str) -> String {
    let one_line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    one_line.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_cannot_limit_is_refused_by_name() {
        let all = SystemInfo {
            memory_limit: Some(true),
            swap_limit: Some(false),
            cpu_cfs_quota: Some(true),
            pids_limit: Some(true),
            ..SystemInfo::default()
        };
        assert_eq!(can_limit(&all, false), Ok(()));
        assert!(can_limit(&all, true).unwrap_err().message.contains("limit swap here"));
        let none = SystemInfo { pids_limit: Some(false), memory_limit: Some(false), ..all };
        let failure = can_limit(&none, false).unwrap_err();
        assert_eq!(failure.stage, Stage::Engine);
        assert!(failure.message.contains("limit memory, pids here"), "{failure}");
    }

    #[test]
    fn what_an_engine_says_is_one_line() {
        assert_eq!(line("oci: \x1b[31mno\n such  file"), "oci: [31mno such file");
        assert_eq!(line(&"x".repeat(9000)).len(), MAX_MESSAGE);
    }
}
