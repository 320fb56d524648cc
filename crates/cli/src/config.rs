//! Where the command line takes its settings from: flag, then `BATON_*`, then the file, then the default.
//!
//! `config.toml` is the user's and never written here; `contexts.toml` beside it is kept by `baton context`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::output::Format;
use crate::output::paint::When;

pub const ADDRESS_DEFAULT: &str = "127.0.0.1:7070";

/// Flags that every verb takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Global {
    /// Addresses of replicas, any of which will do
    #[arg(
        long,
        global = true,
        alias = "server",
        env = "BATON_SERVERS",
        value_name = "HOST:PORT,..",
        value_delimiter = ','
    )]
    pub servers: Vec<String>,
    /// A named cluster (see `baton context`)
    #[arg(long, global = true, env = "BATON_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
    /// How to print: table, wide, json, jsonl or name
    #[arg(short, long, global = true, env = "BATON_OUTPUT", value_name = "FORMAT")]
    pub output: Option<Format>,
    /// When to colour: auto, always or never
    #[arg(long, global = true, env = "BATON_COLOR", value_name = "WHEN")]
    pub color: Option<When>,
    /// How long a call may take, retries included
    #[arg(long, global = true, env = "BATON_CALL_TIMEOUT", value_name = "DURATION", value_parser = duration)]
    pub call_timeout: Option<Duration>,
    /// Who you are, as jobs will say
    #[arg(long, global = true, env = "BATON_USER", value_name = "NAME")]
    pub user: Option<String>,
}

pub fn duration(text: &str) -> Result<Duration, String> {
    model::time::parse_duration(text)
}

/// `config.toml`. Unknown keys are refused.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    servers: Option<Vec<String>>,
    context: Option<String>,
    output: Option<Format>,
    color: Option<When>,
    #[serde(default, with = "model::time::optional_duration")]
    call_timeout: Option<Duration>,
    user: Option<String>,
}

/// `contexts.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    pub servers: Vec<String>,
}

/// What all sources together say.
#[derive(Clone, Debug)]
pub struct Config {
    pub servers: Vec<String>,
    /// Whether a flag or a variable said where the replicas are.
    pub is_addressed: bool,
    pub output: Format,
    pub color: When,
    pub call_timeout: Option<Duration>,
    pub user: String,
}

/// `$XDG_CONFIG_HOME/baton`, else `~/.config/baton`.
pub fn folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    base.or_else(|| set("HOME").map(|home| home.join(".config"))).map(|base| base.join("baton"))
}

impl Config {
    pub fn load(global: &Global) -> Result<Config, Fault> {
        let folder = folder();
        let file: File = read(folder.as_deref(), "config.toml")?;
        let contexts: Contexts = read(folder.as_deref(), "contexts.toml")?;
        Config::merge(global, file, &contexts)
    }

    /// Of flags and variables alone.
    #[cfg(test)]
    pub fn merged(global: &Global) -> Result<Config, Fault> {
        Config::merge(global, File::default(), &Contexts::default())
    }

    fn merge(global: &Global, file: File, contexts: &Contexts) -> Result<Config, Fault> {
        let servers = choose_servers(global, &file, contexts)?;
        if let Some(bad) = servers.iter().find(|address| !is_address(address)) {
            return Err(Fault::usage(format!("`{bad}` is not an address such as 127.0.0.1:7070")));
        }
        Ok(Config {
            servers,
            is_addressed: !global.servers.is_empty() || global.context.is_some(),
            output: global.output.or(file.output).unwrap_or_default(),
            color: global.color.or(file.color).unwrap_or_default(),
            call_timeout: global.call_timeout.or(file.call_timeout),
            user: global.user.clone().or(file.user).unwrap_or_else(login),
        })
    }
}

