//! Chains and rules in the tables of iptables, as iptables would make them, without starting it.
//!
//! Where the node's iptables is its nf_tables variant, everything is a question to the kernel and one transaction. Its
//! legacy variant, releases before 1.8.8, and arguments that only iptables itself can read need `iptables-save` and
//! `iptables-restore`, each started once for an operation.
//!
//! Chains grow with the number of pods, and the kernel finds a rule only by its number. So the numbers of rules are
//! remembered, as a hint: a rule is fetched by its number and compared before it is taken for the one that is meant, and
//! the transaction fails if anything has changed since. Without the hint the chain is listed. A chain that does not exist
//! has no rule that leads to it, so that neither the first ADD nor the second DEL of a container lists anything.
//!
//! It must never delete a rule that it has not compared, or change the policy of a chain.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use pausa_cni::Failure;
use pausa_netfilter::iptables::{Match, Rule, base_chain};
use pausa_netfilter::{Chain, Change, Error, ErrorKind, Family, Netfilter, NewRule, Place, Rule as Listed};

use crate::common::failed;
use crate::kernel::{RETRIES, forget, hint, hinted, remember};

/// The tables of one family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Iptables {
    family: Family,
    by: By,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Kernel,
    /// Programs whose names begin so.
    Programs(&'static str),
}

/// Something that has to be there.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    /// A chain.
    Chain(String),
    /// A rule of a chain; a new one goes to this place.
    Rule(String, Rule, Place),
    /// A chain of one container, its rules, and the rules of another chain that lead to it.
    Own {
        chain: String,
        rules: Vec<Rule>,
        from: &'static str,
        entries: Vec<Rule>,
    },
}

impl Iptables {
    /// None if the node has no iptables for the family, or not the family. It is asked once.
    pub(crate) fn of(family: Family) -> Option<Self> {
        static V4: OnceLock<Option<By>> = OnceLock::new();
        static V6: OnceLock<Option<By>> = OnceLock::new();
        let (once, name) = match family {
            Family::V6 => (&V6, "ip6tables"),
            _ => (&V4, "iptables"),
        };
        let has_family = || family != Family::V6 || Path::new("/proc/net/if_inet6").exists();
        let by = (*once.get_or_init(|| has_family().then(|| ask(name)).flatten()))?;
        Some(Self { family, by })
    }

    /// Makes what is missing.
    pub(crate) fn ensure(self, table: &str, wanted: &[Wanted]) -> Result<(), Failure> {
        let outcome = match (self.by, rendered(self.family, wanted)) {
            (By::Kernel, Some(rules)) => {
                Netfilter::with(|netfilter| self.ensure_in_kernel(netfilter, table, wanted, &rules))
            }
            (By::Kernel, None) => return self.ensure_by_programs(self.name(), table, wanted),
            (By::Programs(name), _) => return self.ensure_by_programs(name, table, wanted),
        };
        outcome.map_err(failed(format!("cannot change table {table} of {}", self.name())))
    }

