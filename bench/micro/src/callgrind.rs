//! Tells callgrind where to begin and to end, so that building a load is not counted and, above all, runs several times
//! faster than what is. Without valgrind around it this does nothing. For x86-64; elsewhere nothing is ever counted.

/// `VG_USERREQ__START_INSTRUMENTATION` and its opposite, of `callgrind.h`.
const START: u64 = 0x4354_0004;
const STOP: u64 = 0x4354_0005;

pub fn start() {
    request(START);
}

pub fn stop() {
    request(STOP);
}

/// A client request as `valgrind.h` has it: rotations by 128 bits in all, which valgrind takes for a call.
#[cfg(target_arch = "x86_64")]
fn request(code: u64) {
    let arguments = [code, 0, 0, 0, 0, 0];
    // SAFETY: rdi and rbx are as before afterwards. Valgrind reads the arguments and writes rdx.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") arguments.as_ptr(),
            inout("rdx") 0_u64 => _,
            options(nostack),
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn request(_: u64) {}