fn choose_servers(global: &Global, file: &File, contexts: &Contexts) -> Result<Vec<String>, Fault> {
    if !global.servers.is_empty() {
        return Ok(global.servers.clone());
    }
    if let (None, Some(servers)) = (&global.context, &file.servers) {
        return Ok(servers.clone());
    }
    let asked = global.context.as_ref().or(file.context.as_ref());
    let Some(name) = asked.or(contexts.current.as_ref()) else { return Ok(vec![ADDRESS_DEFAULT.to_owned()]) };
    match contexts.contexts.get(name) {
        Some(context) => Ok(context.servers.clone()),
        None => Err(Fault::not_found(format!("there is no context `{name}`"))
            .fix("see `baton context list`, or name replicas with --servers")),
    }
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn login() -> String {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    set("USER").or_else(|| set("LOGNAME")).unwrap_or_else(|| nix::unistd::getuid().to_string())
}

fn read<T: Default + for<'de> Deserialize<'de>>(folder: Option<&Path>, name: &str) -> Result<T, Fault> {
    let Some(path) = folder.map(|folder| folder.join(name)) else { return Ok(T::default()) };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(T::default()),
        Err(error) => return Err(Fault::of_file("cannot read the configuration", &path, &error)),
    };
    toml::from_str(&text).map_err(|error| {
        let why = error.to_string();
        let fault = Fault::usage(format!("{} is not valid", path.display()));
        why.trim_end().lines().fold(fault, |fault, line| fault.why(line))
    })
}

impl Contexts {
    pub fn load() -> Result<Contexts, Fault> {
        read(folder().as_deref(), "contexts.toml")
    }

    /// Replaces the file as a whole, so that a reader never sees half of it.
    pub fn save(&self) -> Result<(), Fault> {
        let folder = folder().ok_or_else(|| Fault::failed("neither XDG_CONFIG_HOME nor HOME is set"))?;
        let path = folder.join("contexts.toml");
        let fault = |error: std::io::Error| Fault::of_file("cannot write the contexts", &path, &error);
        let text = toml::to_string(self).map_err(|error| Fault::failed(error.to_string()))?;
        std::fs::create_dir_all(&folder).map_err(fault)?;
        let fresh = folder.join(format!(".contexts.{}", std::process::id()));
        std::fs::write(&fresh, text).map_err(fault)?;
        std::fs::rename(&fresh, &path).map_err(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contexts() -> Contexts {
        toml::from_str("current = \"dev\"\n[contexts.dev]\nservers = [\"d:1\"]\n[contexts.prod]\nservers = [\"p:1\", \"p:2\"]\n")
            .unwrap()
    }

    fn servers(global: Global, file: &str) -> Result<Vec<String>, Fault> {
        Config::merge(&global, toml::from_str(file).unwrap(), &contexts()).map(|config| config.servers)
    }

    #[test]
    fn flags_come_before_the_file_and_the_file_before_the_context_in_use() {
        let named = |name: &str| Global { context: Some(name.to_owned()), ..Global::default() };
        let listed = Global { servers: vec!["f:1".to_owned()], ..named("prod") };
        assert_eq!(servers(listed, "servers = [\"x:1\"]").unwrap(), ["f:1"]);
        assert_eq!(servers(named("prod"), "servers = [\"x:1\"]").unwrap(), ["p:1", "p:2"]);
        assert_eq!(servers(Global::default(), "servers = [\"x:1\"]").unwrap(), ["x:1"]);
        assert_eq!(servers(Global::default(), "context = \"prod\"").unwrap(), ["p:1", "p:2"]);
        assert_eq!(servers(Global::default(), "").unwrap(), ["d:1"]);
        assert_eq!(servers(named("x"), "").unwrap_err().exit, crate::exit::Exit::NOT_FOUND);
        let bad = Global { servers: vec!["nonsense".to_owned()], ..Global::default() };
        assert_eq!(servers(bad, "").unwrap_err().exit, crate::exit::Exit::USAGE);
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(toml::from_str::<File>("serverz = []").unwrap_err().to_string().contains("serverz"));
    }

    #[test]
    fn contexts_are_written_and_read_alike() {
        assert_eq!(toml::from_str::<Contexts>(&toml::to_string(&contexts()).unwrap()).unwrap(), contexts());
    }
}
