//! The eyes and the hand: kernel programs that follow process trees and give verdicts.
//!
//! A hook gathers, `subject` says who acts, `rules` looks up, `enforce` decides and refuses, `emit` tells.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "keys and values go to helpers by address: a move would copy them on a stack of 512 bytes"
)]

mod emit;
mod enforce;
mod hooks;
mod kernel;
mod maps;
mod path;
mod rules;
mod subject;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program that could get here.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
