//! The runtime's side of the protocol: chains of plugins for one attachment, and the node-wide commands.
//!
//! ADD runs the chain in order and passes each result to the next plugin; the result is in the cache before ADD
//! succeeds. DEL runs the chain in reverse with the configuration and arguments of ADD, if the cache has them, and
//! removes the cache entry only when every plugin succeeded. This module retries nothing and undoes nothing: after a
//! failed ADD the caller must call DEL.
//!
//! See <https://www.cni.dev/docs/spec/#section-3-execution-of-network-configurations>.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tracing::Instrument as _;

use crate::cache::{CachedAttachment, ResultCache};
use crate::config::{NetworkConfigList, PluginConfig, is_identifier};
use crate::error::Error;
use crate::plugin::process::Deadline;
use crate::plugin::{Call, Command, InProcess, Plugins, Resolution};
use crate::result::{AddResult, at_version};

/// Time limits for a whole chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named after the commands")]
pub struct Timeouts {
    pub add: Duration,
    /// Per configuration list.
    pub del: Duration,
    /// For CHECK, STATUS and GC.
    pub other: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            add: Duration::from_secs(300),
            del: Duration::from_secs(60),
            other: Duration::from_secs(30),
        }
    }
}

/// An attachment to make, verify or remove.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    /// `CNI_CONTAINERID`: for Kubernetes the pod sandbox's id.
    pub container_id: String,
    /// `CNI_NETNS`; empty when the namespace is gone, which only DEL allows.
    pub netns: PathBuf,
    /// `CNI_IFNAME`
    pub if_name: String,
    /// `CNI_ARGS`, in order.
    pub args: Vec<(String, String)>,
    /// Capability arguments; each plugin gets those it declares.
    pub capability_args: Map<String, Value>,
}

/// An attachment of a network as GC names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of the specification")]
pub struct AttachmentId {
    #[serde(rename = "containerID")]
    pub container_id: String,
    #[serde(rename = "ifname")]
    pub if_name: String,
}

/// Runs the plugins of configuration lists and keeps their results for DEL.
#[derive(Debug, Clone)]
pub struct Runtime {
    plugins: Arc<Plugins>,
    cache: ResultCache,
    timeouts: Timeouts,
    observer: Option<Observer>,
}

/// Is told of every call that has ended. One that is cancelled is not told of.
pub type Observer = fn(&Observed<'_>);

/// A call that has ended.
#[derive(Debug)]
pub struct Observed<'a> {
    /// The type of the plugin; none for the list as a whole, which is told of after its plugins.
    pub plugin: Option<&'a str>,
    /// What was called.
    pub command: Command,
    /// How long it took.
    pub took: Duration,
    /// Why it failed, if it did.
    pub error: Option<&'a Error>,
}

/// A plugin that was looked for, and what it resolves to.
#[derive(Debug)]
pub struct Tried {
    /// Its type.
    pub plugin: String,
    /// What would run, or why nothing would.
    pub outcome: Result<Resolution, Error>,
}

impl Runtime {
    /// A runtime that looks for plugins in `bin_dirs`, except for the types that are implemented in process, and keeps
    /// results below `cache_dir`.
    #[must_use]
    pub fn new(
        bin_dirs: Vec<PathBuf>,
        cache_dir: &Path,
        in_process: BTreeMap<String, Arc<dyn InProcess>>,
    ) -> Self {
        let cache = ResultCache::new(cache_dir);
        Self {
            plugins: Arc::new(Plugins::new(bin_dirs, in_process)),
            cache,
            timeouts: Timeouts::default(),
            observer: None,
        }
    }

    /// Tells `observer` how long calls take and how they end, for metrics.
    #[must_use]
    pub const fn with_observer(mut self, observer: Observer) -> Self {
        self.observer = Some(observer);
        self
    }

    /// The same with other time limits than the default ones.
    #[must_use]
    pub const fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// The results that ADD left, which DEL and GC go by.
    #[must_use]
    pub const fn cache(&self) -> &ResultCache {
        &self.cache
    }

