//! One public key out of a key set (RFC 7517), or the reason why it is not used.

use super::algorithm::Algorithm;
use super::compact::decode;
use super::json::{Kind, Value};

/// A public key in the form that `ring` checks with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Material {
    /// Modulus and exponent, big-endian without leading zeros.
    Rsa { n: Box<[u8]>, e: Box<[u8]> },
    /// An uncompressed point, 65 bytes.
    P256(Box<[u8]>),
    /// An uncompressed point, 97 bytes.
    P384(Box<[u8]>),
    /// The encoded point.
    Ed25519([u8; 32]),
}

/// A key that may be used, with what its JWK says about the use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) kid: Option<Box<str>>,
    pub(super) material: Material,
    /// The JWK's `alg`; a token's must then be equal.
    pub(super) algorithm: Option<Algorithm>,
    /// `use` is `jwt-svid`: good for JWT-SVIDs only (SPIFFE bundle format).
    pub(super) svid: bool,
}

/// Why a key of a set is not used. The rest of the set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SkipReason {
    /// Not an object, a member of a wrong type, or one name twice.
    Shape,
    /// A key type or curve that is not supported, `oct` among them.
    Unsupported,
    /// `use`, `key_ops` or `alg` say that it is not for signatures.
    OtherUse,
    /// Base64url, lengths or values that no such key has.
    Value,
    /// RSA with a modulus outside 2048..=8192 bits or a bad exponent.
    RsaBounds,
    /// RSA from a generator whose primes can be computed (CVE-2017-15361).
    WeakRsa,
    /// It holds private members; a published private key proves nothing.
    Private,
    /// Another key of the set has the same `kid`; neither is used.
    SameKid,
}

/// Smallest RSA exponent; RFC 8017 asks for an odd one of at least 3, nearly all use 65537.
const RSA_EXPONENT_MIN: u64 = 3;
/// What `ring` can use.
const RSA_EXPONENT_MAX: u64 = (1 << 33) - 1;
const RSA_BITS_MIN: usize = 2048;
const RSA_BITS_MAX: usize = 8192;
/// A longer `kid` is no name.
pub(super) const KID_LEN_MAX: usize = 256;

/// Reads one member of `keys`.
pub(super) fn read(jwk: Value<'_>) -> Result<Key, SkipReason> {
    if !jwk.is_object() || jwk.has_duplicates() {
        return Err(SkipReason::Shape);
    }
    if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|name| jwk.member(name).is_some()) {
        let symmetric = text(jwk, "kty")?.as_deref() == Some("oct");
        return Err(if symmetric { SkipReason::Unsupported } else { SkipReason::Private });
    }
    let svid = match text(jwk, "use")?.as_deref() {
        None | Some("sig") => false,
        Some("jwt-svid") => true,
        Some(_) => return Err(SkipReason::OtherUse),
    };
    if let Some(operations) = jwk.member("key_ops") {
        if operations.kind() != Kind::Array {
            return Err(SkipReason::Shape);
        }
        if !operations.items().any(|item| item.text().as_deref() == Some("verify")) {
            return Err(SkipReason::OtherUse);
        }
    }
    let material = material(jwk)?;
    let algorithm = match text(jwk, "alg")? {
        None => None,
        Some(name) => Some(Algorithm::parse(&name).ok_or(SkipReason::OtherUse)?),
    };
    if algorithm.is_some_and(|algorithm| !algorithm.agrees_with(&material)) {
        return Err(SkipReason::Value);
    }
    let kid = text(jwk, "kid")?;
    if kid.as_ref().is_some_and(|kid| kid.len() > KID_LEN_MAX) {
        return Err(SkipReason::Value);
    }
    Ok(Key { kid: kid.map(String::into_boxed_str), material, algorithm, svid })
}

fn material(jwk: Value<'_>) -> Result<Material, SkipReason> {
    let curve = text(jwk, "crv")?;
    match (text(jwk, "kty")?.as_deref(), curve.as_deref()) {
        (Some("RSA"), _) => rsa(&bytes(jwk, "n")?, &bytes(jwk, "e")?),
        (Some("EC"), Some("P-256")) => Ok(Material::P256(point(jwk, 32)?)),
        (Some("EC"), Some("P-384")) => Ok(Material::P384(point(jwk, 48)?)),
        (Some("OKP"), Some("Ed25519")) => {
            let key: [u8; 32] = bytes(jwk, "x")?.try_into().map_err(|_| SkipReason::Value)?;
            if is_small_order(&key) { Err(SkipReason::Value) } else { Ok(Material::Ed25519(key)) }
        }
        (None, _) => Err(SkipReason::Shape),
        _ => Err(SkipReason::Unsupported),
    }
}

