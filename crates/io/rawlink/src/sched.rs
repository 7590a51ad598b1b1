use std::io;

/// Gives the calling thread SCHED_FIFO at `priority` (1 to 99); threads and processes that it starts do not inherit it.
///
/// # Errors
/// EPERM without CAP_SYS_NICE in the initial user namespace (or an RLIMIT_RTPRIO that allows it), EINVAL for a
/// priority out of range. The thread then runs on as before.
pub fn set_realtime(priority: i32) -> io::Result<()> {
    let param = libc::sched_param { sched_priority: priority };
    // SAFETY: `param` is a valid sched_param for the duration of the call; pid 0 is the calling thread.
    let rc = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const param)
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
