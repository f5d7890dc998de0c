//! How the program is linked.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Thousands of addresses are set right at each start, from a list of a megabyte; packed it is some kilobytes. A linker that
    // can't pack it says so and goes on.
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}