fn text(jwk: Value<'_>, name: &str) -> Result<Option<String>, SkipReason> {
    match jwk.member(name) {
        None => Ok(None),
        Some(value) => value.text().map(|text| Some(text.into_owned())).ok_or(SkipReason::Shape),
    }
}

fn bytes(jwk: Value<'_>, name: &str) -> Result<Vec<u8>, SkipReason> {
    let text = text(jwk, name)?.ok_or(SkipReason::Shape)?;
    decode(text.as_bytes()).ok_or(SkipReason::Value)
}

fn point(jwk: Value<'_>, len: usize) -> Result<Box<[u8]>, SkipReason> {
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    if x.len() != len || y.len() != len {
        return Err(SkipReason::Value);
    }
    Ok([&[4u8][..], &x, &y].concat().into_boxed_slice())
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

fn rsa(n: &[u8], e: &[u8]) -> Result<Material, SkipReason> {
    let (n, e) = (without_zeros(n), without_zeros(e));
    let bits =
        (n.len() * 8).saturating_sub(n.first().map_or(0, |first| first.leading_zeros() as usize));
    let odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
    if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) || !odd(n) || !odd(e) || e.len() > 8 {
        return Err(SkipReason::RsaBounds);
    }
    let exponent = e.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    if !(RSA_EXPONENT_MIN..=RSA_EXPONENT_MAX).contains(&exponent) {
        return Err(SkipReason::RsaBounds);
    }
    if has_roca_fingerprint(n) {
        return Err(SkipReason::WeakRsa);
    }
    Ok(Material::Rsa { n: n.into(), e: e.into() })
}

/// Whether `n` is a power of 65537 modulo every small prime, as the moduli of one broken library
/// are. A sound modulus is one by chance in fewer than one of 10^7 cases.
fn has_roca_fingerprint(n: &[u8]) -> bool {
    const PRIMES: [u32; 38] = [
        3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89,
        97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
    ];
    PRIMES.iter().all(|prime| {
        let rest = n.iter().fold(0u32, |rest, byte| (rest << 8 | u32::from(*byte)) % prime);
        let mut power = 1u32;
        (0..*prime).any(|_| {
            power = power * (65537 % prime) % prime;
            power == rest
        })
    })
}

/// Whether the point has order 1, 2, 4 or 8, in any encoding: under such a key one signature is
/// good for many messages. The sign bit is left aside.
fn is_small_order(key: &[u8; 32]) -> bool {
    /// y coordinates, little-endian: 0, 1, the two of order 8, and p-1, p, p+1.
    const SMALL: [[u8; 32]; 7] = [
        [0; 32],
        first(1),
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef,
            0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88,
            0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10,
            0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77,
            0x92, 0xac, 0x03, 0x7a,
        ],
        near_p(0xec),
        near_p(0xed),
        near_p(0xee),
    ];
    let mut y = *key;
    if let Some(last) = y.last_mut() {
        *last &= 0x7f;
    }
    SMALL.contains(&y)
}

const fn first(byte: u8) -> [u8; 32] {
    let (mut bytes, [low, ..]) = ([0; 32], [byte]);
    bytes[0] = low;
    bytes
}

