//! Fuzz targets: each takes any bytes and panics when an invariant breaks. `cargo test` runs them
//! on `fuzz/corpus/` and mutations of it, cargo-fuzz (which sets `cfg(fuzzing)`) from `fuzz/`.

mod blob;
mod luks2;

pub use blob::blob;
pub use luks2::luks2;

/// Changes bytes as a script of four-byte steps says: place (u16), what (even: add the last byte,
/// odd: cut there), and that byte.
fn edit(bytes: &mut Vec<u8>, script: &[u8]) {
    for step in script.chunks_exact(4) {
        let at = usize::from(u16::from_be_bytes([step[0], step[1]])) % bytes.len().max(1);
        match bytes.get_mut(at) {
            Some(byte) if step[2] % 2 == 0 => *byte = byte.wrapping_add(step[3]),
            _ => bytes.truncate(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use keystead_fuzzing::run;

    #[test]
    fn fuzz_blob() {
        run("blob", super::blob);
    }

    #[test]
    fn fuzz_luks2() {
        run("luks2", super::luks2);
    }
}
