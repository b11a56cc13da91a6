//! A process: arguments, environment, working directory.
//!
//! CRI's command replaces the image's ENTRYPOINT *and* CMD; CRI's args alone replace only CMD. The
//! environment is the default PATH, HOSTNAME, the handler's variables, the image's, then CRI's; later ones win. HOME and TERM are
//! added where they are missing.
//!
//! Values of variables may be any bytes (CRI since 0.37), JSON strings may not. The spec therefore carries such
//! a variable twice: readable in `process.env`, and exactly in the annotation [`EXACT_ENV`]. A later daemon that plans
//! an exec from config.json has the exact environment.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oci_spec::image::Config;
use oci_spec::runtime::Spec;

use super::error::OciError;
use crate::config::Handler;
use crate::proto::v1;

/// Annotation with the variables that are not UTF-8: a JSON object from index in `process.env` to base64.
pub(crate) const EXACT_ENV: &str = "io.pausa.process.exact-env";

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(crate) fn args(config: &v1::ContainerConfig, image: Option<&Config>) -> Result<Vec<String>, OciError> {
    let of_image = |list: fn(&Config) -> &Option<Vec<String>>| {
        image.and_then(|image| list(image).as_deref()).unwrap_or_default()
    };
    let command = if config.command.is_empty() {
        of_image(Config::entrypoint)
    } else {
        &config.command
    };
    let args = if config.args.is_empty() && config.command.is_empty() {
        of_image(Config::cmd)
    } else {
        &config.args
    };
    let all: Vec<String> = command.iter().chain(args).cloned().collect();
    match all.first() {
        None => return Err(OciError::NoCommand),
        Some(first) if first.is_empty() => {
            return Err(OciError::invalid("command[0]", "", "the program has no name"));
        }
        Some(_) => {}
    }
    for arg in &all {
        no_nul("command and args", arg)?;
    }
    Ok(all)
}

/// The environment, in bytes.
pub(crate) fn env(
    config: &v1::ContainerConfig,
    image: Option<&Config>,
    hostname: &str,
    home: &str,
    handler: &Handler,
) -> Result<Vec<Vec<u8>>, OciError> {
    let mut env = Environment::default();
    env.set(DEFAULT_PATH.as_bytes().to_vec());
    env.set(format!("HOSTNAME={hostname}").into_bytes());
    for variable in &handler.default_env {
        env.set(variable.entry().as_bytes().to_vec());
    }
    let of_image = image.and_then(|image| image.env().as_deref()).unwrap_or_default();
    for entry in of_image {
        no_nul("the image's Env", entry)?;
        // An entry without a name or without `=` is not a variable.
        if entry.find('=').is_some_and(|at| at > 0) {
            env.set(entry.clone().into_bytes());
        }
    }
    for (index, variable) in config.envs.iter().enumerate() {
        env.set(assignment(index, variable)?);
    }
    env.set_if_absent(format!("HOME={home}").into_bytes());
    if config.tty {
        env.set_if_absent(b"TERM=xterm".to_vec());
    }
    Ok(env.entries)
}

pub(crate) fn cwd(config: &v1::ContainerConfig, image: Option<&Config>) -> Result<PathBuf, OciError> {
    let of_image = image.and_then(|image| image.working_dir().as_deref());
    let (field, cwd) = match (config.working_dir.as_str(), of_image) {
        ("", None | Some("")) => return Ok(PathBuf::from("/")),
        ("", Some(path)) => ("the image's WorkingDir", path),
        (path, _) => ("working_dir", path),
    };
    no_nul(field, cwd)?;
    if cwd.starts_with('/') {
        Ok(PathBuf::from(cwd))
    } else if field == "working_dir" {
        Err(OciError::invalid(field, cwd, "it must be an absolute path"))
    } else {
        // Some builders wrote relative paths, which start at the root.
        Ok(PathBuf::from("/").join(cwd))
    }
}

/// The environment for the spec, and the value of [`EXACT_ENV`] if one of the variables is not UTF-8.
pub(crate) fn to_spec(env: &[Vec<u8>]) -> (Vec<String>, Option<String>) {
    let exact: BTreeMap<usize, String> = env
        .iter()
        .enumerate()
        .filter(|(_, entry)| std::str::from_utf8(entry).is_err())
        .map(|(index, entry)| (index, STANDARD.encode(entry)))
        .collect();
    let readable = env
        .iter()
        .map(|entry| String::from_utf8_lossy(entry).into_owned())
        .collect();
    let annotation = (!exact.is_empty())
        .then(|| serde_json::to_string(&exact).expect("a map of numbers to strings is always JSON"));
    (readable, annotation)
}

