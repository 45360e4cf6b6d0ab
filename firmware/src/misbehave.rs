//! Behaviour that a test wants of this firmware, most of it bad; a firmware for boards does none of it.
//!
//! `OTARU_BEHAVIOUR` names it at build time, several with commas between them; `behaviours.txt` has the names.

#[cfg(any(behaviour = "block", behaviour = "tell_heap"))]
use embassy_executor::Spawner;

/// Right after the start, once a trial's boot has been counted.
pub(crate) fn at_start() {
    if cfg!(behaviour = "crash") {
        panic!("crashing on purpose");
    }
    if cfg!(behaviour = "hang") {
        hang();
    }
}

/// Lets nothing else run, for ever.
pub(crate) fn hang() -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// Starts a task that hangs a minute later; not after a start by the watchdog, so that a test sees one end.
#[cfg(behaviour = "block")]
pub(crate) fn later(spawner: Spawner, reason: otaru_device::ResetReason) {
    #[embassy_executor::task]
    async fn hang_later() {
        embassy_time::Timer::after(embassy_time::Duration::from_secs(60)).await;
        log::error!("hanging on purpose");
        hang()
    }
    if reason != otaru_device::ResetReason::Watchdog {
        crate::tasks::start(spawner, hang_later());
    }
}

/// Starts a task that tells how much of the heap is free, and the least since the start, whenever that has changed by a kilobyte.
#[cfg(behaviour = "tell_heap")]
pub(crate) fn tell_heap(spawner: Spawner) {
    #[embassy_executor::task]
    async fn tell() {
        let mut told = (0, 0);
        loop {
            let heap = esp_alloc::HEAP.stats();
            let left = |used| heap.size.saturating_sub(used);
            let now = (left(heap.current_usage), left(heap.max_usage));
            if usize::abs_diff(now.0, told.0) >= 1024 || now.1 != told.1 {
                log::info!("heap: {} bytes free, {} at the least", now.0, now.1);
                told = now;
            }
            embassy_time::Timer::after(embassy_time::Duration::from_millis(50)).await;
        }
    }
    crate::tasks::start(spawner, tell());
}

/// The console's lines, with a panic when one tells that an update has come far.
#[cfg(behaviour = "crash_in_update")]
pub(crate) fn watch_the_lines() {
    use core::fmt::Write as _;

    struct Lines;

    impl log::Log for Lines {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            esp_println::println!("{} - {}", record.level(), record.args());
            let mut line = heapless::String::<64>::new();
            let _ = write!(line, "{}", record.args());
            let percent = line.strip_prefix("update: OTA Progress: ").and_then(|rest| rest.strip_suffix('%'));
            if percent.and_then(|percent| percent.parse().ok()).is_some_and(|percent: u8| percent >= 40) {
                panic!("crashing on purpose, in an update");
            }
        }

        fn flush(&self) {}
    }

    static LINES: Lines = Lines;
    // SAFETY: Called once, before any other task or interrupt that could log: chips without atomics have no other way.
    unsafe {
        let _ = log::set_logger_racy(&LINES);
        log::set_max_level_racy(log::LevelFilter::Info);
    }
}
