//! The field of GHASH, and the roots of a polynomial over it: what an attacker brings along. It
//! holds no key and is in no product.

/// An element of GF(2^128); the first bit of a block is its coefficient of x^0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Gf(u128);

impl Gf {
    pub(crate) const ZERO: Self = Self(0);
    const ONE: Self = Self(1 << 127);

    /// A block, or the beginning of one.
    pub(crate) fn block(bytes: &[u8]) -> Self {
        let mut block = [0; 16];
        block[..bytes.len()].copy_from_slice(bytes);
        Self(u128::from_be_bytes(block))
    }

    pub(crate) fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    pub(crate) fn add(self, other: Self) -> Self {
        Self(self.0 ^ other.0)
    }

    pub(crate) fn times(self, other: Self) -> Self {
        let (mut product, mut shifted) = (0, other.0);
        for bit in (0..128).rev() {
            if self.0 >> bit & 1 == 1 {
                product ^= shifted;
            }
            // x^128 = x^7 + x^2 + x + 1.
            shifted = (shifted >> 1) ^ ((shifted & 1) * (0xe1 << 120));
        }
        Self(product)
    }

    pub(crate) fn power(self, exponent: u128) -> Self {
        (0..128 - exponent.leading_zeros()).rev().fold(Self::ONE, |power, bit| {
            let square = power.times(power);
            if exponent >> bit & 1 == 1 { square.times(self) } else { square }
        })
    }

    /// The group has 2^128 - 1 elements.
    fn inverse(self) -> Self {
        self.power(u128::MAX - 1)
    }
}

/// Coefficients, that of x^0 first; the last one is not zero.
#[derive(Clone, Debug)]
pub(crate) struct Poly(Vec<Gf>);

impl Poly {
    pub(crate) fn new(mut coefficients: Vec<Gf>) -> Self {
        while coefficients.last() == Some(&Gf::ZERO) {
            coefficients.pop();
        }
        Self(coefficients)
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&self, other: &Self) -> Self {
        let at = |poly: &Self, i: usize| poly.0.get(i).copied().unwrap_or(Gf::ZERO);
        let length = self.0.len().max(other.0.len());
        Self::new((0..length).map(|i| at(self, i).add(at(other, i))).collect())
    }

    /// With a leading one.
    fn monic(self) -> Self {
        let Some(last) = self.0.last() else { return self };
        let inverse = last.inverse();
        Self(self.0.iter().map(|c| c.times(inverse)).collect())
    }

    /// Quotient and remainder by one with a leading one.
    fn divided(&self, by: &Self) -> (Self, Self) {
        let (mut rest, mut quotient) = (self.0.clone(), Vec::new());
        while rest.len() >= by.0.len() {
            let factor = rest.pop().expect("not shorter than the divisor");
            quotient.push(factor);
            let start = rest.len() + 1 - by.0.len();
            for (slot, coefficient) in rest[start..].iter_mut().zip(&by.0) {
                *slot = slot.add(coefficient.times(factor));
            }
        }
        quotient.reverse();
        (Self::new(quotient), Self::new(rest))
    }

    fn gcd(self, other: Self) -> Self {
        let (mut one, mut two) = (self.monic(), other.monic());
        while !two.is_zero() {
            (one, two) = (two.clone(), one.divided(&two).1.monic());
        }
        one
    }

    /// In characteristic 2 a square has the squares of the coefficients, and nothing between.
    fn squared(&self, modulo: &Self) -> Self {
        let pairs = self.0.iter().flat_map(|c| [c.times(*c), Gf::ZERO]);
        Self::new(pairs.collect()).divided(modulo).1
    }

    /// Every root in the field, each once. Zero is refused: everything is its root.
    pub(crate) fn roots(self) -> Vec<Gf> {
        assert!(!self.is_zero(), "zero has every root");
        let modulo = self.monic();
        let x = Self(vec![Gf::ZERO, Gf::ONE]);
        // Each element of the field is a root of x^(2^128) + x, once.
        let frobenius = (0..128).fold(x.clone(), |power, _| power.squared(&modulo));
        let mut roots = Vec::new();
        modulo.gcd(frobenius.add(&x)).split(0, &mut roots);
        roots
    }

    /// Of a product of different linear factors. Those whose root times x^bit has trace 0 part
    /// from the others; for two roots some bit tells them apart.
    fn split(self, bit: u32, roots: &mut Vec<Gf>) {
        match self.0[..] {
            [] | [_] => return,
            [root, _] => return roots.push(root),
            _ => {}
        }
        let start = Self(vec![Gf::ZERO, Gf(1 << bit)]);
        let (mut power, mut trace) = (start.clone(), start);
        for _ in 1..128 {
            power = power.squared(&self);
            trace = trace.add(&power);
        }
        let one = self.clone().gcd(trace);
        let other = self.divided(&one).0;
        for part in [one, other] {
            part.split(bit + 1, roots);
        }
    }
}

#[test]
fn the_field_and_the_roots_are_what_they_should_be() {
    // GCM's second test case: H, the block of ciphertext, its GHASH.
    let of = |hex: &str| Gf::block(&hex::decode(hex).expect("hexadecimal"));
    let h = of("66e94bd4ef8a2c3b884cfa59ca342b2e");
    let ciphertext = of("0388dace60b6a392f328c2b971b2fe78");
    let length = of("00000000000000000000000000000080");
    let hash = ciphertext.times(h).add(length).times(h);
    assert_eq!(hash, of("f38cbb1ad69223dcc3457ae5b6b0f885"));
    assert_eq!(h.times(h.inverse()), Gf::ONE);

    // (x + a)(x + b)(x + c)(x + c): each root once.
    let wanted = [h, ciphertext, length];
    let product = [h, ciphertext, length, length].iter().fold(vec![Gf::ONE], |product, root| {
        let mut next = vec![Gf::ZERO; product.len() + 1];
        for (i, c) in product.iter().enumerate() {
            next[i] = next[i].add(c.times(*root));
            next[i + 1] = next[i + 1].add(*c);
        }
        next
    });
    let roots = Poly::new(product).roots();
    assert_eq!(roots.len(), wanted.len());
    assert!(wanted.iter().all(|root| roots.contains(root)), "{roots:?}");
}