    /// The first of these rules that a chain does not have.
    pub(crate) fn missing<'a>(
        self,
        table: &str,
        wanted: &'a [(&str, Rule)],
    ) -> Result<Option<&'a (&'a str, Rule)>, Failure> {
        if self.by == By::Kernel {
            let rules: Option<Vec<_>> = wanted.iter().map(|(_, rule)| rule.render(self.family)).collect();
            if let Some(rules) = rules {
                let wanted_rules: Vec<_> = wanted
                    .iter()
                    .zip(&rules)
                    .map(|((chain, rule), new)| (*chain, rule, new))
                    .collect();
                let found =
                    Netfilter::with(|netfilter| self.find(netfilter, table, &[], &wanted_rules, false));
                let found = found.map_err(failed(format!("cannot read table {table} of {}", self.name())))?;
                let at = found.rules.iter().position(Option::is_none);
                return Ok(at.and_then(|at| wanted.get(at)));
            }
        }
        let name = self.program();
        let saved = Saved::read(name, table)?;
        for each in wanted {
            let (chain, rule) = each;
            let there = if has_arguments(rule) {
                exists(name, table, chain, rule)?
            } else {
                saved.has(chain, &rule.to_string())
            };
            if !there {
                return Ok(Some(each));
            }
        }
        Ok(None)
    }

    /// Deletes one rule each, where a chain has it.
    pub(crate) fn remove_rules(self, table: &str, unwanted: &[(&str, Rule)]) -> Result<(), Failure> {
        if let By::Programs(name) = self.by {
            return remove_rules_by_programs(name, table, unwanted);
        }
        Netfilter::with(|netfilter| self.remove_rules_in_kernel(netfilter, table, unwanted)).map_err(failed(
            format!("cannot delete rules of table {table} of {}", self.name()),
        ))
    }

    /// Deletes chains of one container, and the rules of the chain named second that lead to the first.
    pub(crate) fn remove_chains(self, table: &str, unwanted: &[(&str, &str)]) -> Result<(), Failure> {
        if let By::Programs(name) = self.by {
            return remove_chains_by_programs(name, table, unwanted);
        }
        Netfilter::with(|netfilter| self.remove_chains_in_kernel(netfilter, table, unwanted)).map_err(failed(
            format!("cannot delete chains of table {table} of {}", self.name()),
        ))
    }

    const fn name(self) -> &'static str {
        match self.family {
            Family::V6 => "ip6tables",
            _ => "iptables",
        }
    }

    const fn program(self) -> &'static str {
        match self.by {
            By::Kernel => self.name(),
            By::Programs(name) => name,
        }
    }

    const fn chain<'a>(self, table: &'a str, name: &'a str) -> Chain<'a> {
        Chain {
            family: self.family,
            table,
            name,
        }
    }

    fn ensure_in_kernel(
        self,
        netfilter: &mut Netfilter,
        table: &str,
        wanted: &[Wanted],
        rendered: &[NewRule],
    ) -> Result<(), Error> {
        // At first it is taken for granted that the chains of containers are missing, and those of iptables are not.
        let (mut own_is_new, mut bases) = (true, false);
        let mut last = None;
        for _ in 0..RETRIES {
            match self.try_to_ensure(netfilter, table, (wanted, rendered), own_is_new, bases) {
                Err(error) if error.kind() == ErrorKind::Changed => last = Some(error),
                Err(error) if error.kind() == ErrorKind::Exists && own_is_new => own_is_new = false,
                Err(error) if error.kind() == ErrorKind::NotFound && !bases => bases = true,
                outcome => return outcome,
            }
        }
        last.map_or(Ok(()), Err)
    }

    fn try_to_ensure(
        self,
        netfilter: &mut Netfilter,
        table: &str,
        (wanted, rendered): (&[Wanted], &[NewRule]),
        own_is_new: bool,
        bases: bool,
    ) -> Result<(), Error> {
        // All rules in order, with whether they have to be looked for.
        let mut chains = Vec::new();
        let mut rules = Vec::new();
        let mut own = Vec::new();
        for each in wanted {
            match each {
                Wanted::Chain(name) => chains.push(name.as_str()),
                Wanted::Rule(chain, rule, place) => rules.push((chain.as_str(), rule, *place, None)),
                Wanted::Own {
                    chain,
                    rules: inner,
                    from,
                    entries,
                } => {
                    own.push(chain.as_str());
                    rules.extend(
                        inner
                            .iter()
                            .map(|rule| (chain.as_str(), rule, Place::Last, Some(chain))),
                    );
                    rules.extend(entries.iter().map(|rule| (*from, rule, Place::Last, Some(chain))));
                }
            }
        }
        let rules: Vec<_> = rules.into_iter().zip(rendered).collect();
        let look_for: Vec<_> = rules
            .iter()
            .filter(|((_, _, _, owner), _)| owner.is_none() || !own_is_new)
            .map(|((chain, rule, ..), new)| (*chain, *rule, *new))
            .collect();
        let mut asked_chains = chains.clone();
        if !own_is_new {
            asked_chains.extend(&own);
        }
        let (generation, exist, found) = if look_for.is_empty() && asked_chains.is_empty() {
            (None, Vec::new(), Vec::new())
        } else {
            let known = self.find(netfilter, table, &asked_chains, &look_for, own_is_new)?;
            (Some(known.generation), known.chains, known.rules)
        };

        let mut changes = Vec::new();
        if bases {
            changes.push(Change::AddTable {
                family: self.family,
                table,
                comment: None,
            });
            let mut names: Vec<_> = rules.iter().map(|((chain, ..), _)| *chain).collect();
            names.sort_unstable();
            names.dedup();
            changes.extend(
                names
                    .into_iter()
                    .filter_map(|name| base_chain(self.chain(table, name))),
            );
        }
        for (name, _) in asked_chains.iter().zip(&exist).filter(|(_, exists)| !**exists) {
            let chain = self.chain(table, name);
            changes.push(Change::AddChain { chain, comment: None });
        }
        if own_is_new {
            changes.extend(own.iter().map(|name| Change::CreateChain {
                chain: self.chain(table, name),
            }));
        }
        let mut found = found.into_iter();
        let mut hints = Vec::new();
        for ((chain, rule, place, owner), new) in &rules {
            let looked_for = owner.is_none() || !own_is_new;
            if looked_for && found.next().flatten().is_some() {
                continue;
            }
            // Rules in a container's own chain go with the chain: nobody asks for their numbers.
            let echo = owner.is_none_or(|owner| owner != chain);
            if echo {
                hints.push(match owner {
                    Some(owner) => hint(self.family, table, chain, owner),
                    None => hint(self.family, table, chain, &rule.to_string()),
                });
            }
            changes.push(Change::AddRule {
                chain: self.chain(table, chain),
                rule: new,
                place: *place,
                echo,
            });
        }
        let handles = netfilter.commit(&changes, generation)?;
        remember(hints.into_iter().zip(handles));
        Ok(())
    }

    /// Which chains and rules exist: with the hints in one question, and a listing for the chains of the rest.
    fn find(
        self,
        netfilter: &mut Netfilter,
        table: &str,
        chains: &[&str],
        rules: &[(&str, &Rule, &NewRule)],
        learn: bool,
    ) -> Result<Known, Error> {
        let hints: Vec<_> = rules
            .iter()
            .map(|(chain, rule, _)| hint(self.family, table, chain, &rule.to_string()))
            .collect();
        let asked = hinted(hints.iter().copied());
        let chains: Vec<_> = chains.iter().map(|name| self.chain(table, name)).collect();
        let question = |(at, handle): &(usize, u64)| Some((self.chain(table, rules.get(*at)?.0), *handle));
        let questions: Vec<_> = asked.iter().filter_map(question).collect();
        let answers = netfilter.look_up(&chains, &questions)?;
        let mut found = vec![None; rules.len()];
        for ((at, _), answer) in asked.iter().zip(answers.rules) {
            let same = |listed: &Listed| {
                let wanted = rules.get(*at);
                wanted.is_some_and(|(_, _, new)| listed.does(new))
            };
            if let (Some(listed), Some(slot)) = (answer.filter(same), found.get_mut(*at)) {
                *slot = Some(listed.handle);
            }
        }
        let mut lists: BTreeMap<&str, Vec<Listed>> = BTreeMap::new();
        let (mut learned, mut wrong) = (Vec::new(), Vec::new());
        for (((chain, _, new), slot), hint) in rules.iter().zip(&mut found).zip(hints) {
            if slot.is_some() {
                continue;
            }
            if !lists.contains_key(chain) {
                lists.insert(chain, netfilter.rules(self.chain(table, chain))?);
            }
            let list = lists.get(chain).map(Vec::as_slice).unwrap_or_default();
            let listed = list.iter().find(|listed| listed.does(new));
            *slot = listed.map(|listed| listed.handle);
            learned.extend(slot.map(|handle| (hint, handle)));
            wrong.push(hint);
        }
        forget(wrong.into_iter());
        if learn {
            remember(learned.into_iter());
        }
        Ok(Known {
            generation: answers.generation,
            chains: answers.chains,
            rules: found,
        })
    }

    fn remove_rules_in_kernel(
        self,
        netfilter: &mut Netfilter,
        table: &str,
        unwanted: &[(&str, Rule)],
    ) -> Result<(), Error> {
        // What cannot be rendered has not been made here either.
        let rendered: Vec<_> = unwanted
            .iter()
            .filter_map(|(chain, rule)| Some((*chain, rule, rule.render(self.family)?)))
            .collect();
        let rules: Vec<_> = rendered
            .iter()
            .map(|(chain, rule, new)| (*chain, *rule, new))
            .collect();
        let mut last = None;
        for _ in 0..RETRIES {
            let found = self.find(netfilter, table, &[], &rules, false)?;
            let changes: Vec<_> = rules
                .iter()
                .zip(found.rules)
                .filter_map(|((chain, ..), handle)| {
                    let chain = self.chain(table, chain);
                    Some(Change::DeleteRule {
                        chain,
                        handle: handle?,
                    })
                })
                .collect();
            match netfilter.commit(&changes, Some(found.generation)) {
                Err(error) if error.kind() == ErrorKind::Changed => last = Some(error),
                outcome => {
                    forget(
                        rules
                            .iter()
                            .map(|(chain, rule, _)| hint(self.family, table, chain, &rule.to_string())),
                    );
                    return outcome.map(drop);
                }
            }
        }
        last.map_or(Ok(()), Err)
    }

    fn remove_chains_in_kernel(
        self,
        netfilter: &mut Netfilter,
        table: &str,
        unwanted: &[(&str, &str)],
    ) -> Result<(), Error> {
        let hint = |(own, from): &(&str, &str)| hint(self.family, table, from, own);
        // Whether the hints are not enough.
        let mut list = false;
        let mut last = None;
        for _ in 0..RETRIES {
            let asked = hinted(unwanted.iter().map(hint));
            let chains: Vec<_> = unwanted.iter().map(|(own, _)| self.chain(table, own)).collect();
            let question =
                |(at, handle): &(usize, u64)| Some((self.chain(table, unwanted.get(*at)?.1), *handle));
            let questions: Vec<_> = asked.iter().filter_map(question).collect();
            let found = netfilter.look_up(&chains, &questions)?;
            let mut changes = Vec::new();
            for (at, (own, from)) in unwanted.iter().enumerate() {
                if !found.chains.get(at).copied().unwrap_or_default() {
                    continue;
                }
                let from = self.chain(table, from);
                let hinted = asked.iter().zip(&found.rules).filter(|((of, _), _)| *of == at);
                let mut entries: Vec<_> = hinted.map(|(_, rule)| rule.clone()).collect();
                if list || entries.is_empty() || entries.iter().any(Option::is_none) {
                    entries = netfilter.rules(from)?.into_iter().map(Some).collect();
                }
                let leads_here = entries
                    .into_iter()
                    .flatten()
                    .filter(|rule| rule.target() == Some(own));
                changes.extend(leads_here.map(|rule| Change::DeleteRule {
                    chain: from,
                    handle: rule.handle,
                }));
                let chain = self.chain(table, own);
                changes.extend([Change::Flush { chain }, Change::DeleteChain { chain }]);
            }
            match netfilter.commit(&changes, Some(found.generation)) {
                Err(error) if error.kind() == ErrorKind::Changed => last = Some(error),
                Err(error) if error.kind() == ErrorKind::Busy && !list => list = true,
                outcome => {
                    forget(unwanted.iter().map(hint));
                    return outcome.map(drop);
                }
            }
        }
        last.map_or(Ok(()), Err)
    }

    fn ensure_by_programs(self, name: &str, table: &str, wanted: &[Wanted]) -> Result<(), Failure> {
        let saved = Saved::read(name, table)?;
        let (mut chains, mut lines) = (Vec::new(), Vec::new());
        let add = |lines: &mut Vec<String>, chain: &str, rule: &Rule, place| {
            let operation = match place {
                Place::First => "-I",
                Place::Last => "-A",
            };
            lines.push(format!("{operation} {chain} {rule}"));
        };
        for each in wanted {
            match each {
                Wanted::Chain(chain) => chains.push(chain),
                Wanted::Rule(chain, rule, place) => {
                    if !saved.has(chain, &rule.to_string()) {
                        add(&mut lines, chain, rule, *place);
                    }
                }
                Wanted::Own {
                    chain,
                    rules,
                    from,
                    entries,
                } => {
                    chains.push(chain);
                    for rule in rules {
                        if !saved.has(chain, &rule.to_string()) {
                            add(&mut lines, chain, rule, Place::Last);
                        }
                    }
                    // How iptables prints arbitrary arguments is its own business: such rules are made again.
                    let again = entries.iter().any(has_arguments);
                    if again {
                        lines.extend(
                            saved
                                .leading_to(from, chain)
                                .map(|rule| format!("-D {from} {rule}")),
                        );
                    }
                    for rule in entries {
                        if again || !saved.has(from, &rule.to_string()) {
                            add(&mut lines, from, rule, Place::Last);
                        }
                    }
                }
            }
        }
        // A line for a chain that exists would empty it.
        let new = chains
            .into_iter()
            .filter(|chain| !saved.chains.contains_key(*chain));
        restore(
            name,
            table,
            new.map(|chain| format!(":{chain} - [0:0]")).chain(lines),
        )
    }
}

