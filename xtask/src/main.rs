//! Plain cargo tasks.
fn main() {}
