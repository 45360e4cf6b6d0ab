//! esp-hal's linker script.

fn main() {
    println!("cargo::rustc-link-arg-bins=-Tlinkall.x");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "xtensa") {
        println!("cargo::rustc-link-arg-bins=-nostartfiles");
    }
}