/// All rules in their order, as the kernel takes them; none if only iptables can write one.
fn rendered(family: Family, wanted: &[Wanted]) -> Option<Vec<NewRule>> {
    let rules = wanted.iter().flat_map(|each| match each {
        Wanted::Chain(_) => Vec::new(),
        Wanted::Rule(_, rule, _) => vec![rule],
        Wanted::Own { rules, entries, .. } => rules.iter().chain(entries).collect(),
    });
    rules.map(|rule| rule.render(family)).collect()
}

fn has_arguments(rule: &Rule) -> bool {
    rule.matches
        .iter()
        .any(|part| matches!(part, Match::Arguments(_)))
}

/// `iptables v1.8.9 (nf_tables)`
fn ask(name: &'static str) -> Option<By> {
    let output = match Command::new(name).arg("--version").stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => output,
        Ok(_) => return None,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(program = name, %error, "cannot ask a program for its version; it is not used");
            }
            return None;
        }
    };
    Some(by(name, &String::from_utf8_lossy(&output.stdout)))
}

/// Since 1.8.8 the nf_tables variant writes, and reads, the expressions that are rendered here.
fn by(name: &'static str, version: &str) -> By {
    const FIRST: [u32; 3] = [1, 8, 8];
    let number = version
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.strip_prefix('v'));
    let number: Vec<u32> = number
        .unwrap_or_default()
        .split('.')
        .filter_map(|part| part.parse().ok())
        .collect();
    if version.contains("(nf_tables)") && number.as_slice() >= FIRST.as_slice() {
        By::Kernel
    } else {
        By::Programs(name)
    }
}

