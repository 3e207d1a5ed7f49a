//! The allocator of processes that handle keys: every block is overwritten before it is freed.
//!
//! `explicit_bzero`, because a plain fill before `free` is optimised away. There is no `realloc`
//! of its own: the default allocates, copies and frees, so that the old block is wiped too.
#![allow(unsafe_code)] // A global allocator is an unsafe trait.

use std::alloc::{GlobalAlloc, Layout, System};

/// Wipes on free; declared by the binary as its `#[global_allocator]`.
pub struct WipingAllocator;

// SAFETY: every call is handed to `System` with the same layout; the block is wiped only within
// its own size and before it is given back.
unsafe impl GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` is live, has `layout.size()` bytes, and came from `System`.
        unsafe {
            libc::explicit_bzero(block.cast(), layout.size());
            System.dealloc(block, layout);
        }
    }
}
