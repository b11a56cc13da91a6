//! Seccomp policies, in both directions. Only names that the OCI runtime spec has.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSyscall};

use super::check::{SpecError, invalid, parse, path, text, texts};
use super::some;
use crate::proto::{self, OptionalUInt32};

pub(super) fn to_oci(policy: &proto::LinuxSeccomp) -> Result<LinuxSeccomp, SpecError> {
    let architectures = policy.architectures.iter().map(|name| {
        let expected = "a name of an architecture, such as SCMP_ARCH_X86_64";
        parse("linux.seccomp_policy.architectures", name, expected)
    });
    let flags = policy.flags.iter().map(|name| {
        let expected = "a name of a flag, such as SECCOMP_FILTER_FLAG_LOG";
        parse("linux.seccomp_policy.flags", name, expected)
    });
    let listener = Some(&policy.listener_path).filter(|path| !path.is_empty());
    let listener = listener.map(|listener| path("linux.seccomp_policy.listener_path", listener));
    let metadata = text(
        "linux.seccomp_policy.listener_metadata",
        &policy.listener_metadata,
    )?;
    let syscalls = policy.syscalls.iter().map(syscall);
    let mut oci = LinuxSeccomp::default();
    oci.set_default_action(action(
        "linux.seccomp_policy.default_action",
        &policy.default_action,
    )?)
    .set_default_errno_ret(policy.default_errno.map(|errno| errno.value))
    .set_architectures(some(architectures.collect::<Result<_, _>>()?))
    .set_flags(some(flags.collect::<Result<_, _>>()?))
    .set_listener_path(listener.transpose()?)
    .set_listener_metadata(Some(metadata).filter(|metadata| !metadata.is_empty()))
    .set_syscalls(some(syscalls.collect::<Result<_, _>>()?));
    Ok(oci)
}

fn syscall(rule: &proto::LinuxSyscall) -> Result<LinuxSyscall, SpecError> {
    const NAMES: &str = "linux.seccomp_policy.syscalls.names";
    if rule.names.is_empty() {
        return Err(invalid(NAMES, "", "a list that is not empty"));
    }
    let args = rule.args.iter().map(argument);
    let mut oci = LinuxSyscall::default();
    oci.set_names(texts(NAMES, &rule.names)?)
        .set_action(action("linux.seccomp_policy.syscalls.action", &rule.action)?)
        .set_errno_ret(rule.errno_ret.map(|errno| errno.value))
        .set_args(some(args.collect::<Result<_, _>>()?));
    Ok(oci)
}

fn argument(arg: &proto::LinuxSeccompArg) -> Result<LinuxSeccompArg, SpecError> {
    const INDEX: &str = "linux.seccomp_policy.syscalls.args.index";
    let index = usize::try_from(arg.index).ok().filter(|index| *index < 6);
    let operator = "a name of a comparison, such as SCMP_CMP_EQ";
    let oci = LinuxSeccompArgBuilder::default()
        .index(index.ok_or_else(|| invalid(INDEX, arg.index, "from 0 to 5"))?)
        .value(arg.value)
        .value_two(arg.value_two)
        .op(parse::<oci_spec::runtime::LinuxSeccompOperator>(
            "linux.seccomp_policy.syscalls.args.op",
            &arg.op,
            operator,
        )?);
    oci.build().map_err(|_| invalid(INDEX, arg.index, "from 0 to 5"))
}

fn action(field: &'static str, name: &str) -> Result<oci_spec::runtime::LinuxSeccompAction, SpecError> {
    parse(field, name, "a name of an action, such as SCMP_ACT_ERRNO")
}

pub(super) fn from_oci(policy: &LinuxSeccomp) -> proto::LinuxSeccomp {
    let errno = |value: u32| OptionalUInt32 { value };
    let argument = |arg: &LinuxSeccompArg| proto::LinuxSeccompArg {
        index: u32::try_from(arg.index()).unwrap_or(u32::MAX),
        value: arg.value(),
        value_two: arg.value_two().unwrap_or_default(),
        op: arg.op().to_string(),
    };
    let syscall = |rule: &LinuxSyscall| proto::LinuxSyscall {
        names: rule.names().clone(),
        action: rule.action().to_string(),
        errno_ret: rule.errno_ret().map(errno),
        args: rule.args().iter().flatten().map(argument).collect(),
    };
    let listener = policy.listener_path().as_ref();
    proto::LinuxSeccomp {
        default_action: policy.default_action().to_string(),
        default_errno: policy.default_errno_ret().map(errno),
        architectures: policy
            .architectures()
            .iter()
            .flatten()
            .map(ToString::to_string)
            .collect(),
        flags: policy.flags().iter().flatten().map(ToString::to_string).collect(),
        listener_path: listener
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default(),
        listener_metadata: policy.listener_metadata().clone().unwrap_or_default(),
        syscalls: policy.syscalls().iter().flatten().map(syscall).collect(),
    }
}