/// What was found, in the order of the questions.
struct Known {
    generation: u32,
    chains: Vec<bool>,
    /// The numbers of the rules that exist.
    rules: Vec<Option<u64>>,
}

/// What `iptables-save` prints of one table.
#[derive(Debug, Default)]
struct Saved {
    /// The rules of each chain.
    chains: BTreeMap<String, Vec<String>>,
}

impl Saved {
    fn read(name: &str, table: &str) -> Result<Self, Failure> {
        let program = format!("{name}-save");
        let output = Command::new(&program)
            .args(["-t", table])
            .stdin(Stdio::null())
            .output();
        let output = output.map_err(failed(format!("cannot start {program}")))?;
        if !output.status.success() {
            return Err(unsuccessful(&program, &output.stderr));
        }
        Ok(Self::parse(&String::from_utf8_lossy(&output.stdout)))
    }

    fn parse(text: &str) -> Self {
        let mut saved = Self::default();
        for line in text.lines() {
            if let Some(chain) = line.strip_prefix(':') {
                let name = chain.split(' ').next().unwrap_or_default();
                saved.chains.entry(name.to_owned()).or_default();
            } else if let Some((chain, rule)) = line.strip_prefix("-A ").and_then(|rule| rule.split_once(' '))
            {
                saved
                    .chains
                    .entry(chain.to_owned())
                    .or_default()
                    .push(rule.to_owned());
            }
        }
        saved
    }

