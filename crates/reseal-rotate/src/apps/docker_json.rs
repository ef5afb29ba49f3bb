//! The JSON that `compose config` and `docker inspect` print.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use reseal_crypto::secret::SecretBytes;
use serde::{Deserialize, Deserializer};

use super::AppError;
use super::compose::{Container, Service};

/// A text that may be secret.
struct SecretText(SecretBytes);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|text| Self(SecretBytes::new(text.into_bytes())))
    }
}

/// `compose config --format json`.
#[derive(Deserialize)]
pub(super) struct ConfigJson {
    #[serde(default)]
    pub(super) services: BTreeMap<String, ServiceJson>,
}

#[derive(Deserialize)]
pub(super) struct ServiceJson {
    #[serde(default)]
    environment: Option<BTreeMap<String, Option<SecretText>>>,
    #[serde(default)]
    env_file: Option<EnvFiles>,
    #[serde(default)]
    image: Option<String>,
    #[serde(default)]
    entrypoint: Option<Vec<SecretText>>,
    #[serde(default)]
    command: Option<Vec<SecretText>>,
    #[serde(default)]
    build: Option<BuildJson>,
    #[serde(default)]
    volumes: Option<Vec<VolumeJson>>,
}

#[derive(Deserialize)]
struct BuildJson {
    context: Option<PathBuf>,
}

#[derive(Deserialize)]
struct VolumeJson {
    #[serde(rename = "type")]
    kind: String,
    source: Option<PathBuf>,
}

