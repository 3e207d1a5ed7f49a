//! The largest allocation of a thread: a length field that is believed before it is checked shows
//! here, though the machine would have the memory.
#![allow(unsafe_code)] // A global allocator is an unsafe trait.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Meter;

#[global_allocator]
static METER: Meter = Meter;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

pub(crate) fn reset() {
    LARGEST.set(0);
}

pub(crate) fn largest() -> usize {
    LARGEST.get()
}

fn note(bytes: usize) {
    // A thread that ends has no cell any more and nobody who asks.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(bytes)));
}

// SAFETY: every call is handed to `System` with the same arguments.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller's contract is the same.
        unsafe { System.realloc(block, layout, size) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(block, layout) }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_largest_allocation_is_seen() {
        super::reset();
        drop(std::hint::black_box(Vec::<u8>::with_capacity(12_345)));
        drop(std::hint::black_box(Vec::<u8>::with_capacity(5)));
        assert_eq!(super::largest(), 12_345);
    }
}