    fn rules(&self, chain: &str) -> impl Iterator<Item = &str> {
        self.chains.get(chain).into_iter().flatten().map(String::as_str)
    }

    fn has(&self, chain: &str, rule: &str) -> bool {
        self.rules(chain).any(|known| known == rule)
    }

    fn leading_to(&self, chain: &str, target: &str) -> impl Iterator<Item = &str> {
        let end = format!("-j {target}");
        self.rules(chain).filter(move |rule| {
            rule.strip_suffix(&end)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with(' '))
        })
    }
}

/// Makes all changes, or none. An operation that finds nothing to do starts nothing.
fn restore(name: &str, table: &str, lines: impl Iterator<Item = String>) -> Result<(), Failure> {
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() {
        return Ok(());
    }
    let program = format!("{name}-restore");
    let starting = || failed(format!("cannot start {program}"));
    let mut child = Command::new(&program)
        .args(["--noflush", "-w", "30"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(starting())?;
    if let Some(mut input) = child.stdin.take() {
        // It may end before it has read all: then its message says why.
        let _written: io::Result<()> =
            input.write_all(format!("*{table}\n{}\nCOMMIT\n", lines.join("\n")).as_bytes());
    }
    let output = child.wait_with_output().map_err(starting())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(unsuccessful(&program, &output.stderr))
    }
}

fn remove_rules_by_programs(name: &str, table: &str, unwanted: &[(&str, Rule)]) -> Result<(), Failure> {
    let saved = Saved::read(name, table)?;
    let there = unwanted.iter().map(|(chain, rule)| (chain, rule.to_string()));
    let there = there.filter(|(chain, rule)| saved.has(chain, rule));
    restore(
        name,
        table,
        there.map(|(chain, rule)| format!("-D {chain} {rule}")),
    )
}

fn remove_chains_by_programs(name: &str, table: &str, unwanted: &[(&str, &str)]) -> Result<(), Failure> {
    let saved = Saved::read(name, table)?;
    let mut lines = Vec::new();
    for (own, from) in unwanted.iter().filter(|(own, _)| saved.chains.contains_key(*own)) {
        lines.extend(
            saved
                .leading_to(from, own)
                .map(|rule| format!("-D {from} {rule}")),
        );
        lines.extend([format!("-F {own}"), format!("-X {own}")]);
    }
    restore(name, table, lines.into_iter())
}

/// Asks iptables whether there is a rule whose arguments only it can read.
fn exists(name: &str, table: &str, chain: &str, rule: &Rule) -> Result<bool, Failure> {
    let output = Command::new(name)
        .args(["-w", "30", "-t", table, "-C", chain])
        .args(rule.arguments())
        .stdin(Stdio::null())
        .output();
    Ok(output
        .map_err(failed(format!("cannot start {name}")))?
        .status
        .success())
}

fn unsuccessful(program: &str, stderr: &[u8]) -> Failure {
    const LONGEST: usize = 1024;
    let stderr = stderr.get(..LONGEST.min(stderr.len())).unwrap_or_default();
    Failure {
        details: String::from_utf8_lossy(stderr).trim().to_owned(),
        ..Failure::internal(format!("{program} failed"))
    }
}
