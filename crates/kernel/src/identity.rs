//! One user for everything: for programs that give up being root where there is no other user.
//!
//! An ordinary user's namespace has a single user in it. Programs that change to another one for safety (tcpdump
//! does) would end there with an error, though nothing could be gained: root in that namespace is its maker.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "constants of the kernel's headers, all far below 2^16, and lengths of arrays here"
)]

use nix::errno::Errno;

/// The value of `AUDIT_ARCH_*` in linux/audit.h for the calls that this program was built with.
const ARCHITECTURE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else {
    None
};

/// The calls that change who a process is.
const CALLS: [libc::c_long; 9] = [
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
];

/// Instructions of the filter: two loads and a comparison before the calls, two answers after them.
const LENGTH: usize = CALLS.len() + 5;

/// From here on, this process and its children change their user and groups with success and without effect.
///
/// Allocates nothing. Errors: ENOSYS or EINVAL where the kernel has no such filters, EPERM without the rights
/// that a user namespace gives.
pub(crate) fn keep() -> Result<(), Errno> {
    let Some(architecture) = ARCHITECTURE else { return Err(Errno::ENOSYS) };
    let mut filter = filter(architecture);
    let program = libc::sock_fprog { len: LENGTH as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which lives until the call returns, and checks every instruction.
    let answer = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    };
    Errno::result(answer).map(drop)
}

/// Each call jumps to the answer at the end; all else, and every call of another architecture, is allowed.
fn filter(architecture: u32) -> [libc::sock_filter; LENGTH] {
    const NUMBER: u32 = 0;
    const ARCH: u32 = 4;
    let load = |offset| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let equal =
        |value, yes, no| instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, value);
    let answer = |value| instruction(libc::BPF_RET | libc::BPF_K, 0, 0, value);
    let mut filter = [answer(libc::SECCOMP_RET_ALLOW); LENGTH];
    let calls = CALLS.len() as u8;
    filter[0] = load(ARCH);
    filter[1] = equal(architecture, 0, calls + 1);
    filter[2] = load(NUMBER);
    for (at, call) in (0..calls).zip(CALLS) {
        filter[usize::from(at) + 3] = equal(call as u32, calls - at, 0);
    }
    filter[LENGTH - 1] = answer(libc::SECCOMP_RET_ERRNO);
    filter
}

fn instruction(code: u32, yes: u8, no: u8, value: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: yes, jf: no, k: value }
}
