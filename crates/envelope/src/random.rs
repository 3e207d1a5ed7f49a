//! Random bytes, from getrandom(2) and nowhere else.

/// The kernel gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("getrandom failed")]
pub struct RandomError(#[source] std::io::Error);

/// Fills a buffer with random bytes.
#[allow(unsafe_code)] // getrandom(2) has no safe wrapper among this crate's dependencies.
pub fn fill(buf: &mut [u8]) -> Result<(), RandomError> {
    let mut done = 0;
    while done < buf.len() {
        let rest = &mut buf[done..];
        // SAFETY: the pointer and length describe `rest`, which is writable and outlives the call.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        if got > 0 {
            done += got as usize;
        } else {
            let error = std::io::Error::last_os_error();
            if error.kind() != std::io::ErrorKind::Interrupted {
                return Err(RandomError(error));
            }
        }
    }
    Ok(())
}

/// An array of random bytes.
pub fn array<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut out = [0; N];
    fill(&mut out)?;
    Ok(out)
}