/// The exact environment of a spec.
pub(crate) fn from_spec(
    env: Option<&[String]>,
    annotations: Option<&HashMap<String, String>>,
) -> Result<Vec<Vec<u8>>, OciError> {
    let mut exact: Vec<Vec<u8>> = env
        .unwrap_or_default()
        .iter()
        .map(|entry| entry.clone().into_bytes())
        .collect();
    if let Some(text) = annotations.and_then(|all| all.get(EXACT_ENV)) {
        let bad = || OciError::spec("annotations", text, "io.pausa.process.exact-env cannot be read");
        let entries: BTreeMap<usize, String> = serde_json::from_str(text).map_err(|_| bad())?;
        for (index, entry) in entries {
            *exact.get_mut(index).ok_or_else(bad)? = STANDARD.decode(entry).map_err(|_| bad())?;
        }
    }
    Ok(exact)
}

/// Edits a spec by what knows nothing of [`EXACT_ENV`]: variables that it leaves as they are stay exact, wherever they go.
pub(crate) fn keeping_exact_env<E>(
    spec: &mut Spec,
    edit: impl FnOnce(&mut Spec) -> Result<(), E>,
) -> Result<(), E> {
    fn env(spec: &Spec) -> &[String] {
        let process = spec.process().as_ref();
        process
            .and_then(|process| process.env().as_deref())
            .unwrap_or_default()
    }
    let annotations = spec.annotations_mut().as_mut();
    let Some(text) = annotations.and_then(|all| all.remove(EXACT_ENV)) else {
        return edit(spec);
    };
    // Written by `to_spec` a moment ago.
    let exact: BTreeMap<usize, String> = serde_json::from_str(&text).unwrap_or_default();
    let exact: Vec<(String, String)> = exact
        .into_iter()
        .filter_map(|(at, bytes)| Some((env(spec).get(at)?.clone(), bytes)))
        .collect();
    edit(spec)?;
    let exact: BTreeMap<usize, &String> = env(spec)
        .iter()
        .enumerate()
        .filter_map(|(at, entry)| {
            let (_, bytes) = exact.iter().find(|(readable, _)| readable == entry)?;
            Some((at, bytes))
        })
        .collect();
    if !exact.is_empty() {
        let text = serde_json::to_string(&exact).expect("a map of numbers to strings is always JSON");
        let annotations = spec.annotations_mut().get_or_insert_default();
        annotations.insert(EXACT_ENV.to_owned(), text);
    }
    Ok(())
}

/// Adds `TERM` for a process with a terminal, if it is missing.
pub(crate) fn add_term(env: &mut Vec<Vec<u8>>) {
    if !env.iter().any(|entry| name(entry) == b"TERM") {
        env.push(b"TERM=xterm".to_vec());
    }
}

/// Refuses what execve(2) and paths cannot carry.
pub(crate) fn no_nul(field: &'static str, value: &str) -> Result<(), OciError> {
    if value.contains('\0') {
        return Err(OciError::invalid(field, value, "it contains a NUL byte"));
    }
    Ok(())
}

fn assignment(index: usize, variable: &v1::KeyValue) -> Result<Vec<u8>, OciError> {
    let key = &variable.key;
    if key.is_empty() || key.contains(['=', '\0']) {
        let reason = "a variable's name is not empty and has neither = nor NUL";
        return Err(OciError::invalid(format!("envs[{index}].key"), key, reason));
    }
    if variable.value.contains(&0) {
        // The value may be a secret, so the error has the name.
        let field = format!("envs[{index}].value");
        return Err(OciError::invalid(
            field,
            key,
            "the value of this variable contains a NUL byte",
        ));
    }
    Ok([key.as_bytes(), b"=", &variable.value].concat())
}

/// Variables in order of first appearance, the last value counting. Hostile images may have very many.
#[derive(Default)]
struct Environment {
    entries: Vec<Vec<u8>>,
    places: HashMap<Vec<u8>, usize>,
}

impl Environment {
    fn set(&mut self, entry: Vec<u8>) {
        match self.places.get(name(&entry)) {
            Some(at) => self.entries[*at] = entry,
            None => self.push(entry),
        }
    }

    fn set_if_absent(&mut self, entry: Vec<u8>) {
        if !self.places.contains_key(name(&entry)) {
            self.push(entry);
        }
    }

    fn push(&mut self, entry: Vec<u8>) {
        self.places.insert(name(&entry).to_vec(), self.entries.len());
        self.entries.push(entry);
    }
}

fn name(entry: &[u8]) -> &[u8] {
    entry.split(|byte| *byte == b'=').next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