    /// Adds the pod to the network: runs the chain, saves the result, returns it as the last plugin wrote it.
    ///
    /// # Errors
    /// The first plugin that fails ends the chain. The caller must call [`Self::del`] then.
    pub async fn add(&self, network: &NetworkConfigList, request: &Request) -> Result<Value, Error> {
        validate(request)?;
        if request.netns.as_os_str().is_empty() {
            return Err(invalid("CNI_NETNS", "", "the path of a network namespace"));
        }
        self.observed(None, Command::Add, self.add_chain(network, request))
            .await
    }

    async fn add_chain(&self, network: &NetworkConfigList, request: &Request) -> Result<Value, Error> {
        let deadline = Deadline::after(self.timeouts.add);
        let mut previous: Option<Value> = None;
        for plugin in network.plugins() {
            let call = call(network, plugin, Command::Add, request, previous.as_ref());
            let value = self.run(plugin, call, deadline).await?;
            // Parsed here so that the error names the plugin at fault and not the next one.
            AddResult::from_value(&value).map_err(|source| Error::InvalidResult {
                plugin: plugin.plugin_type().to_owned(),
                command: Command::Add,
                source,
            })?;
            previous = Some(at_version(value, network.version()));
        }
        let result = previous.unwrap_or(Value::Null);
        self.save(network, request, &result).await?;
        Ok(result)
    }

    /// Removes the pod from its network, with the configuration of ADD if the cache has it, else with `network`. With
    /// neither it does nothing. Idempotent: success means that nothing is left.
    ///
    /// # Errors
    /// The first plugin that fails ends the chain; the cache entry stays for the next try.
    pub async fn del(&self, network: Option<&NetworkConfigList>, request: &Request) -> Result<(), Error> {
        validate(request)?;
        let cached = self.cached(&request.container_id).await?;
        let mut current_done = false;
        for entry in cached
            .into_iter()
            .filter(|entry| entry.if_name == request.if_name)
        {
            let origin = PathBuf::from(format!("cached for {}", entry.container_id));
            let of_cache = NetworkConfigList::parse(&entry.config, &origin).ok();
            let Some(used) = of_cache.as_ref().or(network) else {
                continue;
            };
            current_done |= network.is_some_and(|network| network.name() == used.name());
            let mut request = request.clone();
            if let Some(args) = entry.cni_args.clone() {
                request.args = args;
            }
            if let Some(arguments) = entry.capability_args.clone() {
                request.capability_args = arguments;
            }
            let chain = self.del_chain(used, &request, entry.result.as_ref());
            self.observed(None, Command::Del, chain).await?;
            self.forget(&entry).await?;
        }
        match network {
            Some(network) if !current_done => {
                let chain = self.del_chain(network, request, None);
                self.observed(None, Command::Del, chain).await
            }
            _ => Ok(()),
        }
    }

    async fn del_chain(
        &self,
        network: &NetworkConfigList,
        request: &Request,
        result: Option<&Value>,
    ) -> Result<(), Error> {
        let deadline = Deadline::after(self.timeouts.del);
        let previous = result.filter(|_| network.version().has_check());
        for plugin in network.plugins().iter().rev() {
            let call = call(network, plugin, Command::Del, request, previous);
            self.run(plugin, call, deadline).await?;
        }
        Ok(())
    }

    /// Verifies an attachment. Does nothing if the network's version has no CHECK or its configuration disables it.
    ///
    /// # Errors
    /// The first plugin's error.
    pub async fn check(&self, network: &NetworkConfigList, request: &Request) -> Result<(), Error> {
        validate(request)?;
        if !network.version().has_check() || network.disable_check() {
            return Ok(());
        }
        let cached = self.cached(&request.container_id).await?;
        let same = |entry: &&CachedAttachment| {
            entry.if_name == request.if_name && entry.network_name == network.name()
        };
        let result = cached.iter().find(same).and_then(|entry| entry.result.as_ref());
        self.observed(
            None,
            Command::Check,
            self.chain(network, Command::Check, request, result),
        )
        .await
    }

