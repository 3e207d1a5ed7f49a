//! The trail.
/// `yyyy-mm-ddThh:mm:ssZ` of a moment.
pub fn iso_seconds(ms: i64) -> String {
    match jiff::Timestamp::from_second(ms.div_euclid(1000)) {
        Ok(t) => t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => "1970-01-01T00:00:00Z".to_owned(),
    }
}
/// What a signed head is signed over.
pub fn head_input(sequence: u64, chain: &[u8; 32]) -> Vec<u8> {
    format!("keystead trail head v1\n{sequence}\n{}\n", hex::encode(chain)).into_bytes()
}
