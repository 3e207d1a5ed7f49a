//! Standard output that may go away: `keystead … | head` ends quietly, as other tools do.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write as _};

/// Prints a line; ends the program when nobody reads any more.
pub(crate) fn line(text: Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_fmt(text).and_then(|()| out.write_all(b"\n")) {
        // The reader has what it wanted.
        let gone = error.kind() == ErrorKind::BrokenPipe;
        std::process::exit(if gone { 0 } else { 1 });
    }
}

/// `println!` over [`line`].
macro_rules! say {
    ($($text:tt)*) => { $crate::out::line(format_args!($($text)*)) };
}
pub(crate) use say;