    /// Asks the plugins whether they could serve ADD. Networks before 1.1 have no STATUS and count as ready.
    ///
    /// # Errors
    /// The first plugin that is not ready.
    pub async fn status(&self, network: &NetworkConfigList) -> Result<(), Error> {
        if !network.version().has_status_and_gc() {
            return Ok(());
        }
        let request = Request::default();
        self.observed(
            None,
            Command::Status,
            self.chain(network, Command::Status, &request, None),
        )
        .await
    }

    /// What each plugin of a network resolves to, those that they delegate to (`ipam`, `delegate`) included. Binaries are
    /// run with VERSION, and with nothing else: no pod is needed, and nothing changes.
    pub async fn dry_run(&self, network: &NetworkConfigList) -> Vec<Tried> {
        let deadline = Deadline::after(self.timeouts.other);
        let mut tried = Vec::new();
        for plugin in network.plugins() {
            let call = call(network, plugin, Command::Version, &Request::default(), None);
            let object = |key: &str| plugin.object().get(key).and_then(Value::as_object);
            let name = |object: &Map<String, Value>| Some(object.get("type")?.as_str()?.to_owned());
            let mut wanted = vec![(plugin.plugin_type().to_owned(), call.clone())];
            // An IPAM plugin gets the configuration of its caller; a delegate's is its own.
            wanted.extend(object("ipam").and_then(name).map(|name| (name, call.clone())));
            if let Some((name, own)) = object("delegate").and_then(|own| Some((name(own)?, own))) {
                let mut call = call;
                let version = call.config.get("cniVersion").cloned();
                call.config = own.clone();
                call.config
                    .extend(version.map(|version| ("cniVersion".to_owned(), version)));
                wanted.push((name, call));
            }
            for (plugin, call) in wanted {
                let outcome = self.plugins.resolution(&plugin, &call, deadline).await;
                tried.push(Tried { plugin, outcome });
            }
        }
        tried
    }

    /// The plugins in order, up to the first that fails.
    async fn chain(
        &self,
        network: &NetworkConfigList,
        command: Command,
        request: &Request,
        previous: Option<&Value>,
    ) -> Result<(), Error> {
        let deadline = Deadline::after(self.timeouts.other);
        for plugin in network.plugins() {
            let call = call(network, plugin, command, request, previous);
            self.run(plugin, call, deadline).await?;
        }
        Ok(())
    }

    /// Tells the plugins which attachments are valid, so that they remove the resources of all others. Every plugin is
    /// called even if one fails. Does nothing if the network's version has no GC or its configuration disables it.
    ///
    /// # Errors
    /// The first plugin's error, after all have been called.
    pub async fn gc(&self, network: &NetworkConfigList, valid: &[AttachmentId]) -> Result<(), Error> {
        if !network.version().has_status_and_gc() || network.disable_gc() {
            return Ok(());
        }
        self.observed(None, Command::Gc, self.gc_chain(network, valid))
            .await
    }