/// A path, several, or several with `required`.
#[derive(Deserialize)]
#[serde(untagged)]
enum EnvFiles {
    One(PathBuf),
    Several(Vec<EnvFile>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum EnvFile {
    Path(PathBuf),
    Entry { path: PathBuf },
}

impl ConfigJson {
    pub(super) fn read(json: &SecretBytes) -> Result<Self, AppError> {
        // EXPOSE: parsed into types that wipe themselves.
        serde_json::from_slice(json.expose()).map_err(|error| unreadable("compose config", &error))
    }

    /// The files of every service, as paths from `directory` where they are not absolute.
    pub(super) fn env_files(self, directory: &Path) -> BTreeMap<String, Vec<PathBuf>> {
        let files = self.services.into_iter().map(|(name, service)| {
            let paths = match service.env_file {
                None => Vec::new(),
                Some(EnvFiles::One(path)) => vec![path],
                Some(EnvFiles::Several(files)) => files.into_iter().map(EnvFile::path).collect(),
            };
            (name, paths.into_iter().map(|path| directory.join(path)).collect())
        });
        files.collect()
    }
}

impl EnvFile {
    fn path(self) -> PathBuf {
        match self {
            Self::Path(path) | Self::Entry { path } => path,
        }
    }
}

impl ServiceJson {
    /// The service, with these `env_files`.
    pub(super) fn service(self, env_files: Vec<PathBuf>) -> Service {
        let environment = self.environment.unwrap_or_default().into_iter();
        let words = [self.entrypoint, self.command].into_iter().flatten().flatten();
        let mounted = self.volumes.unwrap_or_default().into_iter();
        let mounted = mounted.filter(|volume| volume.kind == "bind").filter_map(|volume| volume.source);
        Service {
            environment: environment
                .map(|(name, value)| (name, value.map(|value| undouble(&value.0))))
                .collect(),
            env_files,
            image: self.image,
            argv: words.map(|word| undouble(&word.0)).collect(),
            sources: self.build.and_then(|build| build.context).into_iter().chain(mounted).collect(),
        }
    }
}

/// `$$` is how `config` writes `$`: what it prints is a compose file again.
fn undouble(value: &SecretBytes) -> SecretBytes {
    let bytes = value.expose();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        plain.push(bytes[at]);
        at += if bytes[at..].starts_with(b"$$") { 2 } else { 1 };
    }
    SecretBytes::new(plain)
}

/// One container of `docker inspect`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct InspectJson {
    id: String,
    state: StateJson,
    path: Option<SecretText>,
    #[serde(default)]
    args: Option<Vec<SecretText>>,
    config: ContainerConfigJson,
    #[serde(default)]
    network_settings: NetworkJson,
    #[serde(default)]
    mounts: Option<Vec<MountJson>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StateJson {
    status: String,
    #[serde(default)]
    pid: u32,
    #[serde(default)]
    exit_code: i32,
    started_at: Option<String>,
    health: Option<HealthJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthJson {
    status: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerConfigJson {
    #[serde(default)]
    env: Option<Vec<SecretText>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkJson {
    #[serde(default)]
    networks: Option<BTreeMap<String, AddressJson>>,
    #[serde(default)]
    ports: Option<BTreeMap<String, Option<Vec<PortJson>>>>,
}

#[derive(Deserialize)]
struct AddressJson {
    #[serde(rename = "IPAddress", default)]
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PortJson {
    #[serde(default)]
    host_ip: String,
    #[serde(default)]
    host_port: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MountJson {
    destination: PathBuf,
}

impl InspectJson {
    pub(super) fn read(json: &SecretBytes) -> Result<Vec<Self>, AppError> {
        // EXPOSE: parsed into types that wipe themselves.
        serde_json::from_slice(json.expose()).map_err(|error| unreadable("docker inspect", &error))
    }

    pub(super) fn container(self) -> Container {
        let networks = self.network_settings.networks.unwrap_or_default();
        let published = self.network_settings.ports.unwrap_or_default();
        let is_running = self.state.status == "running";
        Container {
            id: self.id,
            pid: Some(self.state.pid).filter(|pid| is_running && *pid != 0),
            status: self.state.status,
            health: self.state.health.map(|health| health.status).filter(|status| status != "none"),
            exit_code: self.state.exit_code,
            started: self.state.started_at.and_then(|at| at.parse::<Timestamp>().ok()).map(SystemTime::from),
            environment: self.config.env.unwrap_or_default().iter().filter_map(split_variable).collect(),
            argv: self.path.into_iter().chain(self.args.unwrap_or_default()).map(|word| word.0).collect(),
            addresses: networks.values().filter_map(|network| network.address.parse().ok()).collect(),
            published: published.iter().flat_map(|(port, hosts)| bindings(port, hosts.as_deref())).collect(),
            mounts: self.mounts.unwrap_or_default().into_iter().map(|mount| mount.destination).collect(),
        }
    }
}

fn split_variable(variable: &SecretText) -> Option<(String, SecretBytes)> {
    let (name, value) = variable.0.expose_str()?.split_once('=')?;
    Some((name.to_owned(), SecretBytes::copy_from(value.as_bytes())))
}

/// Where `5432/tcp` is reached. A port published everywhere is reached on the loopback address.
fn bindings(port: &str, hosts: Option<&[PortJson]>) -> Vec<(u16, IpAddr, u16)> {
    let Some(inside) = port.strip_suffix("/tcp").and_then(|port| port.parse().ok()) else {
        return Vec::new();
    };
    let reached = hosts.unwrap_or_default().iter().filter_map(|host| {
        let address: IpAddr = host.host_ip.parse().unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let address = match address {
            IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
            IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
            other => other,
        };
        Some((inside, address, host.host_port.parse().ok()?))
    });
    reached.collect()
}

/// Says where, never what: what was printed holds values.
fn unreadable(what: &str, error: &serde_json::Error) -> AppError {
    let reason = format!("line {}, column {}", error.line(), error.column());
    AppError::Unreadable { what: what.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretBytes {
        SecretBytes::copy_from(text.as_bytes())
    }

    #[test]
    fn dollars_of_config_are_halved() {
        let json = r#"{"services":{"a":{"environment":{"P":"a$$b$$$$","Q":null}},"b":{"environment":null}}}"#;
        let mut services = ConfigJson::read(&secret(json)).unwrap().services;
        let environment = services.remove("a").unwrap().service(Vec::new()).environment;
        assert_eq!(environment["P"], Some(secret("a$b$$")));
        assert_eq!(environment["Q"], None);
    }

    #[test]
    fn env_files_in_all_their_forms() {
        let json = r#"{"services":{"a":{"env_file":".env"},"b":{"env_file":["x.env",{"path":"/abs/y.env","required":true}]},"c":{}}}"#;
        let files = ConfigJson::read(&secret(json)).unwrap().env_files(Path::new("/srv"));
        assert_eq!(files["a"], [PathBuf::from("/srv/.env")]);
        assert_eq!(files["b"], [PathBuf::from("/srv/x.env"), PathBuf::from("/abs/y.env")]);
        assert!(files["c"].is_empty());
    }

    #[test]
    fn a_container_as_docker_prints_it() {
        let json = r#"[{"Id":"4f","Created":"2026-01-01T00:00:00Z","Path":"redis-server","Args":["--requirepass","x"],
            "State":{"Status":"running","Running":true,"Pid":17,"ExitCode":0,"StartedAt":"2026-01-01T00:00:01.25Z",
              "Health":{"Status":"starting","FailingStreak":0,"Log":[]}},
            "Config":{"Env":["A=b=c","EMPTY="],"Cmd":["redis-server"]},"Mounts":[{"Type":"volume","Destination":"/data"}],
            "NetworkSettings":{"Networks":{"n":{"IPAddress":"172.18.0.2"},"off":{"IPAddress":""}},
              "Ports":{"6379/tcp":[{"HostIp":"0.0.0.0","HostPort":"16379"}],"53/udp":null,"80/tcp":null}}}]"#;
        let container = InspectJson::read(&secret(json)).unwrap().remove(0).container();
        assert_eq!((container.pid, container.is_up()), (Some(17), false), "its health is not known yet");
        assert_eq!(container.environment["A"], secret("b=c"));
        assert_eq!(container.argv.len(), 3);
        assert_eq!(container.addresses, ["172.18.0.2".parse::<IpAddr>().unwrap()]);
        assert_eq!(container.published, [(6379, IpAddr::from([127, 0, 0, 1]), 16379)]);
        let since_epoch = container.started.unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(since_epoch.subsec_millis(), 250);
    }

    #[test]
    fn what_cannot_be_read_is_not_repeated() {
        let error = InspectJson::read(&secret(r#"[{"Id":"hunter2"}]"#)).map(drop).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
