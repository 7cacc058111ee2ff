//! How the kernel programs are linked.

fn main() {
    // Copies and zeros of known size become loads and stores of words. Else LLVM's BPF part keeps each as a call of a loop
    // over bytes, of which every step is paid at run time and looked at by the verifier.
    println!("cargo::rustc-link-arg-bins=--disable-expand-memcpy-in-order");
    println!("cargo::rerun-if-changed=build.rs");
}