    async fn gc_chain(&self, network: &NetworkConfigList, valid: &[AttachmentId]) -> Result<(), Error> {
        let deadline = Deadline::after(self.timeouts.other);
        let mut first = Ok(());
        for plugin in network.plugins() {
            let mut call = call(network, plugin, Command::Gc, &Request::default(), None);
            // The text of 1.1.0 and the plugins disagree on the key's name.
            for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
                call.config.insert(key.to_owned(), json!(valid));
            }
            let outcome = self.run(plugin, call, deadline).await;
            if first.is_ok() {
                first = outcome.map(drop);
            }
        }
        first
    }

    async fn run(&self, plugin: &PluginConfig, call: Call, deadline: Deadline) -> Result<Value, Error> {
        let name = plugin.plugin_type();
        self.observed(Some(name), call.command, self.plugins.run(name, call, deadline))
            .await
    }

    async fn observed<T>(
        &self,
        plugin: Option<&str>,
        command: Command,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let since = Instant::now();
        let span = |plugin| tracing::trace_span!("cni", otel.name = plugin, %command);
        let span = plugin.map_or_else(tracing::Span::none, span);
        let outcome = work.instrument(span).await;
        if let Some(observer) = self.observer {
            observer(&Observed {
                plugin,
                command,
                took: since.elapsed(),
                error: outcome.as_ref().err(),
            });
        }
        outcome
    }

    async fn cached(&self, container: &str) -> Result<Vec<CachedAttachment>, Error> {
        let (cache, container) = (self.cache.clone(), container.to_owned());
        blocking(move || cache.entries_of(&container)).await
    }

    async fn forget(&self, entry: &CachedAttachment) -> Result<(), Error> {
        let (cache, entry) = (self.cache.clone(), entry.clone());
        blocking(move || cache.remove(&entry.network_name, &entry.container_id, &entry.if_name)).await
    }

    async fn save(
        &self,
        network: &NetworkConfigList,
        request: &Request,
        result: &Value,
    ) -> Result<(), Error> {
        let mut entry = CachedAttachment::new(
            &request.container_id,
            &request.if_name,
            network.name(),
            network.bytes().to_vec(),
        );
        entry.netns = request.netns.to_string_lossy().into_owned();
        entry.cni_args = Some(request.args.clone()).filter(|args| !args.is_empty());
        entry.capability_args =
            Some(request.capability_args.clone()).filter(|arguments| !arguments.is_empty());
        entry.result = Some(result.clone());
        let cache = self.cache.clone();
        blocking(move || cache.save(&entry)).await
    }
}

/// Runs `work` on a blocking thread. A panic in it continues in the caller.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The tokio runtime is shutting down and drops this future too.
            Err(_) => std::future::pending().await,
        },
    }
}

fn call(
    network: &NetworkConfigList,
    plugin: &PluginConfig,
    command: Command,
    request: &Request,
    previous: Option<&Value>,
) -> Call {
    let mut config = plugin.object().clone();
    config.insert("name".to_owned(), Value::from(network.name()));
    config.insert("cniVersion".to_owned(), Value::from(network.version().as_str()));
    if let Some(previous) = previous {
        config.insert("prevResult".to_owned(), previous.clone());
    }
    let arguments: Map<String, Value> = request
        .capability_args
        .iter()
        .filter(|(name, _)| plugin.has_capability(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if !arguments.is_empty() {
        config.insert("runtimeConfig".to_owned(), Value::Object(arguments));
    }
    Call {
        command,
        container_id: request.container_id.clone(),
        netns: request.netns.clone(),
        if_name: request.if_name.clone(),
        args: request.args.clone(),
        config,
    }
}

fn invalid(field: &'static str, value: &str, expected: &'static str) -> Error {
    Error::InvalidParameter {
        field,
        value: value.to_owned(),
        expected,
    }
}

fn validate(request: &Request) -> Result<(), Error> {
    if !is_identifier(&request.container_id) {
        let expected = "letters, digits, `_`, `.` and `-`, beginning with a letter or digit";
        return Err(invalid("CNI_CONTAINERID", &request.container_id, expected));
    }
    let name = request.if_name.as_str();
    let plain = !name.contains(|c: char| matches!(c, '/' | ':' | '\0') || c.is_whitespace());
    if name.is_empty() || name.len() > 15 || matches!(name, "." | "..") || !plain {
        return Err(invalid(
            "CNI_IFNAME",
            name,
            "1 to 15 bytes without `/`, `:` and white space",
        ));
    }
    if request.netns.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(invalid(
            "CNI_NETNS",
            &request.netns.to_string_lossy(),
            "without NUL",
        ));
    }
    for (key, value) in &request.args {
        if key.is_empty() || key.contains([';', '=', '\0']) {
            return Err(invalid("CNI_ARGS", key, "a key without `;` and `=`"));
        }
        if value.contains([';', '\0']) {
            return Err(invalid("CNI_ARGS", value, "a value without `;`"));
        }
    }
    Ok(())
}
