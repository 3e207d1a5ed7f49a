//! The LUKS2 header before the stock tool; committed vectors; what a second header gives away.

mod gf128;
mod two_headers;
mod vectors;

use keystead_envelope::luks2::{Holes, Token, format, payload_offset};
use keystead_envelope::memory::DataKey;
use keystead_envelope::xts::XtsKey;
use keystead_types::{ClusterId, EncryptionContext, VolumeId};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn cryptsetup(args: &[&str], image: &Path) -> Output {
    let tool =
        ["/usr/sbin/cryptsetup", "/sbin/cryptsetup"].into_iter().find(|p| Path::new(p).exists());
    let tool = tool.expect("cryptsetup is missing: cargo xtask test installs cryptsetup-bin");
    Command::new(tool).args(args).arg(image).output().expect("cryptsetup runs")
}

#[test]
fn stock_cryptsetup_reads_opens_and_dumps_what_we_format() {
    let dir = tempfile::tempdir().expect("a folder");
    let passphrase = DataKey::random(64).expect("key memory");
    let mut key_bytes: Vec<u8> = (0..64u8).map(|i| i.wrapping_mul(7) ^ 0x35).collect();
    let plain = hex::encode(&key_bytes);
    let key =
        XtsKey::new(DataKey::from_slice_zeroizing(&mut key_bytes).expect("fits")).expect("a key");
    let volume: VolumeId = "vol-01900000-0000-7000-8000-000000000001".parse().expect("an id");
    let cluster: ClusterId = "cl-01900000-0000-7000-8000-000000000002".parse().expect("an id");
    let token = Token {
        key_arn: "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
            .parse()
            .expect("an ARN"),
        wrapped_key: "AQIDBA==".to_owned(),
        encryption_context: EncryptionContext::volume(&cluster, &volume),
        volume_id: volume,
        created_ms: 0,
        holes: Holes::Zero,
    };
    let uuid = "01900000-0000-4000-8000-000000000003";
    let (header, _) = format(&key, &passphrase, &token, uuid).expect("it formats");
    let image = dir.path().join("image");
    fs::write(&image, &header).expect("written");
    fs::File::options()
        .write(true)
        .open(&image)
        .and_then(|f| f.set_len(payload_offset() + (1 << 20)))
        .expect("long enough");
    let key_file = dir.path().join("passphrase");
    fs::write(&key_file, passphrase.expose()).expect("written");
    let key_file = key_file.to_str().expect("a path").to_owned();

    let dump = cryptsetup(&["luksDump"], &image);
    let text = String::from_utf8_lossy(&dump.stdout).to_string();
    assert!(dump.status.success(), "{dump:?}");
    for want in [uuid, "aes-xts-plain64", "sector: 4096 [bytes]", "keystead", "offset: 16777216"] {
        assert!(text.contains(want), "{want} is missing in\n{text}");
    }
    let open = cryptsetup(&["open", "--test-passphrase", "--key-file", &key_file], &image);
    assert!(open.status.success(), "{open:?}");
    let shown = cryptsetup(
        &["luksDump", "--dump-volume-key", "--batch-mode", "--key-file", &key_file],
        &image,
    );
    let shown: String = String::from_utf8_lossy(&shown.stdout)
        .split("MK dump:")
        .nth(1)
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(shown, plain);
    fs::write(&key_file, [0u8; 64]).expect("written");
    let wrong = cryptsetup(&["open", "--test-passphrase", "--key-file", &key_file], &image);
    assert_eq!(wrong.status.code(), Some(2), "a wrong passphrase is refused: {wrong:?}");
}