/// The number that differs from 2^255 - 19 in its lowest byte only.
const fn near_p(low: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    bytes[0] = low;
    bytes[31] = 0x7f;
    bytes
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::identity::compact::encode;
    use crate::identity::json::{Doc, Duplicates};

    fn skip(text: &str) -> Option<SkipReason> {
        let doc = Doc::parse(text.as_bytes(), 6, Duplicates::Keep).unwrap();
        read(doc.root()).err()
    }

    fn rsa_jwk(n: &[u8], e: &[u8]) -> String {
        format!(r#"{{"kty":"RSA","n":"{}","e":"{}"}}"#, encode(n), encode(e))
    }

    #[test]
    fn rsa_bounds_hold() {
        let modulus = |len: usize, top: u8| {
            let mut n = vec![0x5b; len];
            *n.first_mut().unwrap() = top;
            n
        };
        let e = [1, 0, 1];
        assert_eq!(skip(&rsa_jwk(&modulus(256, 0x80), &e)), None);
        assert_eq!(skip(&rsa_jwk(&modulus(1024, 0xff), &e)), None);
        assert_eq!(skip(&rsa_jwk(&[&[0u8][..], &modulus(256, 0x80)].concat(), &e)), None);
        assert_eq!(skip(&rsa_jwk(&modulus(256, 0x7f), &e)), Some(SkipReason::RsaBounds));
        assert_eq!(skip(&rsa_jwk(&modulus(128, 0xff), &e)), Some(SkipReason::RsaBounds));
        assert_eq!(skip(&rsa_jwk(&modulus(1025, 0x01), &e)), Some(SkipReason::RsaBounds));
        for e in [&[][..], &[0], &[1], &[2], &[1, 0, 0], &[1; 9]] {
            assert_eq!(skip(&rsa_jwk(&modulus(256, 0x80), e)), Some(SkipReason::RsaBounds));
        }
        assert_eq!(skip(&rsa_jwk(&modulus(256, 0x80), &[3])), None);
    }

    #[test]
    fn a_modulus_of_the_broken_generator_is_found() {
        // 65537^k has the fingerprint by construction; k = 130 gives about 2080 bits.
        let mut n: Vec<u8> = vec![1];
        for _ in 0..130 {
            // times 2^16 + 1, little-endian
            let mut sum: Vec<u8> = Vec::new();
            let mut carry = 0u16;
            for place in 0..n.len() + 2 {
                let low = u16::from(n.get(place).copied().unwrap_or(0));
                let high = if place < 2 { 0 } else { u16::from(*n.get(place - 2).unwrap()) };
                let total = low + high + carry;
                sum.push((total & 0xff) as u8);
                carry = total >> 8;
            }
            if carry > 0 {
                sum.push(carry as u8);
            }
            n = sum;
        }
        n.reverse();
        assert_eq!(skip(&rsa_jwk(&n, &[1, 0, 1])), Some(SkipReason::WeakRsa));
    }

    #[test]
    fn keys_that_are_not_for_this_are_skipped_with_the_reason() {
        let x = encode(&[7; 32]);
        let cases = [
            (r#"{}"#.to_owned(), SkipReason::Shape),
            (r#"{"kty":1}"#.to_owned(), SkipReason::Shape),
            (r#"{"kty":"oct","k":"c2VjcmV0"}"#.to_owned(), SkipReason::Unsupported),
            (r#"{"kty":"EC","crv":"P-521","x":"","y":""}"#.to_owned(), SkipReason::Unsupported),
            (r#"{"kty":"EC","crv":"secp256k1"}"#.to_owned(), SkipReason::Unsupported),
            (format!(r#"{{"kty":"OKP","crv":"X25519","x":"{x}"}}"#), SkipReason::Unsupported),
            (format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}=="}}"#), SkipReason::Value),
            (format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}AA"}}"#), SkipReason::Value),
            (
                format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}","d":"{x}"}}"#),
                SkipReason::Private,
            ),
            (
                format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}","use":"enc"}}"#),
                SkipReason::OtherUse,
            ),
            (
                format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}","key_ops":["sign"]}}"#),
                SkipReason::OtherUse,
            ),
            (
                format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}","alg":"RSA-OAEP"}}"#),
                SkipReason::OtherUse,
            ),
            (
                format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}","alg":"RS256"}}"#),
                SkipReason::Value,
            ),
            (format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}","x":"{x}"}}"#), SkipReason::Shape),
            (format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"AAAA"}}"#), SkipReason::Value),
        ];
        for (text, reason) in cases {
            assert_eq!(skip(&text), Some(reason), "{text}");
        }
        let good = format!(
            r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}","alg":"Ed25519","key_ops":["verify"],"use":"sig"}}"#
        );
        assert_eq!(skip(&good), None);
    }

    #[test]
    fn a_point_of_small_order_is_no_key() {
        let mut one = [0u8; 32];
        *one.first_mut().unwrap() = 1;
        let mut signed = one;
        *signed.last_mut().unwrap() = 0x80;
        for key in [[0u8; 32], one, signed, near_p(0xec), near_p(0xed), near_p(0xee)] {
            let text = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#, encode(&key));
            assert_eq!(skip(&text), Some(SkipReason::Value));
        }
    }
}
