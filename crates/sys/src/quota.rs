//! Project ids of files (ioctl_xfs_fsgetxattr(2)) and quotas of projects (quotactl_fd(2), kernel 5.14), on all file systems
//! that have them: ext4, f2fs, xfs.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::syscall::check;

/// `FS_IOC_FSGETXATTR`: `_IOR('X', 31, struct fsxattr)`.
const FSGETXATTR: libc::Ioctl = 0x801c_581f_u32 as libc::Ioctl;
/// `FS_IOC_FSSETXATTR`: `_IOW('X', 32, struct fsxattr)`.
const FSSETXATTR: libc::Ioctl = 0x401c_5820_u32 as libc::Ioctl;
/// `FS_XFLAG_PROJINHERIT`: what is made in the directory gets its project.
const PROJINHERIT: u32 = 0x0200;

/// `PRJQUOTA`.
const PROJECT: libc::c_int = 2;
/// `Q_XGETQSTATV`, which the quotas of ext4 know as well.
const GET_STATE: libc::c_int = 0x5808;
/// `FS_QUOTA_PDQ_ACCT`.
const COUNTED: u16 = 1 << 4;
/// `FS_QUOTA_PDQ_ENFD`.
const ENFORCED: u16 = 1 << 5;
/// The unit of limits, `QIF_DQBLKSIZE`.
const BLOCK: u64 = 1024;

/// `struct fsxattr` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    project: u32,
    cowextsize: u32,
    pad: [u8; 8],
}

/// `struct fs_quota_statv` of linux/dqblk_xfs.h, of which only the beginning matters.
#[repr(C)]
#[derive(Default)]
struct State {
    version: i8,
    pad: u8,
    flags: u16,
    in_core: u32,
    files: [u64; 9],
    rest: [u64; 11],
}

/// What a file system does about projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProjectQuotaState {
    /// It counts what they use.
    pub counted: bool,
    /// It enforces their limits.
    pub enforced: bool,
}

/// Usage and limit of a project.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProjectQuota {
    /// Space in bytes.
    pub bytes: u64,
    /// Files, directories and everything else.
    pub inodes: u64,
    /// The hard limit of `bytes`; 0: none.
    pub limit: u64,
}

/// The project of a file or directory.
///
/// # Errors
/// The errno of ioctl(2): ENOTTY if the file system has no projects; EBADF with `O_PATH`.
pub fn project_of(file: BorrowedFd<'_>) -> Result<u32, Errno> {
    Ok(attributes(file)?.project)
}

/// Gives a directory a project, which everything that is made in it then inherits.
///
/// # Errors
/// As [`project_of`]; EOPNOTSUPP if this file system was made without projects.
pub fn set_project(directory: BorrowedFd<'_>, project: u32) -> Result<(), Errno> {
    let mut attributes = attributes(directory)?;
    attributes.project = project;
    attributes.xflags |= PROJINHERIT;
    // SAFETY: the argument is a live fsxattr, which the kernel only reads.
    let result = unsafe { libc::ioctl(directory.as_raw_fd(), FSSETXATTR, &raw const attributes) };
    check(result.into()).map(drop)
}

fn attributes(file: BorrowedFd<'_>) -> Result<Attributes, Errno> {
    let mut attributes = Attributes::default();
    // SAFETY: the argument is a live fsxattr, and every bit pattern that the kernel writes is valid in its integers.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), FSGETXATTR, &raw mut attributes) };
    check(result.into())?;
    Ok(attributes)
}

/// Whether the file system of `file` has quotas for projects.
///
/// # Errors
/// The errno of quotactl_fd(2): ENOSYS if it has no quotas at all, or none are on.
pub fn project_quota_state(file: BorrowedFd<'_>) -> Result<ProjectQuotaState, Errno> {
    let mut state = State {
        version: 1,
        ..State::default()
    };
    // SAFETY: for this command the kernel reads and writes one fs_quota_statv, which `state` has room for.
    unsafe { quotactl(file, GET_STATE, 0, (&raw mut state).cast()) }?;
    Ok(ProjectQuotaState {
        counted: state.flags & COUNTED != 0,
        enforced: state.flags & ENFORCED != 0,
    })
}

/// Usage and limit of a project on the file system of `file`. Needs CAP_SYS_ADMIN.
///
/// # Errors
/// The errno of quotactl_fd(2): ESRCH if projects are not counted. A project without files has zeros.
pub fn project_quota(file: BorrowedFd<'_>, project: u32) -> Result<ProjectQuota, Errno> {
    let mut quota = no_quota();
    // SAFETY: for this command the kernel writes one dqblk, which is live, and every bit pattern is valid in its integers.
    match unsafe { quotactl(file, libc::Q_GETQUOTA, project, (&raw mut quota).cast()) } {
        // On xfs, of a project that was never used.
        Err(Errno::NOENT) => return Ok(ProjectQuota::default()),
        result => result?,
    }
    Ok(ProjectQuota {
        bytes: quota.dqb_curspace,
        inodes: quota.dqb_curinodes,
        limit: quota.dqb_bhardlimit.saturating_mul(BLOCK),
    })
}

/// Limits the space of a project on the file system of `file`; 0 is no limit. Counts in KiB, rounded down. Needs
/// CAP_SYS_ADMIN.
///
/// # Errors
/// The errno of quotactl_fd(2): ESRCH if projects are not counted.
pub fn set_project_limit(file: BorrowedFd<'_>, project: u32, bytes: u64) -> Result<(), Errno> {
    let mut quota = no_quota();
    quota.dqb_bhardlimit = bytes / BLOCK;
    quota.dqb_valid = libc::QIF_BLIMITS;
    // SAFETY: for this command the kernel reads one dqblk, which is live.
    unsafe { quotactl(file, libc::Q_SETQUOTA, project, (&raw mut quota).cast()) }
}

fn no_quota() -> libc::dqblk {
    libc::dqblk {
        dqb_bhardlimit: 0,
        dqb_bsoftlimit: 0,
        dqb_curspace: 0,
        dqb_ihardlimit: 0,
        dqb_isoftlimit: 0,
        dqb_curinodes: 0,
        dqb_btime: 0,
        dqb_itime: 0,
        dqb_valid: 0,
    }
}

/// # Safety
/// `argument` is what `command` reads and writes for projects.
unsafe fn quotactl(
    file: BorrowedFd<'_>,
    command: libc::c_int,
    project: u32,
    argument: *mut libc::c_void,
) -> Result<(), Errno> {
    // SAFETY: the argument is the caller's contract.
    let result = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            file.as_raw_fd(),
            libc::QCMD(command, PROJECT),
            project,
            argument,
        )
    };
    check(result).map(drop)
}
