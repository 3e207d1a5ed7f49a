//! Fuzz targets: each takes any bytes and panics when an invariant breaks. `cargo test` runs them
//! on `fuzz/corpus/` and mutations of it, cargo-fuzz (which sets `cfg(fuzzing)`) from `fuzz/`.

mod chunked;
mod json;
mod policy;
mod query;
mod s3;
mod sigv4;

pub use chunked::chunked;
pub use json::json;
pub use policy::policy;
pub use query::query;
pub use s3::s3;
pub use sigv4::sigv4;

#[cfg(test)]
mod tests {
    use keystead_fuzzing::run;

    #[test]
    fn fuzz_sigv4() {
        run("sigv4", super::sigv4);
    }

    #[test]
    fn fuzz_s3() {
        run("s3", super::s3);
    }

    #[test]
    fn fuzz_chunked() {
        run("chunked", super::chunked);
    }

    #[test]
    fn fuzz_json() {
        run("json", super::json);
    }

    #[test]
    fn fuzz_query() {
        run("query", super::query);
    }

    #[test]
    fn fuzz_policy() {
        run("policy", super::policy);
    }
}
