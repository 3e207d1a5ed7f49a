//! The round keys that an AES-256 key expands to (FIPS 197, section 5.2): what an implementation
//! holds beside the key itself.

const ROUNDS: usize = 14;

/// GF(2^8) multiplication by x.
fn twice(b: u8) -> u8 {
    (b << 1) ^ (if b & 0x80 == 0 { 0 } else { 0x1b })
}

fn times(mut a: u8, mut b: u8) -> u8 {
    let mut sum = 0;
    while b != 0 {
        if b & 1 != 0 {
            sum ^= a;
        }
        a = twice(a);
        b >>= 1;
    }
    sum
}

/// The S-box, computed: the inverse in GF(2^8), then the affine map.
fn substitute(b: u8) -> u8 {
    let inverse = (0..=255u8).find(|x| times(*x, b) == 1).unwrap_or(0);
    let rotated = |n| inverse.rotate_left(n);
    inverse ^ rotated(1) ^ rotated(2) ^ rotated(3) ^ rotated(4) ^ 0x63
}

/// The round keys for encryption, 16 bytes each.
pub(super) fn expand(key: &[u8; 32]) -> Vec<[u8; 16]> {
    let mut words: Vec<[u8; 4]> =
        key.chunks_exact(4).map(|w| w.try_into().expect("four bytes")).collect();
    let mut constant = 1;
    for i in 8..4 * (ROUNDS + 1) {
        let mut word = words[i - 1];
        if i % 8 == 0 {
            word.rotate_left(1);
            word = word.map(substitute);
            word[0] ^= constant;
            constant = twice(constant);
        } else if i % 8 == 4 {
            word = word.map(substitute);
        }
        let back = words[i - 8];
        words.push(std::array::from_fn(|n| word[n] ^ back[n]));
    }
    words.chunks_exact(4).map(|four| four.concat().try_into().expect("sixteen bytes")).collect()
}

/// The round keys for decryption by the equivalent inverse cipher: InvMixColumns of all but the
/// first and the last.
pub(super) fn invert(round_keys: &[[u8; 16]]) -> Vec<[u8; 16]> {
    let inner = &round_keys[1..round_keys.len() - 1];
    inner
        .iter()
        .map(|key| {
            let mut out = [0; 16];
            for (column, mixed) in key.chunks_exact(4).zip(out.chunks_exact_mut(4)) {
                for (row, byte) in mixed.iter_mut().enumerate() {
                    let at = |n: usize| column[(row + n) % 4];
                    *byte =
                        times(at(0), 14) ^ times(at(1), 11) ^ times(at(2), 13) ^ times(at(3), 9);
                }
            }
            out
        })
        .collect()
}

#[test]
fn the_schedule_is_that_of_fips_197() {
    let key: [u8; 32] = std::array::from_fn(|i| {
        u8::from_str_radix(
            &"603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"[2 * i..2 * i + 2],
            16,
        )
        .expect("hexadecimal")
    });
    let last = expand(&key)[14];
    // Appendix A.3: the words w56 to w59.
    let wanted = [0xfe48_90d1_u32, 0xe618_8d0b, 0x046d_f344, 0x706c_631e];
    assert_eq!(last.to_vec(), wanted.map(u32::to_be_bytes).concat());
}
