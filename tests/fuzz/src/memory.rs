//! How much memory a call takes: what an attacker could multiply.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    static IN_USE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counting bytes of each thread.
pub struct Counted;

fn add(bytes: isize) {
    // A thread that is ending counts no more.
    let _ = IN_USE.try_with(|in_use| {
        in_use.set(in_use.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(in_use.get())));
    });
}

// SAFETY: the system's allocator does everything; what is added touches no memory but two numbers.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        add(-(layout.size() as isize));
        unsafe { System.dealloc(at, layout) }
    }
}

/// Calls, and panics when that took more than `limit` bytes at any time.
pub fn within<T>(limit: usize, call: impl FnOnce() -> T) -> T {
    let before = IN_USE.get();
    PEAK.set(before);
    let result = call();
    let took = PEAK.get() - before;
    assert!(took <= limit as isize, "took {took} bytes; {limit} are allowed");
    result
}
