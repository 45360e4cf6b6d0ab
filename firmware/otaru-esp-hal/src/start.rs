//! The start of a firmware: the executor, on a clean thread pointer.
//!
//! esp-rtos keeps the running task in the CPU's thread pointer, and its executor takes what it finds there for the main
//! task. A reset need not clear that register, and a start that follows an update or a roll back finds in it what the
//! *other* image left: an address that means something else here. The executor then wakes a task that is none.

use embassy_executor::Spawner;
use esp_rtos::embassy::Executor;
use static_cell::StaticCell;

use crate::memory;

/// The program's entry: `main!(firmware);` runs the `#[embassy_executor::task]` `async fn firmware(spawner: Spawner)`. It
/// stands in place of `#[esp_rtos::main]`.
#[macro_export]
macro_rules! main {
    ($task:path) => {
        #[esp_hal::main]
        fn main() -> ! {
            $crate::run(|spawner| match $task(spawner) {
                Ok(first) => spawner.spawn(first),
                Err(_) => panic!("the first task does not start"),
            })
        }
    };
}

/// Runs tasks for ever; `start` spawns the first. [`main!`](crate::main) is the short way here.
///
/// # Panics
///
/// If it is called twice.
pub fn run(start: impl FnOnce(Spawner)) -> ! {
    static EXECUTOR: StaticCell<Executor> = StaticCell::new();
    forget_task();
    memory::paint_stack();
    EXECUTOR.init_with(Executor::new).run(start)
}

/// Clears the thread pointer: no task runs yet.
fn forget_task() {
    // SAFETY: Before esp-rtos is started nothing reads this register but the executor's constructor, to which 0 means
    // that there is no task yet (`ThreadFlag::new` in esp-rtos 0.4).
    #[cfg(target_arch = "riscv32")]
    unsafe {
        core::arch::asm!("mv tp, zero", options(nomem, nostack))
    }
    // SAFETY: As above.
    #[cfg(target_arch = "xtensa")]
    unsafe {
        core::arch::asm!("wur.threadptr {0}", in(reg) 0, options(nomem, nostack))
    }
}
